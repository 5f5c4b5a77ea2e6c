"""A sandbox without its stand-ins: real servers, access rights and outages."""

import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from core_support import STAND_INS, buckets, get, marked, mlflow, pids, store, within
from mlflow import MlflowClient
from support.files import contents

from sandbox import places
from sandbox.errors import KubectlError, SandboxError
from sandbox.platform import Sandbox


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    folder = tmp_path_factory.mktemp("a folder") / "core"
    with Sandbox("core", folder, without=STAND_INS) as sandbox:
        yield sandbox


def test_api_server_serves_the_kinds_of_the_platform(sandbox: Sandbox) -> None:
    names = sandbox.kubectl("get", "customresourcedefinitions", "-o", "name")
    for kind in ("poddefaults.kubeflow.org", "seldondeployments.machinelearning.seldon.io", "workflows.argoproj.io"):
        assert f"/{kind}" in names
    assert "/winepipelines.winepipelines.io" in names


def test_seldondeployment_is_validated_and_pruned(sandbox: Sandbox) -> None:
    graph = {"name": "classifier", "implementation": "MLFLOW_SERVER", "modelUri": "s3://mlflow/0", "noSuchField": 1}
    manifest = {
        "apiVersion": "machinelearning.seldon.io/v1",
        "kind": "SeldonDeployment",
        "metadata": {"name": "checked", "namespace": "admin"},
        "spec": {"predictors": [{"name": "p", "graph": graph, "componentSpecs": [{"spec": {"containers": [{"name": "c"}]}}]}]},
    }
    sandbox.kubectl("apply", "--validate=false", "-f", "-", stdin=json.dumps(manifest))
    stored = json.loads(sandbox.kubectl("-n", "admin", "get", "sdep", "checked", "-o", "json"))["spec"]["predictors"][0]
    assert "noSuchField" not in stored["graph"]
    assert stored["componentSpecs"][0]["spec"] == {"containers": [{"name": "c"}]}
    graph["implementation"] = "MY_SERVER"
    with pytest.raises(KubectlError, match="Unsupported value"):
        sandbox.kubectl("apply", "--validate=false", "-f", "-", stdin=json.dumps(manifest))


def test_operator_may_read_its_resources_but_not_others_secrets(sandbox: Sandbox) -> None:
    sandbox.kubectl("get", "winepipelines", "--all-namespaces", as_operator=True)
    for namespace in ("admin", "kubeflow", "kube-system"):
        with pytest.raises(KubectlError, match="Forbidden"):
            sandbox.kubectl("get", "secrets", "-n", namespace, as_operator=True)
    for refused in (
        ("create", "namespace", "theirs"),
        ("delete", "namespace", "admin"),
        ("run", "pod", "--image=any", "-n", "admin"),
    ):
        with pytest.raises(KubectlError, match="Forbidden"):
            sandbox.kubectl(*refused, as_operator=True)


def test_operator_may_create_the_objects_of_a_resource(sandbox: Sandbox) -> None:
    sandbox.kubectl("-n", "admin", "get", "secret", "mlpipeline-minio-artifact", as_operator=True)
    sandbox.kubectl("-n", "kubeflow", "get", "secret", "mlflow-server-seldon-init-container-s3-credentials", as_operator=True)
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "seldon-init-container-secret", "namespace": "admin"}}
    sandbox.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(secret), as_operator=True)
    graph = {"name": "classifier", "implementation": "MLFLOW_SERVER", "modelUri": "s3://mlflow/0"}
    deployment = {
        "apiVersion": "machinelearning.seldon.io/v1",
        "kind": "SeldonDeployment",
        "metadata": {"name": "made", "namespace": "admin"},
        "spec": {"predictors": [{"name": "p", "graph": graph}]},
    }
    sandbox.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(deployment), as_operator=True)
    sandbox.kubectl("-n", "admin", "delete", "sdep", "made", as_operator=True)


def test_object_store_has_both_buckets_and_refuses_anonymous_requests(sandbox: Sandbox) -> None:
    assert buckets(sandbox.info) == {"mlflow", "mlpipeline"}
    with pytest.raises(urllib.error.HTTPError, match="403"):
        get(f"{sandbox.info.s3_endpoint}/mlflow")


def test_mlflow_stores_artifacts_in_the_object_store_and_accepts_its_host_names(sandbox: Sandbox) -> None:
    created = mlflow(sandbox.info, "experiments/create", {"name": "core"})
    found = json.loads(get(f"{sandbox.info.mlflow_url}/api/2.0/mlflow/experiments/get?experiment_id={created['experiment_id']}"))
    assert found["experiment"]["artifact_location"] == f"s3://mlflow/{created['experiment_id']}"
    with pytest.raises(urllib.error.HTTPError, match="403"):
        get(f"{sandbox.info.mlflow_url}/api/2.0/mlflow/experiments/get?experiment_id=0", Host="elsewhere.example")


