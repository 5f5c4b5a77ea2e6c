"""Settings are read from the environment, and errors name the invalid one."""

from datetime import timedelta

import pytest

from winepipelines.environment import SettingsError, unknown_variables
from winepipelines.serving.backends import all_settings, backends_of
from winepipelines.serving.seldon.settings import SeldonSettings
from winepipelines.settings import Settings

ADDRESSES = {"WINE_KFP_URL": "http://kfp/", "WINE_MLFLOW_URL": "http://mlflow", "WINE_S3_ENDPOINT_URL": "http://minio"}


def test_addresses_are_enough() -> None:
    settings = Settings.from_environment(ADDRESSES)
    assert settings.kfp_url == "http://kfp"
    assert settings.mlflow_url_in_steps == "http://mlflow"
    assert settings.platform_namespace == "kubeflow"


def test_missing_addresses_are_named() -> None:
    with pytest.raises(SettingsError, match=r"WINE_KFP_URL .*, WINE_MLFLOW_URL .*, WINE_S3_ENDPOINT_URL "):
        Settings.from_environment({})


def test_timeouts_are_in_seconds() -> None:
    settings = Settings.from_environment({**ADDRESSES, "WINE_CHECK_INTERVAL_SECONDS": "1.5", "WINE_WORKERS": "3"})
    assert settings.timeouts.check_interval == timedelta(seconds=1.5)
    assert settings.workers == 3


