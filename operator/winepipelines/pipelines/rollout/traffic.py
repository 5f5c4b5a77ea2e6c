"""Which revision has which share of the traffic."""

from winepipelines.api.status import Status, TrafficShare


def with_traffic(status: Status) -> Status:
    """Record in the status how the traffic is shared while a canary is in progress."""
    candidate, served, endpoint = status.candidate, status.served, status.endpoint
    if endpoint is None:
        return status
    traffic: tuple[TrafficShare, ...] = ()
    if candidate is not None and served is not None and candidate.canary is not None and not candidate.rejection:
        percent = candidate.canary.percent
        shares = ((served.revision, 100 - percent), (candidate.revision, percent)) if percent else ()
        traffic = tuple(TrafficShare(revision=revision, percent=share) for revision, share in shares)
    return status if endpoint.traffic == traffic else status.with_(endpoint=endpoint.with_(traffic=traffic))
