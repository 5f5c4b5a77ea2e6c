"""The Secret that models are copied with: every form and name that platforms use, for each serving backend."""

import base64
from dataclasses import replace
from typing import ClassVar

import pytest
from support.backends import kserve_backend, seldon_backend
from support.settings import SETTINGS
from support.survey import GOOD, find, only_failure

from winepipelines.api.observed import SecretState
from winepipelines.api.sourcesecret import SourceSecret
from winepipelines.doctor.observations import SourceView
from winepipelines.doctor.rights import rights
from winepipelines.platform.kubernetes import Body, secret_values
from winepipelines.platform.sources import FoundSource, Places, find_source, find_source_of, source_state

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


class TestProfile:
    """With `auto`, the keys of the profile's own Secret take precedence where they are for the same store."""

    OWN: ClassVar = {"accesskey": "own", "secretkey": "own too"}

    @staticmethod
    async def choose(
        source: SourceSecret,
        platform: dict[str, dict[str, str]],
        profile: dict[str, str] | None,
        *,
        has_steps: bool = True,
        endpoint: str = "http://store:8333",
    ) -> FoundSource:
        async def get(namespace: str, name: str) -> Body | None:
            own = {} if profile is None else {"mlpipeline-minio-artifact": profile}
            found = (platform if namespace == "kubeflow" else own).get(name)
            return None if found is None else {"data": encoded(found)}

        return await find_source_of(get, source, Places("kubeflow", "team", has_steps, endpoint))

    @pytest.mark.parametrize("source", [SELDON, KSERVE], ids=["seldon", "kserve"])
    @pytest.mark.parametrize("platform", [{}, {"mlpipeline-minio-artifact": KUBEFLOW}, {"mlflow-server-minio-artifact": AWS}])
    async def test_profiles_keys_are_copied_instead_of_the_platforms(
        self, source: SourceSecret, platform: dict[str, dict[str, str]]
    ) -> None:
        found = await self.choose(source, platform, self.OWN)
        assert found.state == SecretState("team", "mlpipeline-minio-artifact", True)
        assert found.secret is not None
        access = found.source.access(secret_values(found.secret))
        assert (access.endpoint, access.access_key, access.secret_key) == ("http://store:8333", "own", "own too")

    async def test_profiles_keys_are_used_with_rclone_settings_for_the_same_store(self) -> None:
        found = await self.choose(SELDON, {"mlflow-server-seldon-rclone-secret": RCLONE}, self.OWN)
        assert found.namespace == "team"
        regional = {**RCLONE, "RCLONE_CONFIG_S3_REGION": "us-east-1"}
        assert (await self.choose(SELDON, {"mlflow-server-seldon-rclone-secret": regional}, self.OWN)).namespace == "team"

    async def test_names_of_one_service_are_one_store(self) -> None:
        charm = {**RCLONE, "RCLONE_CONFIG_S3_ENDPOINT": "http://minio.kubeflow:9000"}
        endpoint = "http://minio.kubeflow.svc.cluster.local:9000"
        found = await self.choose(SELDON, {"mlflow-server-seldon-rclone-secret": charm}, self.OWN, endpoint=endpoint)
        assert found.namespace == "team"

    @pytest.mark.parametrize(
        "more",
        [
            {"RCLONE_CONFIG_S3_ENDPOINT": "http://elsewhere:9000"},
            {"RCLONE_CONFIG_S3_REGION": "eu-west-1"},
            {"RCLONE_CONFIG_S3_NO_CHECK_BUCKET": "true"},
        ],
    )
    async def test_platforms_secret_is_used_for_another_store_or_with_more_settings(self, more: dict[str, str]) -> None:
        found = await self.choose(SELDON, {"mlflow-server-seldon-rclone-secret": {**RCLONE, **more}}, self.OWN)
        assert (found.namespace, found.source.name) == ("kubeflow", "mlflow-server-seldon-rclone-secret")
        assert found.why.startswith("it is for another store")

    async def test_platforms_secret_is_used_without_a_complete_one_in_the_profile(self) -> None:
        for profile in (None, {"accesskey": "own"}, AWS):
            found = await self.choose(KSERVE, {"kserve-controller-s3": AWS}, profile)
            assert (found.namespace, found.why) == ("kubeflow", "team has no complete Secret mlpipeline-minio-artifact")

    async def test_platforms_secret_is_used_where_steps_run_elsewhere(self) -> None:
        found = await self.choose(KSERVE, {"kserve-controller-s3": AWS}, self.OWN, has_steps=False)
        assert (found.namespace, found.why) == ("kubeflow", "steps do not run in team")

    async def test_secret_that_the_administrator_named_is_used(self) -> None:
        named = seldon_backend(SETTINGS, source_secret="mine").source
        found = await self.choose(named, {"mine": RCLONE}, self.OWN)
        assert (found.namespace, found.why) == ("kubeflow", "the administrator named it")

    async def test_profile_chooses_neither_the_store_nor_settings(self) -> None:
        profile = {**self.OWN, **RCLONE, "AWS_ENDPOINT_URL": "http://evil", "RCLONE_CONFIG_S3_ENDPOINT": "http://evil"}
        for source in (SELDON, KSERVE):
            found = await self.choose(source, {}, profile)
            assert found.secret == {"data": encoded(self.OWN)}


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
    }, "mlpipeline-minio-artifact may be read in every namespace"
