"""Connections of one fetch: each to an address that was checked, and all of them ended when too little comes.

The check is made on the very IP address that is connected to, after its name was resolved: a name that is resolved twice may
have two answers. A host that sends a byte now and then would outlast every timeout of a socket, in a header as in the body: a
watchdog measures what has come of the body, and shuts the sockets down.
"""

import contextlib
import socket
import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from winesteps.failures import Reason, StepFailure
from winesteps.networks import Networks, PrivateNetworks

if TYPE_CHECKING:
    import requests

GRACE_SECONDS = 120.0
"""So long a fetch may take before anything of the body comes."""
LEAST_BYTES_A_SECOND = 16 * 1024
"""What must come on average from then on."""
MOST_SECONDS = 4 * 3600.0
"""How long one fetch may take, however much comes."""
WATCH_SECONDS = 0.5


class Guard:
    """Watches the connections of one fetch, as a context."""

    def __init__(self, networks: Networks, shown: str) -> None:
        self.networks, self.shown = networks, shown
        self.received = 0
        self.too_slow = False
        self.redirects = 0
        self.elsewhere = False  # whether a redirect led to another host
        self._only_private = networks.private is PrivateNetworks.DIRECT
        self._began = time.monotonic()
        self._sockets: list[socket.socket] = []
        self._lock, self._over = threading.Lock(), threading.Event()

    def __enter__(self) -> Self:
        """Begin to watch."""
        threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Watch no more."""
        self._over.set()
        with self._lock:
            for one in self._sockets:
                one.close()
            self._sockets.clear()

    def check(self, address: str) -> None:
        """Raise `StepFailure` AddressRefused for an IP address that may not be asked now."""
        allowed = self._only_private or self.networks.private is PrivateNetworks.ALLOW
        if why := self.networks.refusal(address, private_is_allowed=allowed):
            what = "redirects to" if self.redirects else "leads to"
            advice = "Give the address of a public host, or have the administrator allow its network (data.allowedNetworks)."
            if why == "a private address" and self.networks.private is PrivateNetworks.DIRECT:
                advice = "Give the address that it redirects to."
            raise StepFailure(Reason.ADDRESS_REFUSED, f"{self.shown} {what} {why}, which data is not fetched from. {advice}")

    def check_name(self, host: str) -> None:
        """Check what a host's name is resolved to here, where a proxy connects to it; it may be that only the proxy knows."""
        with contextlib.suppress(OSError, UnicodeError):
            for *_, address in socket.getaddrinfo(host, None, 0, socket.SOCK_STREAM):
                self.check(str(address[0]))
        self._only_private = False  # what the proxy connects to is not known

    def connect(self, connection: Any, *, checked: bool = True) -> socket.socket:
        """Connect for a connection of urllib3's to the first of the host's addresses that may be asked and answers."""
        host = connection._dns_host.strip("[]")  # with the dot at its end
        found = socket.getaddrinfo(host, connection.port, 0, socket.SOCK_STREAM)
        problem: Exception | None = None
        for family, kind, protocol, _, address in found:
            try:
                if checked:
                    self.check(str(address[0]))
                made = socket.socket(family, kind, protocol)
            except (OSError, StepFailure) as error:
                problem = problem or error
                continue
            try:
                for option in connection.socket_options or ():
                    made.setsockopt(*option)
                made.settimeout(connection.timeout)
                made.connect(address)
                with self._lock:
                    self._sockets.append(made.dup())
            except OSError as error:
                made.close()
                problem = error if problem is None or isinstance(problem, StepFailure) else problem
                continue
            if checked:
                self._only_private = self._only_private and self.networks.is_private(str(address[0]))
            return made
        raise problem or OSError("getaddrinfo found nothing")

    def is_too_slow(self, now: float) -> bool:
        """Tell whether less has come than must have come by now."""
        elapsed = now - self._began
        return elapsed > MOST_SECONDS or self.received < (elapsed - GRACE_SECONDS) * LEAST_BYTES_A_SECOND

    def _watch(self) -> None:
        while not self._over.wait(WATCH_SECONDS):
            if not self.is_too_slow(time.monotonic()):
                continue
            self.too_slow = True
            with self._lock:
                for one in self._sockets:  # another handle of the same connection, which TLS may have taken over
                    with contextlib.suppress(OSError):
                        one.shutdown(socket.SHUT_RDWR)


def session(guard: Guard) -> "requests.Session":
    """A session whose connections are the guard's. It follows no redirect, and takes no password from a netrc file.

    It goes by the environment's proxies and certificates. The address of a proxy is the administrator's, and not checked.
    """
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
    from urllib3.connection import HTTPConnection, HTTPSConnection
    from urllib3.exceptions import ConnectTimeoutError, LocationValueError, NameResolutionError, NewConnectionError

    def connect(connection: HTTPConnection) -> socket.socket:
        try:
            return guard.connect(connection, checked=connection.proxy is None)
        except socket.gaierror as error:
            raise NameResolutionError(connection.host, connection, error) from error
        except UnicodeError as error:  # no host name, such as one with a label of more than 63 characters
            raise LocationValueError("no host name") from error
        except TimeoutError as error:
            raise ConnectTimeoutError(connection, "connect timeout") from error
        except OSError as error:
            raise NewConnectionError(connection, "no connection") from error

    class PlainConnection(HTTPConnection):
        _new_conn = connect

    class TlsConnection(HTTPSConnection):
        _new_conn = connect

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = PlainConnection

    class TlsPool(HTTPSConnectionPool):
        ConnectionCls = TlsConnection

    class Adapter(HTTPAdapter):
        def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
            super().init_poolmanager(*arguments, **options)
            self.poolmanager.pool_classes_by_scheme = {"http": PlainPool, "https": TlsPool}

        def proxy_manager_for(self, proxy: Any, **options: Any) -> Any:
            manager = super().proxy_manager_for(proxy, **options)
            if hasattr(manager, "proxy"):  # not of SOCKS, which has classes of its own
                manager.pool_classes_by_scheme = {"http": PlainPool, "https": TlsPool}
            return manager

        def send(self, request: Any, *arguments: Any, **options: Any) -> Any:
            if requests.utils.select_proxy(request.url, options.get("proxies")):
                guard.check_name(urlsplit(request.url).hostname or "")
            return super().send(request, *arguments, **options)

    made = requests.Session()
    made.mount("http://", Adapter())
    made.mount("https://", Adapter())
    made.auth = lambda request: request
    # Not compressed on the way: the announced length and the checksum are then the file's.
    made.headers.update({"User-Agent": "winepipelines", "Accept-Encoding": "identity"})
    return made
