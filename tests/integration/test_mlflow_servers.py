"""The operator's adapter on MLflow as platforms run it: 2.22, 3 with a store of its own, 3 behind a password and a path."""

import io
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import pytest
from minio import Minio
from mlflow.entities import Metric, RunTag
from mlflow.store.model_registry.rest_store import RestStore as RegistryStore
from mlflow.store.tracking.rest_store import RestStore as TrackingStore
from mlflow.utils.rest_utils import MlflowHostCreds
from support.mlflow import KEYS, MLFLOW_ONLY, expected, signature
from support.proxy import Call, Proxy

from sandbox.mlflow_server import VARIANTS, destination, variant
from sandbox.plan import Info
from sandbox.platform import Sandbox
from winecontract.signatures import SIGNATURE_TAG, Keys
from winepipelines.platform.mlflow import MLflow
from winepipelines.platform.objectstore import ObjectStore
from winepipelines.resource.errors import PlatformError, Refused, Unavailable
from winepipelines.resource.observed import ModelVersion
from winepipelines.settings import Settings

GROUP = "winepipelines.io"


@dataclass
class Server:
    """One MLflow with its object store. `runs` and `registry` write as a user's step would."""

    name: str
    info: Info

    def __post_init__(self) -> None:
        user = {"username": self.info.mlflow_user, "password": self.info.mlflow_password} if self.info.mlflow_user else {}
        self.credentials = {f"MLFLOW_TRACKING_{key.upper()}": value for key, value in user.items()}
        host = MlflowHostCreds(self.info.mlflow_url, **user)
        self.runs, self.registry = TrackingStore(lambda: host), RegistryStore(lambda: host)
        self.settings = Settings(
            kfp_url="http://kfp",
            mlflow_url=self.info.mlflow_url,
            s3_endpoint_url=self.info.s3_endpoint,
            mlflow_secret="mlflow-tracking-credentials" if user else "",
            artifacts_destination=destination(variant(self.name)) if variant(self.name).proxied else "",
        )

    def adapter(self, credentials: Mapping[str, str] | None = None, **settings: str) -> MLflow:
        values = self.credentials if credentials is None else credentials

        async def read() -> Mapping[str, str]:
            return values

        return MLflow(replace(self.settings, **settings), read)  # type: ignore[arg-type] # all are texts

    def experiment(self, name: str, root: str = "") -> str:
        found = self.runs.get_experiment_by_name(name)
        return str(found.experiment_id if found else self.runs.create_experiment(name, root or None, []))

    def log(
        self,
        experiment: str,
        tags: Mapping[str, str],
        status: str = "FINISHED",
        metrics: Mapping[str, float] = {},
        keys: Keys | None = KEYS,
        start: int = 0,
    ) -> Any:
        """Make a run, with the words of `{root}` in its tags replaced by its own artifact root, signed where it has a model."""
        now = start or int(time.time() * 1000)
        run = self.runs.create_run(experiment, "someone", now, [], "by hand")
        words = {name: value.replace("{root}", run.info.artifact_uri) for name, value in tags.items()}
        signed = signature(run.info.run_id, words, metrics, keys) if keys and "model-uri" in words else {}
        written = [RunTag(name, value) for name, value in ({f"{GROUP}/{name}": words[name] for name in words} | signed).items()]
        self.runs.log_batch(run.info.run_id, [Metric(name, value, now, 0) for name, value in metrics.items()], [], written)
        self.runs.update_run_info(run.info.run_id, {"FINISHED": 3, "FAILED": 4}[status], now, "by hand")
        return run

    def rclone(self, **changes: str) -> dict[str, str]:
        info = self.info
        keys = {"TYPE": "s3", "ENDPOINT": info.s3_endpoint, "ACCESS_KEY_ID": info.s3_access_key}
        values = {**keys, "SECRET_ACCESS_KEY": info.s3_secret_key, **changes}
        return {f"RCLONE_CONFIG_S3_{key}": value for key, value in values.items()}


