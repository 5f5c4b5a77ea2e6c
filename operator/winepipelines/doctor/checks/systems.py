"""What is said of any system that does not answer. Called by the other checks."""

from urllib.parse import urlsplit

from winepipelines.doctor.finding import Finding, failed, skipped
from winepipelines.doctor.observations import Outage, Survey
from winepipelines.endpoints import is_of_the_cluster
from winepipelines.resource.errors import PlatformError

COMMAND = "python -m winepipelines doctor"


def does_not_answer(survey: Survey, system: str, error: PlatformError, reason: str, mend: str) -> Finding:
    """Say so, unless it is only from here that it cannot be reached."""
    if (
        isinstance(error, Outage)
        and not survey.inside
        and is_of_the_cluster(urlsplit(error.url).hostname or "", survey.namespaces)
    ):
        says = f"{system} at {error.url} can be reached from inside the cluster only"
        return skipped(says, f"kubectl -n {survey.settings.platform_namespace} exec deploy/wine-operator -- {COMMAND}")
    return failed(reason, f"{system}: {error.message}", mend)
