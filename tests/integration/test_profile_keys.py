"""With `sourceSecret: auto`, models are copied with the keys that the profile already has."""

import base64
from collections.abc import Iterator

import pytest
from support.cluster import Cluster, eventually, settled
from support.operator import OperatorProcess

from sandbox.platform import Sandbox
from winepipelines.api.status import ConditionType

ARTIFACTS, COPY = "mlpipeline-minio-artifact", "seldon-init-container-secret"


@pytest.fixture
def finding(operator: OperatorProcess, sandbox: Sandbox) -> Iterator[None]:
    """Run an operator that finds the source Secret, in place of the one that most tests share."""
    operator.kill()
    try:
        with OperatorProcess(sandbox, {"WINE_SOURCE_SECRET": "auto"}):
            yield
    finally:
        operator.start()


@pytest.mark.usefixtures("finding")
def test_model_is_copied_with_the_keys_of_the_profile_which_are_followed(cluster: Cluster, namespace: str) -> None:
    cluster.apply(cluster.resource(namespace))
    pipeline = cluster.wait(namespace, settled)
    prepared = pipeline.status.condition(ConditionType.PREPARED)
    assert prepared is not None
    assert prepared.message.endswith(f"Models are copied with the keys of Secret {ARTIFACTS} of this namespace.")
    own, copy = (cluster.get("secrets", namespace, name) for name in (ARTIFACTS, COPY))
    assert own is not None
    assert copy is not None
    assert copy["data"]["RCLONE_CONFIG_S3_ACCESS_KEY_ID"] == own["data"]["accesskey"]
    assert copy["data"]["RCLONE_CONFIG_S3_SECRET_ACCESS_KEY"] == own["data"]["secretkey"]
    assert cluster.predict(namespace)
    cluster.sandbox.kubectl("-n", namespace, "patch", "secret", ARTIFACTS, "-p", '{"stringData": {"accesskey": "replaced"}}')
    replaced = base64.b64encode(b"replaced").decode()
    eventually(lambda: (cluster.get("secrets", namespace, COPY) or {})["data"]["RCLONE_CONFIG_S3_ACCESS_KEY_ID"] == replaced, 10)
