"""From `kubectl apply` to Ready on other MLflow servers: 2.22, and 3 with a password, a path prefix and proxied artifacts."""

import base64
import json
import subprocess
from collections.abc import Callable, Iterator

import pytest
from mlflow.entities import RunTag
from mlflow.store.model_registry.rest_store import RestStore as RegistryStore
from mlflow.store.tracking.rest_store import RestStore as TrackingStore
from mlflow.utils.rest_utils import MlflowHostCreds, http_request
from support.cluster import Cluster, eventually, ready, says
from support.files import contents
from support.operator import OperatorProcess

from sandbox.plan import MLFLOW_SECRET as SOURCE
from sandbox.platform import Sandbox
from winepipelines.api.naming import MLFLOW_SECRET
from winepipelines.api.pipeline import WinePipeline
from winepipelines.api.status import ConditionType

PASSWORD = "MLFLOW_TRACKING_PASSWORD"


def host(cluster: Cluster, password: str = "") -> MlflowHostCreds:
    info = cluster.info
    user = {"username": info.mlflow_user, "password": password or info.mlflow_password} if info.mlflow_user else {}
    return MlflowHostCreds(info.mlflow_url, **user)


def registry(cluster: Cluster) -> RegistryStore:
    return RegistryStore(lambda: host(cluster))


def message(pipeline: WinePipeline, kind: ConditionType = ConditionType.READY) -> str:
    condition = pipeline.status.condition(kind)
    assert condition is not None
    return condition.message


def reports(reason: str, text: str) -> Callable[[WinePipeline], bool]:
    """Return a condition: Trained has the reason, and the message of Ready contains the text."""
    return lambda pipeline: says(ConditionType.TRAINED, reason)(pipeline) and text in message(pipeline)


@pytest.fixture(scope="class")
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("sandbox")
    with Sandbox("mlflow-way", folder, without={"operator"}, mlflow=request.cls.mlflow) as sandbox:
        yield Cluster(sandbox)


@pytest.fixture(scope="class")
def operator(cluster: Cluster) -> Iterator[OperatorProcess]:
    with OperatorProcess(cluster.sandbox) as operator:
        yield operator


@pytest.fixture(scope="class")
def served(cluster: Cluster, operator: OperatorProcess) -> WinePipeline:
    cluster.namespace("served")
    cluster.apply(cluster.resource("served"))
    return cluster.wait("served", ready)


