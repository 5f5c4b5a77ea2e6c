"""Connections of one fetch: each to a checked IP address, and all shut down if the host is too slow.

The check applies to the IP address that is connected to, after resolving the name: a second resolution could give another answer.
A host that sends a byte now and then never exceeds a socket's timeout, neither in headers nor in the body. So a watchdog measures
the received bytes, and shuts the sockets down.
"""

import contextlib
import socket
import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from winecontract.reasons import Reason
from winesteps.failures import StepFailure
from winesteps.networks import Networks, PrivateNetworks

if TYPE_CHECKING:
    import requests

GRACE_SECONDS = 120.0
"""Time within which the body must begin."""
LEAST_BYTES_A_SECOND = 16 * 1024
"""Minimum average rate after that."""
MOST_SECONDS = 4 * 3600.0
"""Maximum duration of one fetch, at any rate."""
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
        """Start the watchdog."""
        threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Stop the watchdog, and release its handles of the sockets."""
        self._over.set()
        with self._lock:
            for one in self._sockets:
                one.close()
            self._sockets.clear()

    def check(self, address: str) -> None:
        """Raise `StepFailure` AddressRejected if data may not be fetched from an IP address."""
        allowed = self._only_private or self.networks.private is PrivateNetworks.ALLOW
        if why := self.networks.refusal(address, private_is_allowed=allowed):
            leads = "redirects to" if self.redirects else "leads to"
            advice = "Use the address of a public host, or have the administrator allow its network (data.allowedNetworks)."
            if why == "a private address" and self.networks.private is PrivateNetworks.DIRECT:
                advice = "Use the address that it redirects to."
            raise StepFailure(Reason.ADDRESS_REJECTED, f"{self.shown} {leads} {why}, from which data is not fetched. {advice}")

    def check_name(self, host: str) -> None:
        """Check the IP addresses of a host to which a proxy connects, if the name can be resolved here."""
        with contextlib.suppress(OSError, UnicodeError):
            for *_, address in socket.getaddrinfo(host, None, 0, socket.SOCK_STREAM):
                self.check(str(address[0]))
        self._only_private = False  # the address that the proxy connects to is not known

    def connect(self, connection: Any, *, checked: bool = True) -> socket.socket:
        """Connect a urllib3 connection to the first address of its host that is allowed and answers."""
        host = connection._dns_host.strip("[]")  # keeps a trailing dot
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
        """Tell whether fewer bytes have arrived than required by now."""
        elapsed = now - self._began
        return elapsed > MOST_SECONDS or self.received < (elapsed - GRACE_SECONDS) * LEAST_BYTES_A_SECOND

    def _watch(self) -> None:
        while not self._over.wait(WATCH_SECONDS):
            if not self.is_too_slow(time.monotonic()):
                continue
            self.too_slow = True
            with self._lock:
                for one in self._sockets:  # our handle of the connection; TLS may own the other one
                    with contextlib.suppress(OSError):
                        one.shutdown(socket.SHUT_RDWR)


def session(guard: Guard) -> "requests.Session":
    """Create a session whose connections the guard makes. It follows no redirects, and reads no passwords from a netrc file.

    It uses the proxies and certificates of the environment. The administrator sets the proxy, so its address is not checked.
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
        except UnicodeError as error:  # an invalid name, such as one with a label of more than 63 characters
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
            if hasattr(manager, "proxy"):  # SOCKS proxies have their own classes
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
    # Without compression in transfer, the announced length and the checksum are those of the file.
    made.headers.update({"User-Agent": "winepipelines", "Accept-Encoding": "identity"})
    return made
