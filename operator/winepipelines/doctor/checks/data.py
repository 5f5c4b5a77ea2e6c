"""The host of the data: DNS must answer the same with and without a trailing dot. Nothing is fetched."""

from urllib.parse import urlsplit, urlunsplit

from winecontract.reasons import Reason
from winepipelines.api.errors import PlatformError
from winepipelines.doctor.finding import Finding, failed, ok, skipped, warning
from winepipelines.doctor.observations import HostView, Survey

SHOWN = 3  # addresses that a message names


def data_host_resolves(survey: Survey) -> Finding:
    """The host resolves to its own addresses: a name without a trailing dot is looked up under search domains first."""
    view = survey.data_host
    if isinstance(view, PlatformError):
        return failed(Reason.DATA_HOST_UNRESOLVED, view.message, "Check the name servers: cat /etc/resolv.conf")
    assert view is not None, "this check is run for a data host"
    if not view.host:
        return skipped("The address names no host: it is read from the object store's endpoint")
    if view.is_address:
        return ok(f"{view.host} is an IP address: it needs no DNS")
    here = "" if survey.inside else ", as seen from this machine: a pod may see a different answer"
    name = view.host.rstrip(".")
    if view.host.endswith("."):
        if view.absolute:
            return ok(f"{view.host} resolves to {_listed(view.absolute)}{here}")
        if view.bare:
            message = f"{view.host} has no address; {name} resolves through a search domain to {_listed(view.bare)}{here}"
            return failed(Reason.DATA_HOST_UNRESOLVED, message, _without_dot(view))
        return _unknown(name, here)
    if view.captured and view.bare != view.absolute:
        domain, addresses = next(iter(view.captured.items()))
        if not view.absolute:
            return ok(f"{name} resolves to {_listed(view.bare)} through the search domain {domain}{here}")
        answers = f"The search domain {domain} answers for {name} ({_listed(addresses)})"
        message = f"{answers}, which resolves to {_listed(view.absolute)}{here}"
        return failed(Reason.DATA_HOST_CAPTURED, message, _with_dot(view))
    if not view.bare and view.absolute:
        message = f"{name} has no address, {name}. resolves to {_listed(view.absolute)}: a search domain interferes{here}"
        return failed(Reason.DATA_HOST_CAPTURED, message, _with_dot(view))
    if not view.bare:
        return _unknown(name, here)
    if not view.absolute:
        return ok(f"{name} resolves to {_listed(view.bare)} through a search domain{here}")
    if set(view.bare).isdisjoint(view.absolute):
        answers = f"{name} resolves to {_listed(view.bare)}, {name}. to {_listed(view.absolute)}"
        message = f"{answers}: a search domain answers, or the host has many addresses{here}"
        return warning(message, f"To bypass search domains: {_with_dot(view)}")
    return ok(f"{name} resolves to {_listed(view.bare)}, with and without a trailing dot{here}")


def _unknown(name: str, here: str) -> Finding:
    message = f"{name} has no address, with a trailing dot or without{here}"
    return failed(Reason.DATA_HOST_UNRESOLVED, message, f"Check the name: nslookup {name}.")


def _listed(addresses: tuple[str, ...]) -> str:
    more = f" and {len(addresses) - SHOWN} more" if len(addresses) > SHOWN else ""
    return ", ".join(addresses[:SHOWN]) + more


def _with_dot(view: HostView) -> str:
    return f"spec.data.url: {_renamed(view.url, view.host + '.')}"


def _without_dot(view: HostView) -> str:
    return f"spec.data.url: {_renamed(view.url, view.host.rstrip('.'))}"


def _renamed(url: str, host: str) -> str:
    """Replace the host of an address, and leave out what may be a secret: user and query."""
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port else ""
    return urlunsplit((parts.scheme, host + port, parts.path, "", ""))
