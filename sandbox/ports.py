"""Free TCP ports on the loopback interface."""

import errno
import random
import socket
from collections.abc import Iterable, Mapping

# Below the range of Linux's and macOS's ports for outgoing connections, so that the port of a stopped component stays free.
RANGE = range(20000, 32000)
TRIES = 200


def is_free(port: int) -> bool:
    """Report whether a server could listen on this port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise
    return True


def choose(names: Iterable[str], previous: Mapping[str, int]) -> dict[str, int]:
    """Return one free port per name, the previous one if it is still free.

    Another program may take one before it is used: whoever starts the servers tries again with new ports.
    """
    chosen: dict[str, int] = {}
    for name in names:
        candidates = [previous.get(name, 0), *random.sample(RANGE, TRIES)]
        chosen[name] = next(port for port in candidates if port and port not in chosen.values() and is_free(port))
    return chosen