@pytest.fixture(scope="module", params=list(VARIANTS))
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("mlflow")
    with Sandbox("mlflow", folder, without=MLFLOW_ONLY, mlflow=request.param) as sandbox:
        yield Server(request.param, sandbox.info)


OF_ONE = {
    "namespace": "admin",
    "uid": "uid-1",
    "revision": "7",
    "kfp-run": "kfp-1",
    "model-uri": "{root}/model",
    "model-version": "1",
}


async def test_a_model_and_a_failure_are_found_by_uid_and_revision(server: Server) -> None:
    experiment = server.experiment("found")
    server.log(experiment, {**OF_ONE, "revision": "6"}, metrics={"r2": 0.1})
    server.log(experiment, {**OF_ONE, "uid": "uid-2"}, metrics={"r2": 0.2})
    said = {"uid": "uid-1", "revision": "7", "kfp-run": "kfp-1", "failed-step": "train", "failure-reason": "TrainingFailed"}
    server.log(experiment, {**said, "failure-message": "no", "failure-permanent": "true"}, "FAILED")
    run = server.log(experiment, OF_ONE, metrics={"r2": 0.3, "rmse": 0.7})
    records = await server.adapter().records("found", expected())
    assert records.model is not None
    assert records.model.uri == f"{run.info.artifact_uri}/model"
    assert records.model.mlflow_run == run.info.run_id
    assert records.model.metrics == {"r2": 0.3, "rmse": 0.7}
    assert records.failure is not None
    assert (records.failure.step, records.failure.reason, records.failure.permanent) == ("train", "TrainingFailed", True)


async def test_what_a_cloned_run_recorded_is_ignored_and_named(server: Server) -> None:
    """A clone copies the parameters of a run, the resource's uid and the revision among them, but not the run's id."""
    experiment, clone = server.experiment("cloned"), {**OF_ONE, "kfp-run": "kfp-2"}
    records = await server.adapter().records("cloned", expected())
    assert (records.model, records.foreign) == (None, "")
    server.log(experiment, clone, metrics={"r2": 0.1})
    records = await server.adapter().records("cloned", expected())
    assert (records.model, records.failure, records.refused) == (None, None, "")
    assert "Kubeflow run kfp-2" in records.foreign
    own = server.log(experiment, OF_ONE, metrics={"r2": 0.3})
    newest = server.log(experiment, clone, metrics={"r2": 0.1})
    failed = {"failed-step": "train", "failure-reason": "TrainingFailed", "failure-permanent": "true"}
    server.log(experiment, {**clone, **failed}, "FAILED")
    for _ in range(25):
        server.log(experiment, {**clone, "model-uri": ""}, "FAILED")
    records = await server.adapter().records("cloned", expected())
    assert records.model is not None
    assert records.model.mlflow_run == own.info.run_id
    assert records.failure is None
    assert newest.info.run_id not in (records.model.mlflow_run, "")
    for checked in ("kfp-1", "kfp-2"):
        said = {"uid": "uid-1", "check": "3", "kfp-run": checked, "data-changed": str(checked == "kfp-2").lower()}
        server.log(experiment, said)
    found = await server.adapter().check_record("cloned", "uid-1", "3", "kfp-1")
    assert found is not None
    assert not found.changed


async def test_only_a_model_that_the_resource_has_had_is_reused(server: Server) -> None:
    experiment = server.experiment("reused")
    original = server.log(experiment, {**OF_ONE, "revision": "6", "kfp-run": "kfp-0"})
    uri = f"{original.info.artifact_uri}/model"
    server.log(experiment, {**OF_ONE, "model-uri": uri, "reused-run": original.info.run_id})
    known = await server.adapter().records("reused", expected(), (original.info.run_id,))
    assert known.model is not None
    assert known.model.mlflow_run == original.info.run_id
    records = await server.adapter().records("reused", expected(), ("another",))
    assert records.model is None
    assert "which no run of this resource has made" in records.refused


