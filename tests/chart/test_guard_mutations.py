"""What nobody has thought of: thousands of changes of what the operator applies, one in each, by Seldon's own schema."""

import json
import logging
import os
import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from support.guard import CRD, POLICY, Guarded
from support.guard_attacks import OWN
from support.mutations import Mutation, Mutations

Object = dict[str, Any]
log = logging.getLogger(__name__)
SEED = int(os.environ.get("SEED", "13"))  # the same mutations each time; another one chooses others
NUMBER, NUMBER_OF_CHANGES, THREADS = 2000, 400, 4

METADATA: Object = {
    "type": "object",
    "properties": {
        **{name: {"type": "object", "additionalProperties": {"type": "string"}} for name in ("labels", "annotations")},
        "finalizers": {"type": "array", "items": {"type": "string"}},
        "generateName": {"type": "string"},
        "ownerReferences": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["apiVersion", "kind", "name", "uid"],
                "properties": {
                    **{name: {"type": "string"} for name in ("apiVersion", "kind", "name", "uid")},
                    **{name: {"type": "boolean"} for name in ("controller", "blockOwnerDeletion")},
                },
            },
        },
    },
}
# What the allow list leaves to choose, and what it does not.
FREE: dict[str, tuple[object, ...]] = {
    r"\.metadata\.annotations\.winepipelines\.io/revision": ("one", "-1", ""),
    r".*annotations\.winepipelines\.io/(applied|template)": ("not hexadecimal", ""),
    r"\.metadata\.ownerReferences\[0\]\.uid": (),
    r"\.spec\.predictors\[\d\]\.(traffic|replicas)": (-1, 101),
    r".*\.progressDeadlineSeconds": (0, -1),
    r".*\.terminationGracePeriodSeconds": (-1, 601),
    r".*Probe\.(periodSeconds|failureThreshold|initialDelaySeconds)": (-1, 0),
    r".*\.hpaSpec\.minReplicas": (0, -1),
    r".*\.hpaSpec\.maxReplicas": (0, 101),
    r".*averageUtilization": (0, 101),
    r".*\.resources\.(limits|requests)\..*": (),
    r".*\.command\[1\]": ("1000", "-1", "x"),
    r".*\.image": ("evil", "evil:1", "", "s"),
    r".*\.modelUri": (
        "",
        "s3://b",
        "s3:b/c",
        "s3://b/../c",
        "s3://b/c d",
        "/mnt/x",
        "file:///etc",
        "http://x/y",
        "hf://x",
        "s3://b/c\n",
    ),
    r".*\.protocol": ("tensorflow", "kfserving", ""),
    r".*\.httpGet\.path": ("/", "/health/status/..", "/metrics"),
    r"\.spec\.predictors\[1\]\.name": ("wine-super-model", "other"),
    r"\.data\..*": (),
}
ALLOWED = (  # fields that a manifest need not have
    r"\.(apiVersion|kind|metadata\.(name|namespace)|metadata\.annotations|status.*)",
    r".*\.(terminationGracePeriodSeconds|replicas|progressDeadlineSeconds|initialDelaySeconds)",
    r".*\.resources\.(limits|requests)\.other",
    r".*\.graph\.children.*",  # no schema of its own: see ATTACKS
)

SCHEMA = json.loads(CRD.read_text())["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
MUTATIONS = Mutations(SCHEMA, FREE, {r"\.metadata": METADATA}, ALLOWED)


def _mutations() -> list[Mutation]:
    cases = [manifest for name, manifest in OWN.items() if name.startswith("SeldonDeployment")]
    found = {mutation.path: mutation for manifest in cases for mutation in MUTATIONS.of(manifest)}
    return [found[path] for path in sorted(found)]


def test_every_one_of_2000_mutations_is_refused(guard: Guarded) -> None:
    """Made of Seldon's own schema: every field that is not on the list, and every value, at every level."""
    found = _mutations()
    chosen = random.Random(SEED).sample(found, NUMBER)
    log.info("seed %d: %d of %d mutations", SEED, NUMBER, len(found))
    with ThreadPoolExecutor(THREADS) as threads:
        answers = list(threads.map(lambda one: (one.path, guard.operator.create(one.object)), chosen))
    assert [path for path, answer in answers if POLICY not in answer] == [], f"seed {SEED}"


@pytest.mark.parametrize(
    "case", ["with-and-without-executor-guide", "with-and-without-executor-candidate", "always-with-executor-autoscaling"]
)
def test_nothing_that_serves_can_be_turned_into_a_mutation(guard: Guarded, case: str) -> None:
    base = OWN[f"SeldonDeployment {case}"]
    found = [one for one in MUTATIONS.of(base) if "generateName" not in one.path]  # which only a new object has
    chosen = random.Random(SEED).sample(found, NUMBER_OF_CHANGES)
    with guard.existing(base), ThreadPoolExecutor(THREADS) as threads:
        answers = list(threads.map(lambda one: (one.path, guard.operator.replace(one.object)), chosen))
    assert [path for path, answer in answers if POLICY not in answer] == [], f"seed {SEED}"