class Variant:
    """Tests for every server. Each server has a class of its own, so that only one sandbox runs at a time."""

    mlflow = ""

    def test_model_is_served_from_an_address_that_seldon_can_read(self, cluster: Cluster, served: WinePipeline) -> None:
        assert served.status.served is not None
        assert served.status.served.model.uri.startswith("s3://mlflow/")
        deployment = cluster.get("sdep", "served", "mlflow")
        assert deployment is not None
        assert deployment["spec"]["predictors"][0]["graph"]["modelUri"] == served.status.served.model.uri
        assert 5 < cluster.predict("served") < 7

    def test_registered_version_is_tagged_with_its_resource_and_is_champion(self, cluster: Cluster, served: WinePipeline) -> None:
        named = cluster.wait("served", lambda pipeline: bool(pipeline.status.served and pipeline.status.served.alias))
        assert named.status.served is not None
        assert named.status.served.alias == "champion"
        version = registry(cluster).get_model_version_by_alias("served.mlflow", "champion")
        assert str(version.version) == named.status.served.model.version
        assert version.run_id == named.status.served.model.mlflow_run
        owner = {"namespace": "served", "name": "mlflow", "uid": served.uid, "revision": "1"}
        assert version.tags == owner

    def test_failure_of_a_step_is_reported_in_the_status(self, cluster: Cluster, served: WinePipeline) -> None:
        cluster.apply(cluster.resource("served", "broken", data={"target": "colour"}))
        pipeline = cluster.wait("served", says(ConditionType.READY, "ColumnMissing"), "broken")
        assert "colour" in message(pipeline)

    def test_champion_is_the_resources_own_model(self, cluster: Cluster, served: WinePipeline) -> None:
        cluster.apply(cluster.resource("served", "own"))
        own = cluster.wait("served", lambda pipeline: bool(pipeline.status.served and pipeline.status.served.alias), "own")
        assert own.status.served is not None
        for name, resource in (("own", own), ("mlflow", served)):
            version = registry(cluster).get_model_version_by_alias(f"served.{name}", "champion")
            assert version.tags["uid"] == resource.uid

    def test_champion_of_a_shared_name_is_the_last_served_model(self, cluster: Cluster, served: WinePipeline) -> None:
        for name in ("first", "second"):
            cluster.apply(cluster.resource("served", name, training={"registeredModel": "wine-elasticnet"}))
            cluster.wait("served", lambda pipeline: bool(pipeline.status.served and pipeline.status.served.alias), name)
        second = cluster.wait("served", lambda pipeline: bool(pipeline.status.served and pipeline.status.served.alias), "second")
        assert second.status.served is not None
        version = registry(cluster).get_model_version_by_alias("wine-elasticnet", "champion")
        assert str(version.version) == second.status.served.model.version
        assert version.tags["name"] == "second"

    def test_forged_run_is_not_served(self, cluster: Cluster, served: WinePipeline) -> None:
        """Every user with write access to MLflow can copy a resource's tags. No credential is sent to their address."""
        cluster.apply(cluster.resource("served", "attacked", suspend=True))
        pipeline = cluster.wait("served", lambda pipeline: pipeline.status.stage == "Suspended", "attacked")
        store = TrackingStore(lambda: host(cluster))
        found = store.get_experiment_by_name("wine")
        assert found is not None
        run = store.create_run(found.experiment_id, "evil", 4_000_000_000_000, [], "evil")
        tags = {"uid": pipeline.uid, "revision": "1", "model-uri": "s3,endpoint=http://evil.example:mlflow/model"}
        store.log_batch(run.info.run_id, [], [], [RunTag(f"winepipelines.io/{name}", value) for name, value in tags.items()])
        store.update_run_info(run.info.run_id, 3, 10**17, "evil")
        cluster.apply(cluster.resource("served", "attacked"))
        cluster.wait("served", ready, "attacked")
        deployment = cluster.get("sdep", "served", "attacked")
        assert "evil" not in json.dumps(deployment)


class TestMlflow2(Variant):
    mlflow = "2.22"