@pytest.mark.parametrize("name", ["it's", 'the "wine" \\ experiment', "x' OR tags.`a` = 'b"])
async def test_names_with_quotes_are_names(server: Server, name: str) -> None:
    server.log(server.experiment(name), OF_ONE)
    assert (await server.adapter().records(name, expected())).model is not None
    assert (await server.adapter().records(name + "'", expected())).model is None
    assert await server.adapter().aliased(name, "champion") is None


async def test_an_experiment_that_is_not_there_has_no_records(server: Server) -> None:
    records = await server.adapter().records("never", expected())
    assert (records.model, records.failure, records.refused) == (None, None, "")


async def test_a_deleted_experiment_is_named_until_it_is_restored(server: Server) -> None:
    experiment = server.experiment("deleted")
    server.log(experiment, OF_ONE)
    server.runs.delete_experiment(experiment)
    with pytest.raises(Refused, match=f"restore --experiment-id {experiment}") as caught:
        await server.adapter().records("deleted", expected())
    assert caught.value.reason == "ExperimentDeleted"
    server.runs.restore_experiment(experiment)
    assert (await server.adapter().records("deleted", expected())).model is not None


async def test_the_example_is_read(server: Server) -> None:
    tags = {"example": '{"names": ["a", "b"], "ndarray": [[1, 2.5]]}', "prediction": "[5.7]"}
    run = server.log(server.experiment("example"), tags)
    example = await server.adapter().example(run.info.run_id)
    assert (example.names, example.rows, example.predictions) == (["a", "b"], [[1, 2.5]], [5.7])


async def test_a_run_without_an_example_says_so(server: Server) -> None:
    run = server.log(server.experiment("example"), {"example": "[[[", "prediction": "[NaN]"})
    with pytest.raises(Refused, match=run.info.run_id) as caught:
        await server.adapter().example(run.info.run_id)
    assert caught.value.reason == "ExampleMissing"


async def test_the_alias_follows(server: Server) -> None:
    adapter, experiment = server.adapter(), server.experiment("registry")
    server.registry.create_registered_model("wine's best")
    assert await adapter.aliased("wine's best", "champion") is None
    runs = [server.log(experiment, OF_ONE) for _ in range(2)]
    for run in runs:
        server.registry.create_model_version("wine's best", f"{run.info.artifact_uri}/model", run.info.run_id)
    for version, run in (("1", runs[0]), ("2", runs[1]), ("2", runs[1])):
        model = ModelVersion("wine's best", version, run.info.run_id)
        await adapter.set_alias(model, "champion")
        assert await adapter.aliased("wine's best", "champion") == model


async def test_a_version_of_another_run_gets_no_alias(server: Server) -> None:
    """The version's number stands in a tag, which whoever may write to MLflow may write."""
    adapter, experiment = server.adapter(), server.experiment("registry")
    server.registry.create_registered_model("theirs")
    theirs, mine = server.log(experiment, OF_ONE), server.log(experiment, OF_ONE)
    server.registry.create_model_version("theirs", f"{theirs.info.artifact_uri}/model", theirs.info.run_id)
    with pytest.raises(Refused, match=mine.info.run_id):
        await adapter.set_alias(ModelVersion("theirs", "1", mine.info.run_id), "champion")
    assert await adapter.aliased("theirs", "champion") is None


async def test_an_alias_of_another_runs_version_with_the_same_number_stays(server: Server) -> None:
    """The resource had version 1 of another registered model, or of this one before it was deleted and made again."""
    adapter, experiment = server.adapter(), server.experiment("registry")
    runs = {name: server.log(experiment, OF_ONE) for name in ("a's own", "shared by a and b")}
    for name, run in runs.items():
        server.registry.create_registered_model(name)
        server.registry.create_model_version(name, f"{run.info.artifact_uri}/model", run.info.run_id)
    mine, theirs = (ModelVersion(name, "1", run.info.run_id) for name, run in runs.items())
    for model, alias in product((mine, theirs), ("champion", "challenger")):
        await adapter.set_alias(model, alias)
    claimed = ModelVersion(theirs.registered_model, "1", mine.mlflow_run)
    await adapter.remove_alias(claimed, "champion")
    await adapter.leave([mine, claimed], "a", retired=True)
    for alias in ("champion", "challenger"):
        assert await adapter.aliased(theirs.registered_model, alias) == theirs
        assert await adapter.aliased(mine.registered_model, alias) is None
    assert not server.registry.get_model_version(theirs.registered_model, "1").tags
    assert server.registry.get_model_version(mine.registered_model, "1").tags