def test_artifact_logged_to_mlflow_is_in_the_object_store(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    info = sandbox.info
    monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", info.s3_endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", info.s3_access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", info.s3_secret_key)
    client = MlflowClient(info.mlflow_url)
    run = client.create_run(client.create_experiment("artifacts")).info
    client.log_text(run.run_id, "a note", "notes/note.txt")
    key = f"{run.artifact_uri}/notes/note.txt".removeprefix("s3://mlflow/")
    assert store(info).get_object(Bucket="mlflow", Key=key)["Body"].read() == b"a note"


def test_data_server_serves_the_wine_table_and_added_files(sandbox: Sandbox) -> None:
    assert get(sandbox.info.data_url) == (places.ROOT / "data" / "winequality-red.csv").read_bytes()
    (sandbox.info.data_folder / "bad.csv").write_text("no;wine\n")
    assert get(f"{sandbox.info.data_base_url}/bad.csv") == b"no;wine\n"


def test_secrets_contain_the_credentials_of_the_object_store(sandbox: Sandbox) -> None:
    def secret(namespace: str, name: str) -> dict[str, str]:
        template = "go-template={{range $key, $value := .data}}{{$key}}={{$value | base64decode}}\n{{end}}"
        lines = sandbox.kubectl("-n", namespace, "get", "secret", name, "-o", template).split()
        return dict(line.split("=", 1) for line in lines)

    info = sandbox.info
    source = secret("kubeflow", "mlflow-server-seldon-init-container-s3-credentials")
    assert source == {
        "RCLONE_CONFIG_S3_TYPE": "s3",
        "RCLONE_CONFIG_S3_PROVIDER": "minio",
        "RCLONE_CONFIG_S3_ENV_AUTH": "false",
        "RCLONE_CONFIG_S3_ACCESS_KEY_ID": info.s3_access_key,
        "RCLONE_CONFIG_S3_SECRET_ACCESS_KEY": info.s3_secret_key,
        "RCLONE_CONFIG_S3_ENDPOINT": info.s3_endpoint,
    }
    sandbox.add_namespace("team-a", "team-b")
    for namespace in ("admin", "team-a", "team-b"):
        steps = secret(namespace, "mlpipeline-minio-artifact")
        assert steps == {"accesskey": info.s3_access_key, "secretkey": info.s3_secret_key}
    profiles = sandbox.kubectl("get", "namespaces", "-l", "app.kubernetes.io/part-of=kubeflow-profile", "-o", "name").split()
    assert {"namespace/admin", "namespace/team-a", "namespace/team-b"} <= set(profiles)


def test_credentials_are_readable_by_the_owner_only(sandbox: Sandbox) -> None:
    secret = sandbox.info.s3_secret_key.encode()
    assert any(b"versitygw" in line.encode() for line in marked(sandbox.folder)), "the processes are found"
    assert not any(secret in line.encode() for line in marked(sandbox.folder))
    readable = [(path, content) for path, content, mode in contents(sandbox.folder) if mode & 0o077]
    assert not [path for path, content in readable if secret in content or b"BEGIN EC PRIVATE KEY" in content]
    assert sandbox.folder.stat().st_mode & 0o077 == 0


def test_owned_object_is_collected_at_once_when_its_owner_is_deleted(sandbox: Sandbox) -> None:
    """The owner is a custom resource: a garbage collector that started before its CRD would need half a minute."""
    owner = {"apiVersion": "kubeflow.org/v1alpha1", "kind": "PodDefault", "metadata": {"name": "owner"}, "spec": {"selector": {}}}
    sandbox.kubectl("-n", "admin", "apply", "-f", "-", stdin=json.dumps(owner))
    uid = sandbox.kubectl("-n", "admin", "get", "poddefault", "owner", "-o", "jsonpath={.metadata.uid}")
    reference = {"apiVersion": "kubeflow.org/v1alpha1", "kind": "PodDefault", "name": "owner", "uid": uid}
    owned = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "owned", "ownerReferences": [reference]}}
    sandbox.kubectl("-n", "admin", "apply", "-f", "-", stdin=json.dumps(owned))
    sandbox.kubectl("-n", "admin", "delete", "poddefault", "owner")
    assert within(10, lambda: not sandbox.kubectl("-n", "admin", "get", "configmaps", "owned", "--ignore-not-found"))


def test_namespace_can_be_deleted(sandbox: Sandbox) -> None:
    sandbox.add_namespace("passing")
    sandbox.kubectl("delete", "namespace", "passing", "--timeout=20s")


def test_restarted_component_keeps_its_port_and_data(sandbox: Sandbox) -> None:
    created = mlflow(sandbox.info, "experiments/create", {"name": "before"})
    sandbox.stop("mlflow")
    assert not sandbox.running()["mlflow"]
    with pytest.raises(urllib.error.URLError, match="refused"):
        get(f"{sandbox.info.mlflow_url}/health")
    sandbox.start("mlflow")
    found = json.loads(get(f"{sandbox.info.mlflow_url}/api/2.0/mlflow/experiments/get-by-name?experiment_name=before"))
    assert found["experiment"]["experiment_id"] == created["experiment_id"]


def test_up_restarts_dead_components_only(sandbox: Sandbox) -> None:
    sandbox.kubectl("-n", "admin", "create", "configmap", "survivor")
    sandbox.stop("apiserver", kill=True)
    before = pids(sandbox)
    again = Sandbox("core", sandbox.folder, without=STAND_INS)
    assert again.up() == sandbox.info
    after = pids(sandbox)
    assert {name for name in after if after[name] != before[name]} == {"apiserver"}
    assert "survivor" in sandbox.kubectl("-n", "admin", "get", "configmaps", "-o", "name")
    again.up()
    assert pids(sandbox) == after


def test_unknown_component_is_reported_with_the_known_ones(sandbox: Sandbox) -> None:
    with pytest.raises(SandboxError, match=r"no component 'mlfow'; there are etcd, .*mlflow"):
        sandbox.stop("mlfow")


def test_guard_keeps_the_sandbox_running_when_it_reads_done(sandbox: Sandbox) -> None:
    command = [sys.executable, "-m", "sandbox", "guard", "--name", "core", "--folder", str(sandbox.folder)]
    subprocess.run(command, cwd=places.ROOT, input=b"done", check=True)
    assert sandbox.running()["apiserver"]
