"""Faults of a platform other than outages: how each is caused, and how `correct` repairs it."""

import random
from dataclasses import replace

from support.world import World

from winecontract.reasons import Reason
from winepipelines.api.errors import Refused
from winepipelines.api.modelrecord import ModelServer
from winepipelines.api.observed import KeyState, Rival, SecretState, ServerView, StoredModel
from winepipelines.pipelines.actions import ApplyDeployment

GOOD_IMAGES, WRONG_IMAGE = ("server:1", "server:2"), "server:typo"


def misconfigure(world: World, chance: random.Random) -> None:
    """Cause a fault that an administrator must correct."""
    match chance.randrange(9):
        case 0:
            world.source = SecretState("kubeflow", "source", chance.random() < 0.5, ("RCLONE_CONFIG_S3_ENDPOINT",))
        case 1:
            world.artifacts = SecretState("admin", "artifacts", exists=False)
        case 2:
            world.unmanaged_kinds = {chance.choice(("Secret", "PodDefault"))}
            world.refusal = chance.choice((None, Rival("all-pods", ("AWS_ACCESS_KEY_ID",))))
        case 3:
            world.foreign = True
        case 4:
            world.stored = StoredModel(
                "s3://mlflow", False, chance.choice(("BucketMissing", "ObjectStoreAccessDenied")), "not there"
            )
        case 5:
            world.down[ApplyDeployment] = Refused(Reason.DEPLOYMENT_REJECTED, "denied by a webhook")
        case 6:
            problem = chance.choice(("", "the Secret wine-model-key has no key 'current'"))
            world.key = KeyState(chance.choice(("admin", "kubeflow")), exists=bool(problem), problem=problem)
        case 7:
            world.server = ServerView("2.0", "release 2.0 is not supported", server=world.server.server)
        case _:
            install(world, WRONG_IMAGE, chance)


def install(world: World, image: str, chance: random.Random) -> None:
    """Install an operator with another server image."""
    world.server = ServerView("1.18.2", server=ModelServer(image=image), splits_traffic=chance.random() < 0.5)


def lose(world: World, chance: random.Random) -> None:
    """Delete the files of a model, or its MLflow run. Only another model repairs this."""
    known = [record.model for record in world.records.values() if record.model is not None]
    if known:
        model = chance.choice(known)
        world.lost_models |= {model.uri} if chance.random() < 0.5 else set()
        world.lost_examples |= {model.mlflow_run} if model.uri not in world.lost_models else set()


def forget_signatures(world: World) -> None:
    """Remove what earlier releases did not write, digests and registered models, from the status and the deployment."""
    status, bare = world.status, {"digest": "", "example_digest": "", "registered_model": ""}
    holders = {name: holder for name in ("candidate", "served", "previous") if (holder := getattr(status, name)) is not None}
    models = {name: holder.with_(model=holder.model.with_(**bare)) for name, holder in holders.items()}
    history = tuple(entry.with_(model=entry.model and entry.model.with_(**bare)) for entry in status.history)
    world.pipeline = world.pipeline.with_status(status.with_(**models, history=history))
    if world.applied is not None:
        model, canary = (
            item and item.with_(digest="", example_digest="") for item in (world.applied.model, world.applied.canary)
        )
        assert model is not None
        world.applied = replace(world.applied, model=model, canary=canary)


def correct(world: World) -> None:
    """Correct all faults of the platform. Deleted models stay deleted."""
    world.down.clear()
    world.pod_problem = ("", "")
    world.canaries.clear()
    world.wrong_answers = set()
    world.source = SecretState("kubeflow", "source", True)
    world.artifacts = SecretState("admin", "artifacts", True)
    world.refusal = None
    world.unmanaged_kinds, world.stored, world.key = set(), None, KeyState("admin", exists=True)
    for deployment in world.deployments.values():
        deployment.scaled_to_zero = False
        if deployment.foreign:
            deployment.foreign, deployment.applied, deployment.rolled_out = False, None, False
    image = world.server.server.image if world.server.server.image in GOOD_IMAGES else GOOD_IMAGES[1]
    world.server = ServerView("1.18.2", server=ModelServer(image=image), splits_traffic=world.server.splits_traffic)