async def test_a_malicious_run_changes_nothing(server: Server) -> None:
    """Tagged with a resource's uid and revision by someone else who may write to MLflow."""
    experiment = server.experiment("malicious")
    good = server.log(experiment, OF_ONE, metrics={"r2": 0.5})
    many = {f"metric-{number:03}": float(number) for number in range(60)}
    for uri in (
        "s3,endpoint=http://evil.example:mlflow/model",
        ":http,url='http://evil.example':model",
        "s3://other-bucket/model",
        "{root}/../../secrets/model",
        "{root}/other/model",
        good.info.artifact_uri + "/model",  # another run's
        "http://evil.example/model",
        "/etc",
    ):
        tags = {**OF_ONE, "model-uri": uri, "model-version": "9' OR"}
        server.log(experiment, tags, metrics={**many, "r2": float("nan")}, keys=None)
    server.log(experiment, {**OF_ONE, "failure-reason": "Ready=True; x", "failure-message": "a\nb\x00" + "c" * 3000}, "FAILED")
    records = await server.adapter().records("malicious", expected())
    assert records.model is not None
    assert records.model.mlflow_run == good.info.run_id
    assert records.failure is not None
    assert records.failure.reason == "Unexpected"
    assert len(records.failure.message) <= 1000
    assert records.failure.message.isprintable()


YEAR_2100 = 4_102_444_800_000


async def test_a_forged_run_is_not_preferred_whatever_time_it_says(server: Server) -> None:
    """It has the victim's uid, the next revision and the id of the Kubeflow run, as all who read MLflow can see them."""
    experiment = server.experiment("forged")
    digest = {"digest": "sha256:" + "a" * 64}
    good = server.log(experiment, {**OF_ONE, **digest}, metrics={"r2": 0.3})
    copied = server.runs.get_run(good.info.run_id).data.tags[SIGNATURE_TAG].removeprefix(f"{GROUP}/")
    forged = {**OF_ONE, "digest": "sha256:" + "b" * 64}
    attacks = [
        server.log(experiment, forged, metrics={"r2": 0.9}, keys=None, start=YEAR_2100),
        server.log(experiment, {**forged, "signature": copied}, metrics={"r2": 0.9}, keys=None, start=YEAR_2100),
        server.log(experiment, forged, metrics={"r2": 0.9}, keys=Keys.parse({"current": "cd" * 32}), start=YEAR_2100),
        server.log(experiment, {**forged, "namespace": "theirs"}, metrics={"r2": 0.9}, start=YEAR_2100),
    ]
    records = await server.adapter().records("forged", expected())
    assert records.model is not None
    assert (records.model.mlflow_run, records.model.digest) == (good.info.run_id, digest["digest"])
    assert any(run.info.run_id in records.foreign for run in attacks), "what is ignored is told"
    server.runs.delete_run(good.info.run_id)
    records = await server.adapter().records("forged", expected())
    assert (records.model, records.refused_reason) == (None, "ModelTampered")


async def test_a_forged_run_is_not_taken_where_unsigned_ones_are_and_there_is_a_signed_one(server: Server) -> None:
    experiment, adapter = server.experiment("transition"), server.adapter(unsigned_models="serve")
    server.log(experiment, {**OF_ONE, "digest": "sha256:" + "b" * 64}, keys=None, start=YEAR_2100)
    records = await adapter.records("transition", expected())
    assert records.model is not None
    assert records.model.digest == "", "nobody vouches for it"
    good = server.log(experiment, {**OF_ONE, "digest": "sha256:" + "a" * 64})
    records = await adapter.records("transition", expected())
    assert records.model is not None
    assert (records.model.mlflow_run, records.model.digest) == (good.info.run_id, "sha256:" + "a" * 64)
    server.runs.set_tag(good.info.run_id, RunTag(f"{GROUP}/digest", "sha256:" + "c" * 64))
    records = await adapter.records("transition", expected())
    assert records.model is not None
    assert records.model.digest == "", "one that was changed is not taken"


