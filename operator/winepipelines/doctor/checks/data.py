"""The host of the data: does DNS answer the same with and without a trailing dot? Nothing is fetched."""

from urllib.parse import urlsplit, urlunsplit

from winepipelines.doctor.finding import Finding, failed, ok, skipped, warning
from winepipelines.doctor.observations import HostView, Survey
from winepipelines.resource.errors import PlatformError

SHOWN = 3  # addresses that are named


def data_host_resolves(survey: Survey) -> Finding:
    """A name without a trailing dot is tried under search domains first: the guide's pitfall."""
    view = survey.data_host
    if isinstance(view, PlatformError):
        return failed("DataHostUnresolved", view.message, "is the name server well? cat /etc/resolv.conf")
    assert view is not None, "this check is run for a data host"
    if not view.host:
        return skipped("the address has no host of its own: the object store's endpoint is asked")
    if view.is_address:
        return ok(f"{view.host} is an address: DNS is not asked")
    here = "" if survey.inside else ", as seen from this machine: a pod may see it otherwise"
    name = view.host.rstrip(".")
    if view.host.endswith("."):
        if view.absolute:
            return ok(f"{view.host} is {_listed(view.absolute)}{here}")
        if view.bare:
            says = f"{view.host} has no address; {name} has one by a search domain ({_listed(view.bare)}){here}"
            return failed("DataHostUnresolved", says, _without_dot(view))
        return _unknown(name, here)
    if view.captured and view.bare != view.absolute:
        domain, addresses = next(iter(view.captured.items()))
        if not view.absolute:
            return ok(f"{name} is {_listed(view.bare)} by the search domain {domain}{here}")
        says = f"the search domain {domain} answers for {name} ({_listed(addresses)}), which is {_listed(view.absolute)}{here}"
        return failed("DataHostCaptured", says, _with_dot(view))
    if not view.bare and view.absolute:
        says = f"{name} has no address, {name}. has ({_listed(view.absolute)}): a search domain is in the way{here}"
        return failed("DataHostCaptured", says, _with_dot(view))
    if not view.bare:
        return _unknown(name, here)
    if not view.absolute:
        return ok(f"{name} is {_listed(view.bare)} by a search domain{here}")
    if set(view.bare).isdisjoint(view.absolute):
        says = f"{name} is {_listed(view.bare)}, {name}. is {_listed(view.absolute)}: a search domain, or many addresses{here}"
        return warning(says, f"to be sure: {_with_dot(view)}")
    return ok(f"{name} is {_listed(view.bare)}, with and without a trailing dot{here}")


def _unknown(name: str, here: str) -> Finding:
    says = f"{name} has no address, with a trailing dot or without{here}"
    return failed("DataHostUnresolved", says, f"is the name right, and may pods ask for it? nslookup {name}.")


def _listed(addresses: tuple[str, ...]) -> str:
    more = f" and {len(addresses) - SHOWN} more" if len(addresses) > SHOWN else ""
    return ", ".join(addresses[:SHOWN]) + more


def _with_dot(view: HostView) -> str:
    return f"spec.data.url: {_renamed(view.url, view.host + '.')}"


def _without_dot(view: HostView) -> str:
    return f"spec.data.url: {_renamed(view.url, view.host.rstrip('.'))}"


def _renamed(url: str, host: str) -> str:
    """Put another host into an address, and leave out what may be a secret: user and query."""
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port else ""
    return urlunsplit((parts.scheme, host + port, parts.path, "", ""))
