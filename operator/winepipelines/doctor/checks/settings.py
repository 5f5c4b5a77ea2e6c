"""The administrator's settings: they are complete and well formed."""

from winepipelines.doctor.finding import SETTINGS_REASON, Finding, failed, ok
from winepipelines.doctor.observations import Survey
from winepipelines.settings import Settings

SYSTEMS = {"WINE_KFP_URL": "Kubeflow Pipelines", "WINE_MLFLOW_URL": "MLflow", "WINE_S3_ENDPOINT_URL": "the object store"}


def settings_are_complete(survey: Survey) -> Finding:
    """Every address is set and valid."""
    settings = survey.settings
    addresses = {
        "WINE_KFP_URL": settings.kfp_url,
        "WINE_MLFLOW_URL": settings.mlflow_url,
        "WINE_S3_ENDPOINT_URL": settings.s3_endpoint_url,
    }
    if missing := [variable for variable, url in addresses.items() if not url]:
        remedy = " ".join(f"{variable}={Settings.example(variable)}" for variable in missing)
        return failed(SETTINGS_REASON, f"Not set: {', '.join(map(Settings.named, missing))}", f"Set it, for example {remedy}")
    for variable, url in addresses.items():
        if (problem := Settings.problem(variable, url)) is not None:
            return failed(
                SETTINGS_REASON, f"{Settings.named(variable)}: {problem}", f"For example {variable}={Settings.example(variable)}"
            )
    own = survey.backend_settings
    for field in sorted(own.judged_by_doctor):
        variable = own.variable(field)
        if (problem := own.problem(variable, getattr(own, field))) is not None:
            return failed(SETTINGS_REASON, f"{own.named(variable)}: {problem}", f"{variable}={own.example(variable)}")
    return ok(", ".join(f"{system} at {addresses[variable]}" for variable, system in SYSTEMS.items()))
