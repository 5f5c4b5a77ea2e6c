"""The administrator's settings, as far as they can be judged by themselves."""

from winepipelines.doctor.finding import SETTINGS_REASON, Finding, failed, ok
from winepipelines.doctor.observations import Survey
from winepipelines.settings import Settings
from winepipelines.validation import EXAMPLES, named, problem

SYSTEMS = {"WINE_KFP_URL": "Kubeflow Pipelines", "WINE_MLFLOW_URL": "MLflow", "WINE_S3_ENDPOINT_URL": "the object store"}


def settings_are_complete(survey: Survey) -> Finding:
    """The addresses are there, and are addresses."""
    settings = survey.settings
    addresses = {
        "WINE_KFP_URL": settings.kfp_url,
        "WINE_MLFLOW_URL": settings.mlflow_url,
        "WINE_S3_ENDPOINT_URL": settings.s3_endpoint_url,
    }
    if missing := [variable for variable, url in addresses.items() if not url]:
        mend = " ".join(f"{variable}={EXAMPLES[variable]}" for variable in missing)
        return failed(SETTINGS_REASON, f"not set: {', '.join(map(named, missing))}", f"set it, for example {mend}")
    for variable, url in addresses.items():
        if (said := problem(variable, url)) is not None:
            return failed(SETTINGS_REASON, f"{named(variable)}: {said}", f"for example {variable}={EXAMPLES[variable]}")
    variable = "WINE_ENDPOINT_TEMPLATE"
    if (said := problem(variable, settings.endpoint_template)) is not None:
        return failed(SETTINGS_REASON, f"{named(variable)}: {said}", f"{variable}={Settings.endpoint_template}")
    return ok(", ".join(f"{system} at {addresses[variable]}" for variable, system in SYSTEMS.items()))
