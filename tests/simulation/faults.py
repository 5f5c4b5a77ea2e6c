"""What may be wrong with a platform, beside systems that are away: each fault has a way in and a way out."""

import random
from dataclasses import replace

from support.world import World

from winepipelines.lifecycle.actions import ApplyDeployment
from winepipelines.resource.errors import Refused
from winepipelines.resource.observed import KeyState, SecretState, ServerView, StoredModel

GOOD_IMAGES, WRONG_IMAGE = ("server:1", "server:2"), "server:typo"


def misconfigure(world: World, chance: random.Random) -> None:
    """Something is wrong that an administrator corrects."""
    match chance.randrange(9):
        case 0:
            world.source = SecretState("kubeflow", "source", chance.random() < 0.5, ("RCLONE_CONFIG_S3_ENDPOINT",))
        case 1:
            world.artifacts = SecretState("admin", "artifacts", exists=False)
        case 2:
            world.foreign_kinds = {chance.choice(("Secret", "PodDefault"))}
        case 3:
            world.foreign = True
        case 4:
            world.stored = StoredModel("s3://mlflow", False, chance.choice(("BucketMissing", "StoreAccessDenied")), "not there")
        case 5:
            world.down[ApplyDeployment] = Refused("DeploymentRefused", "denied by a webhook")
        case 6:
            problem = chance.choice(("", "the Secret wine-model-key has no key 'current'"))
            world.key = KeyState(chance.choice(("admin", "kubeflow")), exists=bool(problem), problem=problem)
        case 7:
            world.server = ServerView("2.0", "nobody knows what 2.0 reads", world.server.image)
        case _:
            install(world, WRONG_IMAGE, chance)


def install(world: World, image: str, chance: random.Random) -> None:
    """Have the operator come with another server image."""
    world.server = ServerView("1.18.2", image=image, splits_traffic=chance.random() < 0.5)


def lose(world: World, chance: random.Random) -> None:
    """Someone deletes a model's files, or its MLflow run: nothing but another model helps."""
    known = [record.model for record in world.records.values() if record.model is not None]
    if known:
        model = chance.choice(known)
        world.lost_models |= {model.uri} if chance.random() < 0.5 else set()
        world.lost_examples |= {model.mlflow_run} if model.uri not in world.lost_models else set()


def forget_signatures(world: World) -> None:
    """Make the status one that was written before records were signed, and the deployment one of that time."""
    status, bare = world.status, {"digest": "", "example_digest": "", "registered_model": ""}
    models = {name: model.with_(**bare) for name in ("candidate", "served", "previous") if (model := getattr(status, name))}
    history = tuple(entry.with_(digest="", example_digest="") for entry in status.history)
    world.pipeline = world.pipeline.with_status(status.with_(**models, history=history))
    if world.applied is not None:
        model, trial = (
            item and replace(item, digest="", example_digest="") for item in (world.applied.model, world.applied.trial)
        )
        assert model is not None
        world.applied = replace(world.applied, model=model, trial=trial)


def correct(world: World) -> None:
    """Correct the platform, and nothing that is right. What is lost stays lost."""
    world.down.clear()
    world.trouble = ("", "")
    world.trials.clear()
    world.wrong_answers = set()
    world.source = SecretState("kubeflow", "source", True)
    world.artifacts = SecretState("admin", "artifacts", True)
    world.foreign_kinds, world.stored, world.key = set(), None, KeyState("admin", exists=True)
    if world.foreign:
        world.foreign, world.applied, world.rolled_out = False, None, False
    image = world.server.image if world.server.image in GOOD_IMAGES else GOOD_IMAGES[1]
    world.server = ServerView("1.18.2", image=image, splits_traffic=world.server.splits_traffic)
