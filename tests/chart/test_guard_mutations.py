"""Thousands of manifests, each with one random change that Seldon's own schema allows, against the admission policies."""

import json
import logging
import os
import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import yaml
from support.guard import CRD, POLICY, Guarded
from support.guard_attacks import OWN
from support.mutations import Mutation, Mutations

from sandbox.places import ROOT

Object = dict[str, Any]
PODDEFAULTS = ROOT / "sandbox/manifests/20-poddefaults.yaml"
log = logging.getLogger(__name__)
SEED = int(os.environ.get("SEED") or 13)  # fixed, so that the mutations are the same each time
NUMBER, NUMBER_OF_CHANGES, THREADS = 2000, 400, 4

METADATA: Object = {
    "type": "object",
    "properties": {
        **{name: {"type": "object", "additionalProperties": {"type": "string"}} for name in ("labels", "annotations")},
        "finalizers": {"type": "array", "items": {"enum": ["example.org/other"]}},
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
ALLOWED = (  # optional fields
    r"\.(apiVersion|kind|metadata\.(name|namespace)|metadata\.annotations|status.*)",
    r".*\.(terminationGracePeriodSeconds|replicas|progressDeadlineSeconds|initialDelaySeconds)",
    r".*\.resources\.(limits|requests)\.other",
    r".*\.graph\.children.*",  # no schema of its own: see ATTACKS
)

SCHEMA = json.loads(CRD.read_text())["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
MUTATIONS = Mutations(SCHEMA, FREE, {r"\.metadata": METADATA}, ALLOWED)


CONTAINERS = SCHEMA["properties"]["spec"]["properties"]["predictors"]["items"]["properties"]["componentSpecs"]["items"][
    "properties"
]
CONTAINER = CONTAINERS["spec"]["properties"]["containers"]["items"]
# Lists of a PodDefault, which the sandbox's schema leaves open: those of a container or a pod.
OPENED = {
    r"\.metadata": METADATA,
    r"\.spec\.(initContainers|sidecars)\[\]": CONTAINER,
    r"\.spec\.env(\[\d?\])": CONTAINER["properties"]["env"]["items"],
    r"\.spec\.envFrom\[\]": CONTAINER["properties"]["envFrom"]["items"],
    r"\.spec\.volumeMounts\[\]": CONTAINER["properties"]["volumeMounts"]["items"],
    r"\.spec\.volumes\[\]": CONTAINERS["spec"]["properties"]["volumes"]["items"],
    r"\.spec\.tolerations\[\]": CONTAINERS["spec"]["properties"]["tolerations"]["items"],
}
SECRET: Object = {
    "properties": {
        "type": {"type": "string"},
        "immutable": {"type": "boolean"},
        "data": {"type": "object", "additionalProperties": {"type": "string", "format": "byte"}},
        "stringData": {"type": "object", "additionalProperties": {"type": "string"}},
    }
}


def _of_kind(kind: str) -> list[Mutation]:
    """Mutations of the PodDefaults or the Secrets."""
    crd = yaml.safe_load(PODDEFAULTS.read_text())
    schemas = {"Secret": SECRET, "PodDefault": crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]}
    any_pipeline = {r"\.metadata\.ownerReferences\[0\]\.name": ()}  # every WinePipeline of the namespace may be an owner
    mutations = Mutations(schemas[kind], FREE | any_pipeline, OPENED, ALLOWED)
    return [mutation for manifest in OWN.values() if manifest["kind"] == kind for mutation in mutations.of(manifest)]


def _mutations() -> list[Mutation]:
    cases = [manifest for name, manifest in OWN.items() if name.startswith("SeldonDeployment")]
    found = {mutation.path: mutation for manifest in cases for mutation in MUTATIONS.of(manifest)}
    return [found[path] for path in sorted(found)]


def test_guard_refuses_each_of_2000_mutations(guard: Guarded) -> None:
    """Derived from Seldon's own schema: fields that are not allowed, and values, at every level."""
    found = _mutations()
    chosen = random.Random(SEED).sample(found, NUMBER)
    log.info("seed %d: %d of %d mutations", SEED, NUMBER, len(found))
    with ThreadPoolExecutor(THREADS) as threads:
        answers = list(threads.map(lambda one: (one.path, guard.operator.create(one.object)), chosen))
    assert [path for path, answer in answers if POLICY not in answer] == [], f"seed {SEED}"


@pytest.mark.parametrize(("kind", "least"), [("PodDefault", 1000), ("Secret", 20)])
def test_guard_refuses_mutations_of_shared_objects(guard: Guarded, kind: str, least: int) -> None:
    found = _of_kind(kind)
    assert len(found) > least
    with ThreadPoolExecutor(THREADS) as threads:
        answers = list(threads.map(lambda one: (one.path, guard.operator.create(one.object)), found))
    assert [path for path, answer in answers if POLICY not in answer] == []


@pytest.mark.parametrize(
    "case", ["with-and-without-executor-guide", "with-and-without-executor-candidate", "always-with-executor-autoscaling"]
)
def test_guard_refuses_mutations_of_a_served_model(guard: Guarded, case: str) -> None:
    base = OWN[f"SeldonDeployment {case}"]
    found = [one for one in MUTATIONS.of(base) if "generateName" not in one.path]  # only new objects have it
    chosen = random.Random(SEED).sample(found, NUMBER_OF_CHANGES)
    with guard.existing(base), ThreadPoolExecutor(THREADS) as threads:
        answers = list(threads.map(lambda one: (one.path, guard.operator.replace(one.object)), chosen))
    assert [path for path, answer in answers if POLICY not in answer] == [], f"seed {SEED}"