@pytest.mark.parametrize("change", ["metric", "new metric", "digest", "model-uri", "example", "data-sha256", "revision"])
async def test_a_record_that_was_changed_after_it_was_signed_is_refused(server: Server, change: str) -> None:
    experiment = server.experiment(f"changed {change}")
    run_id = server.log(experiment, {**OF_ONE, "digest": "sha256:" + "a" * 64, "revision": "6"}, metrics={"r2": 0.3}).info.run_id
    revision = 6
    if "metric" in change:
        server.runs.log_metric(run_id, Metric("r2" if change == "metric" else "mae", 0.9, YEAR_2100, 1))
    elif change == "revision":  # replayed for the next one
        revision = 7
        server.runs.set_tag(run_id, RunTag(f"{GROUP}/revision", "7"))
    else:
        server.runs.set_tag(run_id, RunTag(f"{GROUP}/{change}", "sha256:" + "b" * 64))
    records = await server.adapter().records(f"changed {change}", expected(revision=revision))
    assert (records.model, records.refused_reason) == (None, "ModelTampered")
    assert run_id in records.refused


async def test_a_key_that_is_replaced_verifies_as_long_as_it_is_the_previous_one(server: Server) -> None:
    server.log(server.experiment("rotated"), {**OF_ONE, "digest": "sha256:" + "a" * 64})
    new, old = "ef" * 32, "ab" * 32
    replaced, lost = Keys.parse({"current": new, "previous": old}), Keys.parse({"current": new})
    assert (await server.adapter().records("rotated", expected(keys=replaced))).model is not None
    records = await server.adapter().records("rotated", expected(keys=lost))
    assert (records.model, records.refused_reason) == (None, "ModelUnsigned")
    assert "wine-model-key" in records.refused


async def test_a_genuine_run_is_found_among_a_flood_of_forged_ones(server: Server) -> None:
    experiment = server.experiment("flood")
    good = server.log(experiment, {**OF_ONE, "digest": "sha256:" + "a" * 64})
    for _ in range(60):
        server.log(experiment, OF_ONE, keys=None, start=YEAR_2100)
    records = await server.adapter().records("flood", expected())
    assert records.model is not None
    assert records.model.mlflow_run == good.info.run_id


async def test_an_example_that_was_changed_is_not_used(server: Server) -> None:
    said = {**OF_ONE, "example": '{"names": ["a"], "ndarray": [[1]]}', "prediction": "[5.7]"}
    run_id = server.log(server.experiment("swapped"), said).info.run_id
    records, adapter = await server.adapter().records("swapped", expected()), server.adapter()
    assert records.model is not None
    assert (await adapter.example(run_id, records.model.example_digest)).predictions == [5.7]
    server.runs.set_tag(run_id, RunTag(f"{GROUP}/prediction", "[6.6]"))
    with pytest.raises(Refused, match=run_id) as caught:
        await adapter.example(run_id, records.model.example_digest)
    assert caught.value.reason == "ModelTampered"


async def test_nothing_but_malicious_runs_is_said(server: Server) -> None:
    experiment = server.experiment("alone")
    run = server.log(experiment, {**OF_ONE, "model-uri": "s3,endpoint=http://evil.example:mlflow/model"})
    records = await server.adapter().records("alone", expected())
    assert records.model is None
    assert run.info.run_id in records.refused


