"""What the server reads from Seldon's environment."""

from pathlib import Path

import pytest

from wineserver.environment import Environment, EnvironmentInvalidError, Identity

PARAMETERS = '[{"name":"model_uri","value":"/mnt/a model","type":"STRING"}]'


def test_the_defaults_are_seldons() -> None:
    assert Environment.read({}) == Environment(Path("/mnt/models"), "classifier", 9000, "0.0.0.0", 10 * 1024 * 1024)


def test_seldon_names_folder_model_and_port() -> None:
    read = Environment.read(
        {
            "PREDICTIVE_UNIT_PARAMETERS": PARAMETERS,
            "PREDICTIVE_UNIT_ID": "wine",
            "MLSERVER_MODEL_NAME": "other",
            "PREDICTIVE_UNIT_SERVICE_PORT": "9001",
            "MLSERVER_HTTP_PORT": "9002",
        }
    )
    assert (read.folder, read.name, read.port) == (Path("/mnt/a model"), "wine", 9001)


def test_protocol_v2_names_them_in_mlservers_way() -> None:
    read = Environment.read({"MLSERVER_MODEL_URI": "/m", "MLSERVER_MODEL_NAME": "wine", "MLSERVER_HTTP_PORT": "9002"})
    assert (read.folder, read.name, read.port) == (Path("/m"), "wine", 9002)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("PREDICTIVE_UNIT_PARAMETERS", "nonsense"),
        ("PREDICTIVE_UNIT_PARAMETERS", '{"model_uri": "/m"}'),
        ("PREDICTIVE_UNIT_HTTP_SERVICE_PORT", "http"),
        ("WINE_MAX_BODY_BYTES", "-1"),
        ("WINE_MAX_BODY_BYTES", "0"),
        ("WINE_DRAIN_SECONDS", "-1"),
        ("CORS_ALLOWED_ORIGINS", "a\r\nSet-Cookie: b"),
        ("CORS_ALLOWED_HEADERS", "ü"),
    ],
)
def test_what_cannot_be_meant_is_named(variable: str, value: str) -> None:
    with pytest.raises(EnvironmentInvalidError, match=variable):
        Environment.read({variable: value})


def test_seldon_says_whose_pod_it_is() -> None:
    read = Environment.read(
        {
            "SELDON_DEPLOYMENT_ID": "mlflow",
            "PREDICTOR_ID": "default",
            "PREDICTOR_LABELS": '{"version": "v1"}',
            "PREDICTIVE_UNIT_IMAGE": "server:0.1.0",
            "CORS_ALLOWED_ORIGINS": "https://wine.example",
        }
    )
    assert read.identity == Identity("mlflow", "default", "v1", "server:0.1.0")
    assert read.allowed_origins == "https://wine.example"


@pytest.mark.parametrize("labels", ["", "null", "[]", "nonsense", "{}"])
def test_labels_without_a_version_are_none(labels: str) -> None:
    assert Environment.read({"PREDICTOR_LABELS": labels}).identity == Identity()


@pytest.mark.parametrize(
    ("image", "parts"),
    [
        ("server:0.1.0", ("server", "0.1.0")),
        ("registry:5000/wine/server", ("registry:5000/wine/server", "")),
        ("registry:5000/wine/server:0.1.0", ("registry:5000/wine/server", "0.1.0")),
        ("wine/server@sha256:abc", ("wine/server", "sha256:abc")),
        ("wine/server:0.1.0@sha256:abc", ("wine/server:0.1.0", "sha256:abc")),
        ("", ("", "")),
    ],
)
def test_an_image_has_a_name_and_a_version(image: str, parts: tuple[str, str]) -> None:
    assert Identity(image=image).image_parts() == parts


def test_the_executor_is_in_front_where_the_port_is_its_own() -> None:
    assert Environment.read({}).behind_executor
    assert not Environment.read({"PREDICTIVE_UNIT_HTTP_SERVICE_PORT": "8000"}).behind_executor
