"""What the server reads from Seldon's environment."""

from pathlib import Path

import pytest

from wineserver.environment import Environment, EnvironmentInvalidError

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
    ],
)
def test_what_cannot_be_meant_is_named(variable: str, value: str) -> None:
    with pytest.raises(EnvironmentInvalidError, match=variable):
        Environment.read({variable: value})
