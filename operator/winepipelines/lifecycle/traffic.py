"""Who has which share of the traffic, in words. Pure; called by `decide`."""

from winepipelines.resource.status import Status


def with_traffic(status: Status) -> Status:
    """Say in the status how the traffic is shared while a candidate is on trial."""
    candidate, served, endpoint = status.candidate, status.served, status.endpoint
    if endpoint is None:
        return status
    words = ""
    if candidate is not None and served is not None and candidate.trial is not None and not candidate.rejected:
        weight = candidate.trial.weight
        words = f"{100 - weight} % revision {served.revision}, {weight} % revision {candidate.revision}" if weight else ""
    return status if endpoint.traffic == words else status.with_(endpoint=endpoint.with_(traffic=words))
