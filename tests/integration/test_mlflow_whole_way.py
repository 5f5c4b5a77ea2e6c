"""From apply to Ready on the MLflow servers that are not the default one: 2.22, and 3 behind a password, a path and a proxy."""

import base64
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow.entities import RunTag
from mlflow.store.model_registry.rest_store import RestStore as RegistryStore
from mlflow.store.tracking.rest_store import RestStore as TrackingStore
from mlflow.utils.rest_utils import MlflowHostCreds, http_request
from support.cluster import Cluster, eventually, ready, says
from support.operator import OperatorProcess

from sandbox.plan import MLFLOW_SECRET as SOURCE
from sandbox.platform import Sandbox
from winepipelines.resource.naming import MLFLOW_SECRET
from winepipelines.resource.pipeline import WinePipeline
from winepipelines.resource.status import ConditionType

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
    """Tests that hold on each server; a class a server, so that only one sandbox is up at a time."""

    mlflow = ""

    def test_it_serves_from_where_seldon_can_read(self, cluster: Cluster, served: WinePipeline) -> None:
        assert served.status.served is not None
        assert served.status.served.uri.startswith("s3://mlflow/")
        deployment = cluster.get("sdep", "served", "mlflow")
        assert deployment is not None
        assert deployment["spec"]["predictors"][0]["graph"]["modelUri"] == served.status.served.uri
        assert 5 < cluster.predict("served") < 7

    def test_the_registered_version_names_its_resource_and_is_the_champion(self, cluster: Cluster, served: WinePipeline) -> None:
        named = cluster.wait("served", lambda pipeline: bool(pipeline.status.served and pipeline.status.served.alias))
        assert named.status.served is not None
        assert named.status.served.alias == "champion"
        version = registry(cluster).get_model_version_by_alias("served.mlflow", "champion")
        assert str(version.version) == named.status.served.version
        assert version.run_id == named.status.served.mlflow_run
        owner = {"namespace": "served", "name": "mlflow", "uid": served.uid, "revision": "1"}
        assert version.tags == owner

    def test_a_steps_failure_reaches_the_status(self, cluster: Cluster, served: WinePipeline) -> None:
        cluster.apply(cluster.resource("served", "broken", data={"target": "colour"}))
        pipeline = cluster.wait("served", says(ConditionType.READY, "ColumnMissing"), "broken")
        assert "colour" in message(pipeline)

    def test_the_champion_is_the_resources_own(self, cluster: Cluster, served: WinePipeline) -> None:
        cluster.apply(cluster.resource("served", "own"))
        own = cluster.wait("served", lambda pipeline: bool(pipeline.status.served and pipeline.status.served.alias), "own")
        assert own.status.served is not None
        for name, resource in (("own", own), ("mlflow", served)):
            version = registry(cluster).get_model_version_by_alias(f"served.{name}", "champion")
            assert version.tags["uid"] == resource.uid

    def test_the_champion_of_a_shared_name_is_who_was_served_last(self, cluster: Cluster, served: WinePipeline) -> None:
        for name in ("first", "second"):
            cluster.apply(cluster.resource("served", name, training={"registeredModel": "wine-elasticnet"}))
            cluster.wait("served", lambda pipeline: bool(pipeline.status.served and pipeline.status.served.alias), name)
        second = cluster.wait("served", lambda pipeline: bool(pipeline.status.served and pipeline.status.served.alias), "second")
        assert second.status.served is not None
        version = registry(cluster).get_model_version_by_alias("wine-elasticnet", "champion")
        assert str(version.version) == second.status.served.version
        assert version.tags["name"] == "second"

    def test_a_run_that_someone_else_has_tagged_is_not_served(self, cluster: Cluster, served: WinePipeline) -> None:
        """Whoever may write to MLflow may copy the tags of a resource; they get no credential sent anywhere."""
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
    """Artifacts through the server, basic authentication, a path prefix."""

    mlflow = "proxied"

    def test_the_steps_credentials_are_a_copy(self, cluster: Cluster, served: WinePipeline) -> None:
        copy, source = cluster.get("secrets", "served", MLFLOW_SECRET), cluster.get("secrets", "kubeflow", SOURCE)
        assert copy is not None
        assert source is not None
        assert copy["data"] == source["data"]
        assert copy["metadata"]["ownerReferences"][0]["uid"] == served.uid

    def test_no_credential_of_mlflows_is_anywhere_but_in_secrets(
        self, cluster: Cluster, operator: OperatorProcess, served: WinePipeline
    ) -> None:
        password = cluster.info.mlflow_password
        basic = base64.b64encode(f"{cluster.info.mlflow_user}:{password}".encode()).decode()
        kinds = "wp,sdep,deployments,pods,poddefaults,events,wf"
        logs = [
            path.read_text(errors="replace") for path in Path(cluster.info.folder).glob("kubeflow/runs/**/*") if path.is_file()
        ]
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

    def test_rotated_without_a_restart(self, cluster: Cluster, operator: OperatorProcess, served: WinePipeline) -> None:
        """The server changes its user's password; then the administrator changes the Secret."""
        cluster.namespace("rotated")
        self.change_password(cluster, cluster.info.mlflow_password, "another-long-password")
        try:
            cluster.apply(cluster.resource("rotated", training={"attempts": 1}))
            pipeline = cluster.wait("rotated", says(ConditionType.TRAINED, "TrackingRefused"))  # as the step said in its pod
            assert "401" in message(pipeline)
            assert cluster.info.mlflow_password not in message(pipeline)
            assert pipeline.status.condition(ConditionType.STALLED) is not None
            self.set_secret(cluster, {PASSWORD: "another-long-password"})
            cluster.apply(cluster.resource("rotated", training={"seed": 7}))
            cluster.wait("rotated", ready)
        finally:
            self.change_password(cluster, "another-long-password", cluster.info.mlflow_password)
            self.set_secret(cluster, {PASSWORD: cluster.info.mlflow_password})

    def test_the_secret_is_asked_for_before_a_run(
        self, cluster: Cluster, operator: OperatorProcess, served: WinePipeline
    ) -> None:
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

    def test_the_copy_follows_and_goes_with_the_last_resource(
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


class TestADestinationThatIsNotTold:
    """Each a condition with what to set, before Seldon hears of the model."""

    mlflow = "proxied"

    def test_it_is_said_and_nothing_is_trained_again(self, cluster: Cluster) -> None:
        namespace = cluster.namespace("told")
        cluster.apply(cluster.resource(namespace))
        for destination, reason, said in (
            ("", "ModelAddressUnusable", "--artifacts-destination"),
            ("s3://no-such-bucket/served", "BucketMissing", "no-such-bucket"),
            ("s3://mlflow/elsewhere", "ModelMissing", "s3://mlflow/elsewhere"),
        ):
            with OperatorProcess(cluster.sandbox, {"WINE_ARTIFACTS_DESTINATION": destination}):
                told = says(ConditionType.TRAINED, reason)
                pipeline = cluster.wait(namespace, lambda seen, told=told, said=said: told(seen) and said in message(seen))  # type: ignore[misc]
            assert pipeline.status.condition(ConditionType.STALLED) is not None
            assert cluster.get("sdep", namespace, "mlflow") is None
        with OperatorProcess(cluster.sandbox):  # as the administrator should have said
            cluster.wait(namespace, ready)
            assert len(cluster.runs(namespace)) == 1
            cluster.delete("winepipeline", namespace, "mlflow")
