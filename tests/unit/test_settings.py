"""The administrator's settings come from the environment, and a wrong one is named."""

from datetime import timedelta

import pytest

from winepipelines.settings import Settings, SettingsError

ADDRESSES = {"WINE_KFP_URL": "http://kfp/", "WINE_MLFLOW_URL": "http://mlflow", "WINE_S3_ENDPOINT_URL": "http://minio"}


def test_addresses_suffice() -> None:
    settings = Settings.from_environment(ADDRESSES)
    assert settings.kfp_url == "http://kfp"
    assert settings.mlflow_url_in_steps == "http://mlflow"
    assert settings.platform_namespace == "kubeflow"


def test_missing_addresses_are_named() -> None:
    with pytest.raises(SettingsError, match="WINE_KFP_URL, WINE_MLFLOW_URL, WINE_S3_ENDPOINT_URL"):
        Settings.from_environment({})


def test_patience_is_in_seconds() -> None:
    settings = Settings.from_environment({**ADDRESSES, "WINE_CHECK_INTERVAL_SECONDS": "1.5", "WINE_WORKERS": "3"})
    assert settings.policy.check_interval == timedelta(seconds=1.5)
    assert settings.workers == 3


@pytest.mark.parametrize(
    ("name", "value"), [("WINE_POLL_SECONDS", "soon"), ("WINE_WORKERS", "1.5"), ("WINE_RETRY_INTERVAL_SECONDS", "-1")]
)
def test_a_malformed_number_is_named(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        Settings.from_environment({**ADDRESSES, name: value})


def test_an_endpoint_with_a_protocols_path_is_refused() -> None:
    address = "http://gateway/seldon/{namespace}/{name}"
    assert Settings.from_environment({**ADDRESSES, "WINE_ENDPOINT_TEMPLATE": address}).endpoint_template == address
    with pytest.raises(SettingsError, match="WINE_ENDPOINT_TEMPLATE"):
        Settings.from_environment({**ADDRESSES, "WINE_ENDPOINT_TEMPLATE": f"{address}/api/v1.0/predictions"})


@pytest.mark.parametrize(
    ("image", "version"),
    [
        ("registry:5000/seldonio/mlflowserver:1.17.1", "1.17.1"),
        ("registry:5000/seldonio/mlflowserver", ""),
        ("mine:latest", "latest"),
    ],
)
def test_another_mlflowserver_image_is_of_the_release_that_its_tag_says(image: str, version: str) -> None:
    assert Settings.from_environment({**ADDRESSES, "WINE_MLFLOWSERVER_IMAGE": image}).mlflowserver_version == version
    named = {"WINE_MLFLOWSERVER_IMAGE": image, "WINE_MLFLOWSERVER_VERSION": "1.16.0"}
    assert Settings.from_environment({**ADDRESSES, **named}).mlflowserver_version == "1.16.0"


def test_namespaces_are_a_list() -> None:
    assert Settings.from_environment(ADDRESSES).namespaces == ()
    settings = Settings.from_environment({**ADDRESSES, "WINE_NAMESPACES": "team-a, team-b,"})
    assert settings.namespaces == ("team-a", "team-b")


def test_a_choice_that_there_is_not_is_named() -> None:
    with pytest.raises(SettingsError, match="WINE_LOG_LEVEL: 'loud' is none of debug, info, warning, error"):
        Settings.from_environment({**ADDRESSES, "WINE_LOG_LEVEL": "loud"})