class TestProxied(Variant):
    """MLflow with proxied artifacts, basic authentication and a path prefix."""

    mlflow = "proxied"

    def test_credentials_of_the_steps_are_a_copy(self, cluster: Cluster, served: WinePipeline) -> None:
        copy, source = cluster.get("secrets", "served", MLFLOW_SECRET), cluster.get("secrets", "kubeflow", SOURCE)
        assert copy is not None
        assert source is not None
        assert copy["data"] == source["data"]
        assert copy["metadata"]["ownerReferences"][0]["uid"] == served.uid

    def test_mlflow_credentials_are_only_in_secrets(
        self, cluster: Cluster, operator: OperatorProcess, served: WinePipeline
    ) -> None:
        password = cluster.info.mlflow_password
        basic = base64.b64encode(f"{cluster.info.mlflow_user}:{password}".encode()).decode()
        kinds = "wp,sdep,deployments,pods,poddefaults,events,wf"
        logs = [content.decode(errors="replace") for _, content, _ in contents(cluster.info.folder / "kubeflow" / "runs")]
        assert logs
        places = {
            "objects": cluster.sandbox.kubectl("-n", "served", "get", kinds, "-o", "yaml"),
            "runs": json.dumps(cluster.runs("served")),
            "log": operator.log.read_text(),
            "steps": "".join(logs),
            "arguments": subprocess.run(["ps", "axww", "-o", "args"], capture_output=True, text=True, check=True).stdout,
        }
        for place, text in places.items():
            for credential in (password, base64.b64encode(password.encode()).decode(), basic):
                assert credential not in text, place

    def test_rotated_password_needs_no_restart(self, cluster: Cluster, operator: OperatorProcess, served: WinePipeline) -> None:
        """The password is changed in MLflow first, then in the Secret."""
        cluster.namespace("rotated")
        self.change_password(cluster, cluster.info.mlflow_password, "another-long-password")
        try:
            cluster.apply(cluster.resource("rotated", training={"attempts": 1}))
            pipeline = cluster.wait("rotated", says(ConditionType.TRAINED, "TrackingRejected"))  # reported by the step's pod
            assert "401" in message(pipeline)
            assert cluster.info.mlflow_password not in message(pipeline)
            assert pipeline.status.condition(ConditionType.STALLED) is not None
            self.set_secret(cluster, {PASSWORD: "another-long-password"})
            cluster.apply(cluster.resource("rotated", training={"seed": 7}))
            cluster.wait("rotated", ready)
        finally:
            self.change_password(cluster, "another-long-password", cluster.info.mlflow_password)
            self.set_secret(cluster, {PASSWORD: cluster.info.mlflow_password})

    def test_secret_is_checked_before_a_run(self, cluster: Cluster, operator: OperatorProcess, served: WinePipeline) -> None:
        cluster.namespace("early")
        source = cluster.get("secrets", "kubeflow", SOURCE)
        assert source is not None
        self.set_secret(cluster, {PASSWORD: None})
        try:
            cluster.apply(cluster.resource("early"))
            pipeline = cluster.wait("early", says(ConditionType.PREPARED, "MlflowSecretIncomplete"))
            assert PASSWORD in message(pipeline)
            cluster.sandbox.kubectl("-n", "kubeflow", "delete", "secret", SOURCE)
            cluster.wait("early", says(ConditionType.PREPARED, "MlflowSecretMissing"))
            assert cluster.runs("early") == []
        finally:
            body = {**source, "metadata": {"name": SOURCE, "namespace": "kubeflow"}}
            cluster.apply(body)
        cluster.wait("early", ready)

    def test_copied_secret_is_deleted_with_the_last_resource(
        self, cluster: Cluster, operator: OperatorProcess, served: WinePipeline
    ) -> None:
        cluster.namespace("leaving")
        cluster.apply(cluster.resource("leaving", suspend=True))
        cluster.wait("leaving", lambda pipeline: pipeline.status.stage == "Suspended")
        assert cluster.get("secrets", "leaving", MLFLOW_SECRET) is not None
        cluster.delete("winepipeline", "leaving", "mlflow")
        eventually(lambda: cluster.get("secrets", "leaving", MLFLOW_SECRET) is None)

    def change_password(self, cluster: Cluster, old: str, new: str) -> None:
        body = {"username": cluster.info.mlflow_user, "password": new, "current_password": old}
        answer = http_request(host(cluster, old), "/api/2.0/mlflow/users/update-password", "PATCH", json=body)
        assert answer.status_code == 200, answer.text

    def set_secret(self, cluster: Cluster, values: dict[str, str | None]) -> None:
        data = {key: None if value is None else base64.b64encode(value.encode()).decode() for key, value in values.items()}
        patch = json.dumps({"data": data})
        cluster.sandbox.kubectl("-n", "kubeflow", "patch", "secret", SOURCE, "--type=merge", "-p", patch)


class TestArtifactsDestination:
    """A wrong destination is reported in a condition before the model is deployed."""

    mlflow = "proxied"

    def test_wrong_destination_is_reported_without_another_run(self, cluster: Cluster) -> None:
        namespace = cluster.namespace("destination")
        cluster.apply(cluster.resource(namespace))
        for destination, reason, text in (
            ("", "ModelAddressUnusable", "--artifacts-destination"),
            ("s3://no-such-bucket/served", "BucketMissing", "no-such-bucket"),
            ("s3://mlflow/elsewhere", "ModelMissing", "s3://mlflow/elsewhere"),
        ):
            with OperatorProcess(cluster.sandbox, {"WINE_ARTIFACTS_DESTINATION": destination}):
                pipeline = cluster.wait(namespace, reports(reason, text))
            assert pipeline.status.condition(ConditionType.STALLED) is not None
            assert cluster.get("sdep", namespace, "mlflow") is None
        with OperatorProcess(cluster.sandbox):  # the right destination
            cluster.wait(namespace, ready)
            assert len(cluster.runs(namespace)) == 1
            cluster.delete("winepipeline", namespace, "mlflow")
