"""The finding about a system that does not answer."""

from urllib.parse import urlsplit

from winepipelines.api.errors import PlatformError
from winepipelines.doctor.finding import Finding, failed, skipped
from winepipelines.doctor.observations import Outage, Survey
from winepipelines.endpoints import is_of_the_cluster

COMMAND = "python -m winepipelines doctor"


def does_not_answer(survey: Survey, system: str, error: PlatformError, reason: str, remedy: str) -> Finding:
    """Fail, unless the address is reachable from inside the cluster only and this runs outside."""
    if (
        isinstance(error, Outage)
        and not survey.inside
        and is_of_the_cluster(urlsplit(error.url).hostname or "", survey.namespaces)
    ):
        message = f"{system} at {error.url} is reachable from inside the cluster only"
        return skipped(message, f"kubectl -n {survey.settings.platform_namespace} exec deploy/wine-operator -- {COMMAND}")
    return failed(reason, f"{system}: {error.message}", remedy)