@pytest.mark.parametrize(
    ("name", "value"), [("WINE_POLL_SECONDS", "soon"), ("WINE_WORKERS", "1.5"), ("WINE_RETRY_INTERVAL_SECONDS", "-1")]
)
def test_malformed_number_is_named(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        Settings.from_environment({**ADDRESSES, name: value})


def test_endpoint_with_a_protocol_path_is_rejected() -> None:
    address = "http://gateway/seldon/{namespace}/{name}"
    assert SeldonSettings.from_environment({"WINE_ENDPOINT_TEMPLATE": address}).endpoint_template == address
    with pytest.raises(SettingsError, match="WINE_ENDPOINT_TEMPLATE"):
        SeldonSettings.from_environment({"WINE_ENDPOINT_TEMPLATE": f"{address}/api/v1.0/predictions"})


@pytest.mark.parametrize(
    ("image", "version"),
    [
        ("registry:5000/seldonio/mlflowserver:1.17.1", "1.17.1"),
        ("registry:5000/seldonio/mlflowserver", ""),
        (f"registry:5000/seldonio/mlflowserver:1.17.1@sha256:{'0' * 64}", "1.17.1"),
        ("mine:latest", "latest"),
    ],
)
def test_mlflowserver_version_defaults_to_the_tag(image: str, version: str) -> None:
    assert SeldonSettings.from_environment({"WINE_MLFLOWSERVER_IMAGE": image}).mlflowserver_version == version
    named = {"WINE_MLFLOWSERVER_IMAGE": image, "WINE_MLFLOWSERVER_VERSION": "1.16.0"}
    assert SeldonSettings.from_environment({**named}).mlflowserver_version == "1.16.0"


def test_mlflowserver_image_with_a_digest_needs_its_version() -> None:
    image = {"WINE_MLFLOWSERVER_IMAGE": f"seldonio/mlflowserver@sha256:{'0' * 64}"}
    with pytest.raises(SettingsError, match="a digest alone does not tell"):
        SeldonSettings.from_environment({**image})
    settings = SeldonSettings.from_environment({**image, "WINE_MLFLOWSERVER_VERSION": "1.18.2"})
    assert settings.mlflowserver_version == "1.18.2"


def test_switch_is_true_or_false() -> None:
    assert not SeldonSettings.from_environment({}).seldon_executor
    assert SeldonSettings.from_environment({"WINE_SELDON_EXECUTOR": "true"}).seldon_executor
    with pytest.raises(SettingsError, match=r"chart value seldon.executor\): 'yes' is neither true nor false"):
        SeldonSettings.from_environment({"WINE_SELDON_EXECUTOR": "yes"})


def test_namespaces_are_a_list() -> None:
    assert Settings.from_environment(ADDRESSES).namespaces == ()
    settings = Settings.from_environment({**ADDRESSES, "WINE_NAMESPACES": "team-a, team-b,"})
    assert settings.namespaces == ("team-a", "team-b")


def test_unknown_choice_is_named_with_the_choices() -> None:
    with pytest.raises(
        SettingsError, match=r"WINE_LOG_LEVEL \(chart value logging.level\): 'loud' is not one of debug, info, warning, error"
    ):
        Settings.from_environment({**ADDRESSES, "WINE_LOG_LEVEL": "loud"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WINE_KFP_URL", "ml-pipeline.kubeflow:8888"),
        ("WINE_KFP_URL", "grpc://ml-pipeline.kubeflow:8887"),
        ("WINE_KFP_URL", "http://ml-pipeline.kubeflow:port"),
        ("WINE_KFP_URL", "http://ml pipeline"),
        ("WINE_MLFLOW_URL", "http://mlflow/?token=x"),
        ("WINE_MLFLOW_URL", "http://user:password@mlflow"),
        ("WINE_S3_ENDPOINT_URL", "s3://bucket"),
        ("WINE_S3_ENDPOINT_URL", "http://minio:9000/bucket"),
        ("WINE_KFP_UI_URL", "kubeflow.example.org"),
        ("WINE_STEPS_MLFLOW_URL", "mlflow"),
        ("WINE_KFP_SERVICE_ACCOUNT", "default_editor"),
        ("WINE_MLFLOW_SECRET", "kubeflow/mlflow"),
        ("WINE_SOURCE_SECRET", ""),
        ("WINE_PLATFORM_NAMESPACE", "Kubeflow"),
        ("WINE_NAMESPACES", "team-a,team_b"),
        ("WINE_NAMESPACES", "team-a,team-a"),
        ("WINE_ARTIFACTS_DESTINATION", "/mlflow"),
        ("WINE_PREDICTION_OUTPUT_FOLDER", ""),
        ("WINE_PREDICTION_OUTPUT_FOLDER", "private"),
        ("WINE_PREDICTION_OUTPUT_FOLDER", "s3://mlpipeline/a b"),
        ("WINE_PREDICTION_OUTPUT_FOLDER", "s3://mlpipeline/../other"),
        ("WINE_PREDICTION_OUTPUT_FOLDER", "s3://mlpipeline/" + "a" * 600),
        ("WINE_ENDPOINT_TEMPLATE", "http://gateway/seldon"),
        ("WINE_ENDPOINT_TEMPLATE", "http://gateway/{nmespace}/{name}"),
        ("WINE_ENDPOINT_TEMPLATE", "http://gateway/{namespace/{name}"),
        ("WINE_ENDPOINT_TEMPLATE", "gateway/{namespace}/{name}"),
        ("WINE_PREDICTOR_TEMPLATE", "http://gateway/{namespace}/{name}"),
        ("WINE_STEPS_IMAGE", "winepipelines/steps:0.1.0:latest"),
        ("WINE_SERVER_IMAGE", "Winepipelines/Server"),
        ("WINE_MLFLOWSERVER_IMAGE", "seldonio/mlflowserver: 1.18.2"),
        ("WINE_MAX_DATA_BYTES", "0"),
        ("WINE_MAX_DATA_BYTES", "1e9"),
        ("WINE_WORKERS", "0"),
        ("WINE_POLL_SECONDS", "0"),
        ("WINE_REQUEST_SECONDS", "nan"),
        ("WINE_REQUEST_SECONDS", ""),
        ("WINE_RECONCILE_SECONDS", "inf"),
        ("WINE_CHECK_INTERVAL_SECONDS", "0"),
        ("WINE_CHECK_INTERVAL_SECONDS", "1e300"),
        ("WINE_RETRY_INTERVAL_SECONDS", "nan"),
        ("WINE_PROBE_PORT", "65536"),
        ("WINE_METRICS_PORT", "-1"),
        ("WINE_METRICS_PORT", "metrics"),
        ("WINE_TEMPLATES", ""),
    ],
)
def test_invalid_value_is_rejected_with_its_chart_value(name: str, value: str) -> None:
    reader = next(settings for settings in all_settings() if name in settings.variables())
    with pytest.raises(SettingsError) as error:
        reader.from_environment({**ADDRESSES, name: value})
    assert str(error.value).startswith(reader.named(name))
    assert "password" not in str(error.value).lower()


def test_every_invalid_value_is_named() -> None:
    with pytest.raises(SettingsError, match=r"WINE_WORKERS .*; WINE_RETRY_INTERVAL_SECONDS "):
        Settings.from_environment({**ADDRESSES, "WINE_WORKERS": "0", "WINE_RETRY_INTERVAL_SECONDS": "-1"})


def test_probe_and_metrics_need_different_ports() -> None:
    with pytest.raises(SettingsError, match=r"WINE_METRICS_PORT .*8080 is the probe's port"):
        Settings.from_environment({**ADDRESSES, "WINE_PROBE_PORT": "8080", "WINE_METRICS_PORT": "8080"})
    assert Settings.from_environment({**ADDRESSES, "WINE_PROBE_PORT": "0", "WINE_METRICS_PORT": "0"}).metrics_port == 0


def test_misspelt_variable_is_found() -> None:
    environment = {**ADDRESSES, "WINE_KFP_ULR": "http://kfp", "WINE_CACHE": "/tmp", "PATH": "/bin"}
    assert unknown_variables(all_settings(), environment) == ("WINE_KFP_ULR",)


@pytest.mark.parametrize(
    ("backend", "listed", "enabled", "default"),
    [
        ("", "", ("Seldon", "KServe"), ""),
        ("auto", "", ("Seldon", "KServe"), ""),
        ("seldon", "", ("Seldon",), "Seldon"),
        ("KServe", "", ("KServe",), "KServe"),
        ("AUTO", "KServe, Seldon", ("KServe", "Seldon"), ""),
        ("kserve", "Seldon,KServe", ("Seldon", "KServe"), "KServe"),
    ],
)
def test_serving_backends_are_chosen_by_name(backend: str, listed: str, enabled: tuple[str, ...], default: str) -> None:
    settings = Settings.from_environment({**ADDRESSES, "WINE_SERVING_BACKEND": backend, "WINE_SERVING_BACKENDS": listed})
    backends = backends_of(settings, {"WINE_SOURCE_SECRET": "other"})
    assert (backends.names, backends.default, backends.unnamed) == (
        enabled,
        default,
        "Seldon" if "Seldon" in enabled else "KServe",
    )


def test_first_installed_backend_is_the_default_unless_the_administrator_names_one() -> None:
    backends = backends_of(Settings.from_environment(ADDRESSES), {})
    assert [backends.first(missing) for missing in ((), ("Seldon",), ("Seldon", "KServe"))] == ["Seldon", "KServe", "Seldon"]
    named = Settings.from_environment({**ADDRESSES, "WINE_SERVING_BACKEND": "Seldon"})
    assert backends_of(named, {}).first(("Seldon",)) == "Seldon"


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        (
            {"WINE_SERVING_BACKEND": "torch"},
            r"^WINE_SERVING_BACKEND \(chart value serving.backend\): 'torch' is not one of auto, seldon, kserve",
        ),
        ({"WINE_SERVING_BACKENDS": "torch"}, r"^WINE_SERVING_BACKENDS .*'torch' is not one of seldon, kserve"),
        (
            {"WINE_SERVING_BACKEND": "kserve", "WINE_SERVING_BACKENDS": "seldon"},
            r"kserve is not one of WINE_SERVING_BACKENDS .*which has seldon",
        ),
    ],
)
def test_serving_backend_is_rejected_when_unknown_or_not_enabled(variables: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        backends_of(Settings.from_environment({**ADDRESSES, **variables}), {})
