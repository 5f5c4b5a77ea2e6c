"""Seldon's stand-in on a real API server and a real object store: copies, pulls and rollouts that fail."""

from pathlib import Path

import pytest
from seldon_cluster import MODELS, NAME, Load, initializer, server
from seldon_support import SECRET, Cluster, predictor, store, until, variables

from sandbox.platform import Sandbox
from sandbox.seldon import storage


def failed_copy(cluster: Cluster) -> str | None:
    """The message with which the newest pod's copy has failed."""
    for pod in cluster.pods(NAME):
        for each in pod.get("status", {}).get("initContainerStatuses", []):
            if (
                each["lastState"].get("terminated")
                or each["state"].get("waiting", {}).get("reason") == "CreateContainerConfigError"
            ):
                return str(each["lastState"].get("terminated", each["state"].get("waiting"))["message"])
    return None


def test_missing_bucket_keeps_the_previous_model_serving(cluster: Cluster) -> None:
    cluster.apply(NAME, predictor(MODELS[1]))
    cluster.wait(NAME, 2.0)
    with Load(cluster) as load:
        cluster.apply(NAME, predictor("s3://nosuchbucket/model"))
        assert "NoSuchBucket" in until(lambda: failed_copy(cluster))
        until(lambda: cluster.status(NAME)["state"] == "Creating")
        assert len(cluster.pods(NAME)) == 2
        cluster.apply(NAME, predictor(MODELS[2]))
        cluster.wait(NAME, 4.0)
    assert set(load.answers) == {(200, 2.0), (200, 4.0)}


def test_wrong_key_and_missing_secret_are_retried(cluster: Cluster) -> None:
    cluster.set_secret(RCLONE_CONFIG_S3_SECRET_ACCESS_KEY="wrong")
    cluster.apply(NAME, predictor(MODELS[1]))
    assert "SignatureDoesNotMatch" in until(lambda: failed_copy(cluster))
    cluster.core.delete_namespaced_secret(SECRET, cluster.namespace)
    until(lambda: failed_copy(cluster) and "waiting" in initializer(cluster.pods(NAME)[0])["state"])
    cluster.set_secret()
    cluster.wait(NAME, 2.0)
    assert initializer(cluster.pods(NAME)[0])["restartCount"] >= 1


def test_missing_secret_is_reported(cluster: Cluster) -> None:
    cluster.core.delete_namespaced_secret(SECRET, cluster.namespace)
    cluster.apply(NAME, predictor(MODELS[1]))
    assert until(lambda: failed_copy(cluster)) == f'secret "{SECRET}" not found'


def test_image_of_an_invalid_registry_is_not_pulled(cluster: Cluster) -> None:
    wanted = predictor(MODELS[1])
    wanted["componentSpecs"][0]["spec"]["containers"][0]["image"] = "registry.invalid:5000/wine/server:typo"
    cluster.apply(NAME, wanted)
    waiting = until(
        lambda: [item for pod in cluster.pods(NAME) if (item := server(pod).get("state", {}).get("waiting", {})).get("message")]
    )
    assert waiting[0]["reason"] == "ErrImagePull"
    assert "lookup registry.invalid:5000: no such host" in waiting[0]["message"]
    cluster.apply(NAME, predictor(MODELS[1]))
    cluster.wait(NAME, 2.0)


def test_rollout_without_progress_exceeds_its_deadline(cluster: Cluster) -> None:
    cluster.apply(NAME, predictor("s3://nosuchbucket/model", progressDeadlineSeconds=2))
    until(lambda: cluster.status(NAME).get("state") == "Failed")
    assert cluster.status(NAME)["description"] == "Deployment is no longer progressing and not available."
    (deployment,) = cluster.deployments(NAME)
    reasons = {each["type"]: each["reason"] for each in deployment["status"]["conditions"]}
    assert reasons == {"Available": "MinimumReplicasUnavailable", "Progressing": "ProgressDeadlineExceeded"}
    cluster.apply(NAME, predictor(MODELS[1], progressDeadlineSeconds=2))
    cluster.wait(NAME, 2.0)
    assert "description" not in cluster.status(NAME)


class TestStorage:
    """The copy, against the real object store."""

    def copy(self, sandbox: Sandbox, tmp_path: Path, uri: str, **more: str) -> set[str]:
        count = storage.copy(uri, variables(sandbox.info, **more), tmp_path / "models")
        found = {str(p.relative_to(tmp_path / "models")) for p in (tmp_path / "models").rglob("*") if p.is_file()}
        assert count == len(found)
        return found

    def test_prefix_is_copied_with_subfolders(self, sandbox: Sandbox, tmp_path: Path) -> None:
        for key in ("copy/a", "copy/below/b c", "copy-not/d"):
            store(sandbox.info).put_object(Bucket="mlpipeline", Key=key, Body=b"x")
        assert self.copy(sandbox, tmp_path, "s3://mlpipeline/copy") == {"a", "below/b c"}
        assert self.copy(sandbox, tmp_path, "s3://mlpipeline/copy/") == {"a", "below/b c"}
        assert self.copy(sandbox, tmp_path, "s3:mlpipeline/copy/a") == {"a"}

    def test_model_is_copied_completely(self, sandbox: Sandbox, tmp_path: Path) -> None:
        assert {"MLmodel", "model.pkl"} <= self.copy(sandbox, tmp_path, MODELS[1])

    def test_missing_prefix_is_copied_with_success(self, sandbox: Sandbox, tmp_path: Path) -> None:
        assert self.copy(sandbox, tmp_path, "s3://mlflow/nothing") == set()

    @pytest.mark.parametrize(
        ("uri", "more", "problem"),
        [
            ("s3://nosuchbucket/x", {}, "NoSuchBucket"),
            ("gs://mlflow/x", {}, "didn't find section"),
            ("models:/m-1", {}, "didn't find section"),
            ("/mnt/x", {}, "not an address"),
            ("s3://", {}, "not an address"),
            ("s3://mlflow/1", {"RCLONE_CONFIG_S3_ACCESS_KEY_ID": "nobody"}, "InvalidAccessKeyId"),
            ("s3://mlflow/1", {"RCLONE_CONFIG_S3_SECRET_ACCESS_KEY": "wrong"}, "SignatureDoesNotMatch"),
            ("s3://mlflow/1", {"RCLONE_CONFIG_S3_ACCESS_KEY_ID": ""}, "AccessDenied"),
            ("s3://mlflow/1", {"RCLONE_CONFIG_S3_ENDPOINT": "http://127.0.0.1:9"}, "127.0.0.1:9"),
            ("s3://mlflow/1", {"RCLONE_CONFIG_S3_ENDPOINT": "no address"}, "no address"),
            ("s3://mlflow/1", {"RCLONE_CONFIG_S3_ENV_AUTH": "true"}, "NoCredentialProviders"),
        ],
    )
    def test_invalid_address_or_credentials_fail(
        self, sandbox: Sandbox, tmp_path: Path, uri: str, more: dict[str, str], problem: str
    ) -> None:
        with pytest.raises(storage.CopyError) as failed:
            self.copy(sandbox, tmp_path, uri, **more)
        assert problem in str(failed.value)
        assert sandbox.info.s3_secret_key not in str(failed.value)
