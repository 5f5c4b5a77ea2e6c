"""The administrator's settings, as far as they can be judged by themselves."""

from urllib.parse import urlsplit

from winepipelines.doctor.finding import SETTINGS_REASON, Finding, failed, ok
from winepipelines.doctor.observations import Survey
from winepipelines.settings import Settings

EXAMPLES = {
    "kfp_url": "http://ml-pipeline.kubeflow.svc.cluster.local:8888",
    "mlflow_url": "http://mlflow-server.kubeflow.svc.cluster.local:5000",
    "s3_endpoint_url": "http://minio.kubeflow.svc.cluster.local:9000",
}


def settings_are_complete(survey: Survey) -> Finding:
    """The addresses are there, and are addresses."""
    settings = survey.settings
    addresses = {name: str(getattr(settings, name)) for name in EXAMPLES}
    missing = [name for name, url in addresses.items() if not url]
    if missing:
        mend = " ".join(f"{_variable(name)}={EXAMPLES[name]}" for name in missing)
        return failed(SETTINGS_REASON, f"not set: {', '.join(map(_variable, missing))}", f"set it, for example {mend}")
    for name, url in addresses.items():
        if not _is_address(url):
            says = f"{_variable(name)} is no http:// or https:// address"
            return failed(SETTINGS_REASON, says, f"for example {_variable(name)}={EXAMPLES[name]}")
    if (problem := _template_problem(settings)) is not None:
        mend = f"WINE_ENDPOINT_TEMPLATE={Settings.endpoint_template}"
        return failed(SETTINGS_REASON, f"WINE_ENDPOINT_TEMPLATE {problem}", mend)
    return ok(", ".join(f"{system} at {addresses[name]}" for name, system in SYSTEMS.items()))


SYSTEMS = {"kfp_url": "Kubeflow Pipelines", "mlflow_url": "MLflow", "s3_endpoint_url": "the object store"}


def _variable(name: str) -> str:
    return f"WINE_{name.upper()}"


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return False


def _template_problem(settings: Settings) -> str | None:
    try:
        one, other = (settings.endpoint_template.format(namespace=name, name=name) for name in ("a", "b"))
    except (KeyError, IndexError, ValueError):
        return "has fields other than {namespace} and {name}"
    return "has neither {namespace} nor {name}: every resource would have the same endpoint" if one == other else None