async def test_metrics_that_no_status_can_hold_are_left_out(server: Server) -> None:
    many = {f"metric-{number:03}": float(number) for number in range(60)}
    odd = {"nan": float("nan"), "inf": float("inf"), "x" * 200: 1.0, "r2": 0.5}
    server.log(server.experiment("metrics"), OF_ONE, metrics={**many, **odd})
    records = await server.adapter().records("metrics", expected())
    assert records.model is not None
    assert len(records.model.metrics) == 32
    assert records.model.metrics["r2"] == 0.5
    assert not {"nan", "inf", "x" * 200} & set(records.model.metrics)


async def test_an_experiment_with_an_evil_root_is_no_address(server: Server) -> None:
    """Whoever makes an experiment chooses where its artifacts are: then the run's own root is evil too."""
    for number, root in enumerate(("s3,endpoint=http://evil.example:mlflow", "s3://mlflow,endpoint=evil/x", "gs://bucket/x")):
        try:
            experiment = server.experiment(f"evil-{number}", root)
        except Exception:  # noqa: S112 - this server refuses it by itself
            continue
        server.log(experiment, OF_ONE)
        records = await server.adapter().records(f"evil-{number}", expected())
        assert records.model is not None
        stored = await ObjectStore(server.settings).stored(records.model.uri, server.rclone())
        assert (stored.readable, stored.reason) == (False, "ModelAddressUnusable")
        assert "s3" in stored.message


def _put(server: Server, uri: str) -> str:
    """Put an MLmodel where a step would, and give the address that the store should find it at."""
    kind = variant(server.name)
    address = uri.replace("mlflow-artifacts:", destination(kind)) if kind.proxied else uri
    bucket, _, folder = address.removeprefix("s3://").partition("/")
    client = Minio(
        server.info.s3_endpoint.partition("://")[2], server.info.s3_access_key, server.info.s3_secret_key, secure=False
    )
    client.put_object(bucket, f"{folder}/MLmodel", io.BytesIO(b"flavors: {}"), 11)
    return address


async def test_the_store_is_looked_at_with_seldons_eyes(server: Server) -> None:
    run = server.log(server.experiment("stored"), OF_ONE)
    uri = f"{run.info.artifact_uri}/model"
    store = ObjectStore(server.settings)
    missing = await store.stored(uri, server.rclone())
    assert (missing.readable, missing.reason) == (False, "ModelMissing")
    address = _put(server, uri)
    found = await store.stored(uri, server.rclone())
    assert (found.readable, found.uri) == (True, address)
    denied = await store.stored(uri, server.rclone(SECRET_ACCESS_KEY="another"))
    assert (denied.readable, denied.reason) == (False, "StoreAccessDenied")
    assert server.settings.source_secret in denied.message
    with pytest.raises(Unavailable, match="does not answer"):
        await store.stored(uri, server.rclone(ENDPOINT="http://127.0.0.1:9"))
    nowhere = await store.stored(uri, server.rclone(ENDPOINT="http://[::"))
    assert nowhere.reason == "StoreEndpointInvalid"
    absent = await store.stored("s3://no-such-bucket/1/model", server.rclone())
    assert (absent.readable, absent.reason) == (False, "BucketMissing")


async def test_a_path_that_is_not_the_servers_is_said(server: Server) -> None:
    wrong = server.info.mlflow_url + "/no/such/path"
    with pytest.raises(PlatformError) as caught:
        await server.adapter(mlflow_url=wrong).records("found", expected())
    assert isinstance(caught.value, Refused)
    assert "WINE_MLFLOW_URL" in caught.value.message or caught.value.reason == "MlflowUnauthorized"


async def test_behind_a_path_of_a_reverse_proxy(server: Server) -> None:
    """As an ingress does it: the server itself knows nothing of the path."""
    server.log(server.experiment("prefixed"), OF_ONE)

    def stripped(call: Call) -> None:
        assert call.path.startswith("/tools/mlflow/")

    root = server.info.mlflow_url
    with Proxy(root, before=stripped, strip="/tools/mlflow") as proxy:
        adapter = server.adapter(mlflow_url=f"{proxy.url}/tools/mlflow")
        assert (await adapter.records("prefixed", expected())).model is not None


