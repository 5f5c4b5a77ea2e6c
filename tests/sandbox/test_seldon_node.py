"""The Deployment of a pod, derived from the name of its ReplicaSet."""

import pytest

from sandbox.seldon.node import deployment_of


@pytest.mark.parametrize(
    ("replica_set", "labels", "deployment"),
    [
        (
            "mlflow-wine-super-model-0-classifier-68dbd6768",
            {"pod-template-hash": "68dbd6768"},
            "mlflow-wine-super-model-0-classifier",
        ),
        (
            "seldon-d41d8cd98f00b204e9800998ecf8427e-5d9c7b",
            {"pod-template-hash": "5d9c7b"},
            "seldon-d41d8cd98f00b204e9800998ecf8427e",
        ),
        ("someones", {}, "someones"),
    ],
)
def test_deployment_is_derived_from_the_replica_set(replica_set: str, labels: dict[str, str], deployment: str) -> None:
    owners = [{"kind": "Other", "name": "other"}, {"kind": "ReplicaSet", "name": replica_set, "controller": True}]
    pod = {"metadata": {"namespace": "admin", "name": "p", "labels": labels, "ownerReferences": owners}}
    assert deployment_of(pod) == ("admin", deployment)
