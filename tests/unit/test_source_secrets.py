"""The Secret that models are copied with: every form and name that platforms use, for each serving backend."""

import base64
from dataclasses import replace

import pytest
from support.backends import kserve_backend, seldon_backend
from support.settings import SETTINGS
from support.survey import GOOD, find, only_failure

from winepipelines.api.observed import SecretState
from winepipelines.api.sourcesecret import SourceSecret
from winepipelines.doctor.observations import SourceView
from winepipelines.doctor.rights import rights
from winepipelines.platform.kubernetes import Body
from winepipelines.platform.sources import find_source, source_state

AWS = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
KUBEFLOW = {"accesskey": "a", "secretkey": "b"}
RCLONE = {
    "RCLONE_CONFIG_S3_TYPE": "s3",
    "RCLONE_CONFIG_S3_PROVIDER": "minio",
    "RCLONE_CONFIG_S3_ENV_AUTH": "false",
    "RCLONE_CONFIG_S3_ACCESS_KEY_ID": "a",
    "RCLONE_CONFIG_S3_SECRET_ACCESS_KEY": "b",
    "RCLONE_CONFIG_S3_ENDPOINT": "http://store:8333",
}
SELDON = seldon_backend(SETTINGS, source_secret="auto", s3_endpoint_url="http://store:8333").source
KSERVE = kserve_backend(SETTINGS, kserve_source_secret="auto", s3_endpoint_url="http://store:8333").source


def encoded(values: dict[str, str]) -> dict[str, str]:
    return {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}


@pytest.mark.parametrize("values", [AWS, KUBEFLOW, RCLONE], ids=["AWS", "Kubeflow", "rclone"])
class TestForms:
    def test_every_form_becomes_rclone_settings_for_seldon(self, values: dict[str, str]) -> None:
        assert SELDON.copied(encoded(values)) == encoded(RCLONE)

    def test_every_form_becomes_the_keys_and_annotations_of_kserve(self, values: dict[str, str]) -> None:
        assert KSERVE.copied(encoded(values)) == encoded(AWS)
        assert KSERVE.annotations(encoded(values))["serving.kserve.io/s3-endpoint"] == "store:8333"

    @pytest.mark.parametrize("source", [SELDON, KSERVE], ids=["seldon", "kserve"])
    def test_every_form_gives_both_backends_the_same_access(self, source: SourceSecret, values: dict[str, str]) -> None:
        access = source.access(values)
        assert (access.endpoint, access.access_key, access.secret_key) == ("http://store:8333", "a", "b")

    @pytest.mark.parametrize("source", [SELDON, KSERVE], ids=["seldon", "kserve"])
    def test_missing_secret_key_is_named_in_the_form_of_the_secret(self, source: SourceSecret, values: dict[str, str]) -> None:
        key = next(key for key in values if key.lower().replace("_", "").endswith(("secretkey", "secretaccesskey")))
        left = {name: value for name, value in encoded(values).items() if name != key}
        assert source_state("kubeflow", source, {"data": left}).missing_keys == (key,)


def test_copy_for_seldon_has_nothing_but_settings_of_the_remote() -> None:
    assert SELDON.copied(encoded({**KUBEFLOW, "LD_PRELOAD": "x"})) == encoded(RCLONE)
    assert SELDON.copied(encoded({**RCLONE, "AWS_PROFILE": "x"})) == encoded(RCLONE)


def test_copy_of_no_secret_is_empty() -> None:
    assert SELDON.copied({}) == {}
    assert KSERVE.copied({}) == {}


class TestChoice:
    @staticmethod
    async def choose(source: SourceSecret, secrets: dict[str, dict[str, str]]) -> tuple[SourceSecret, Body | None]:
        async def get(name: str) -> Body | None:
            return {"data": encoded(secrets[name])} if name in secrets else None

        return await find_source(get, source)

    async def test_guides_secret_precedes_all_others_for_seldon(self) -> None:
        secrets = {"mlpipeline-minio-artifact": KUBEFLOW, "mlflow-server-seldon-init-container-s3-credentials": RCLONE}
        source, secret = await self.choose(SELDON, secrets)
        assert source.names == ("mlflow-server-seldon-init-container-s3-credentials",)
        assert secret == {"data": encoded(RCLONE)}

    @pytest.mark.parametrize("source", [SELDON, KSERVE], ids=["seldon", "kserve"])
    async def test_upstreams_secret_is_taken_when_it_is_the_only_one(self, source: SourceSecret) -> None:
        found, secret = await self.choose(source, {"mlpipeline-minio-artifact": KUBEFLOW})
        assert found.name == "mlpipeline-minio-artifact"
        assert secret is not None

    async def test_incomplete_secret_is_passed_over_for_a_complete_one(self) -> None:
        secrets = {"kserve-controller-s3": {"AWS_ACCESS_KEY_ID": "a"}, "mlflow-server-minio-artifact": AWS}
        source, _ = await self.choose(KSERVE, secrets)
        assert source.name == "mlflow-server-minio-artifact"

    async def test_incomplete_secret_is_reported_when_no_other_is_there(self) -> None:
        source, secret = await self.choose(KSERVE, {"kserve-controller-s3": {"AWS_ACCESS_KEY_ID": "a"}})
        state = source_state("kubeflow", source, secret)
        assert state == SecretState("kubeflow", "kserve-controller-s3", True, ("AWS_SECRET_ACCESS_KEY",))

    async def test_all_names_are_reported_when_none_is_there(self) -> None:
        source, secret = await self.choose(KSERVE, {})
        state = source_state("kubeflow", source, secret)
        assert (state.exists, state.name) == (False, "kserve-controller-s3")
        assert state.others == ("mlflow-server-minio-artifact", "mlpipeline-minio-artifact")

    async def test_named_secret_is_the_only_one_that_is_read(self) -> None:
        source, secret = await self.choose(
            seldon_backend(SETTINGS, source_secret="mine").source, {"mlpipeline-minio-artifact": AWS}
        )
        assert (source.names, secret) == (("mine",), None)


class TestDoctor:
    VIEW = SourceView(SecretState("kubeflow", "mlpipeline-minio-artifact", True), {}, "http://store:8333", SELDON.names)

    def test_finding_names_the_secret_and_why_it_was_taken(self) -> None:
        message = find(replace(GOOD, source=self.VIEW), "source secret is complete").message
        assert message.startswith(
            "mlpipeline-minio-artifact in kubeflow, for http://store:8333: the first complete one of mlflow-"
        )

    def test_finding_names_every_secret_that_was_looked_for(self) -> None:
        state = SecretState("kubeflow", "one", False, others=("two", "three"))
        finding = only_failure(replace(GOOD, source=replace(self.VIEW, state=state), bucket=None))
        assert "The Secret one in namespace kubeflow does not exist, nor does two or three" in finding.message


def test_rights_cover_every_known_secret_and_read_none_twice() -> None:
    found = [right for right in rights(SETTINGS, seldon_backend(SETTINGS, source_secret="auto")) if right.namespace == "kubeflow"]
    assert {right.name: right.verbs for right in found} == {
        "mlflow-server-seldon-init-container-s3-credentials": ("get", "list", "watch"),
        "mlflow-server-seldon-rclone-secret": ("get", "list", "watch"),
        "mlflow-server-minio-artifact": ("get", "list", "watch"),
        "mlpipeline-minio-artifact": ("list", "watch"),  # every namespace's may be read
    }