async def test_a_host_that_the_server_does_not_know_is_said(server: Server) -> None:
    if variant(server.name).series == 2:
        pytest.skip("MLflow 2 answers whatever it is called")
    prefix = variant(server.name).prefix
    upstream = server.info.mlflow_url.removesuffix(prefix)
    with Proxy(upstream, keep_host=True, address="127.0.0.2") as proxy:  # the loopback network has many names
        strange = f"{proxy.url}{prefix}"
        error = await _refusal(server.adapter(mlflow_url=strange))
    assert error.reason == "MlflowHostRefused"
    assert "MLFLOW_SERVER_ALLOWED_HOSTS" in error.message
    assert strange.split("/")[2] in error.message


async def _refusal(adapter: MLflow) -> PlatformError:
    with pytest.raises(PlatformError) as caught:
        await adapter.records("found", expected())
    return caught.value


async def test_down_is_unavailable_and_nothing_else(server: Server) -> None:
    error = await _refusal(server.adapter(mlflow_url="http://127.0.0.1:9"))
    assert isinstance(error, Unavailable)
    assert error.message.startswith("MLflow at http://127.0.0.1:9 does not answer: its host refuses the connection")


async def test_a_token_goes_with_every_request_and_nowhere_else(server: Server) -> None:
    """As gateways in front of MLflow ask for it."""
    values = {"MLFLOW_TRACKING_TOKEN": "first"}
    known = {"first"}
    seen: list[str] = []

    def guard(call: Call) -> int | None:
        seen.append(call.headers.get("Authorization", ""))
        return None if seen[-1].removeprefix("Bearer ") in known else 401

    user = server.info.mlflow_user
    with Proxy(server.info.mlflow_url, before=guard, basic=(user, server.info.mlflow_password) if user else None) as proxy:
        adapter = server.adapter(values, mlflow_url=proxy.url, mlflow_secret="mlflow-tracking-credentials")
        await adapter.records("never", expected())
        assert set(seen) == {"Bearer first"}
        known = {"second"}  # rotated: the Secret is read again when it was refused
        error = await _refusal(adapter)
        assert error.reason == "MlflowUnauthorized"
        assert "first" not in error.message
        assert "mlflow-tracking-credentials" in error.message
        values["MLFLOW_TRACKING_TOKEN"] = "second"
        await adapter.records("never", expected())
    assert seen[-1] == "Bearer second"


async def test_a_redirection_is_not_followed(server: Server) -> None:
    """A login page, or another host: credentials go nowhere but to the address that the administrator named."""
    with Proxy(server.info.mlflow_url, before=lambda _: 302) as proxy:
        error = await _refusal(server.adapter({"MLFLOW_TRACKING_TOKEN": "mine"}, mlflow_url=proxy.url))
    assert error.reason == "MlflowRefused"
    assert "302" in error.message


class TestAuthentication:
    """Of the server that asks for a password."""

    @pytest.fixture(autouse=True)
    def asks(self, server: Server) -> None:
        if not server.credentials:
            pytest.skip("it asks for none")

    async def test_without_a_secret_it_says_which_setting_names_one(self, server: Server) -> None:
        error = await _refusal(server.adapter({}, mlflow_secret=""))
        assert (error.reason, "WINE_MLFLOW_SECRET" in error.message) == ("MlflowUnauthorized", True)

    async def test_a_wrong_password_is_one_clear_condition(self, server: Server) -> None:
        wrong = {**server.credentials, "MLFLOW_TRACKING_PASSWORD": "not-the-password"}
        error = await _refusal(server.adapter(wrong))
        assert isinstance(error, Refused)
        assert error.reason == "MlflowUnauthorized"
        assert "401" in error.message
        assert "mlflow-tracking-credentials" in error.message
        assert "not-the-password" not in error.message

    async def test_credentials_are_read_again_when_they_change(self, server: Server) -> None:
        values = {**server.credentials, "MLFLOW_TRACKING_PASSWORD": "not-yet"}
        adapter = server.adapter(values)
        await _refusal(adapter)
        values.update(server.credentials)
        await adapter.records("never", expected())
