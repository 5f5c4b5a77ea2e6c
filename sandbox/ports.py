"""Free TCP ports on the loopback interface. Called by `platform` once per start."""

import errno
import random
import socket
from collections.abc import Iterable, Mapping

# Below the range that Linux and macOS take outgoing connections' ports from: a component that is stopped for a while
# finds its port still free when it comes back.
RANGE = range(20000, 32000)
TRIES = 200


def is_free(port: int) -> bool:
    """Whether a server could listen on this port now."""
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
    """One free port a name, the previous one where it is still free.

    Another program may take one before it is used: whoever starts the servers tries again with new ports.
    """
    chosen: dict[str, int] = {}
    for name in names:
        candidates = [previous.get(name, 0), *random.sample(RANGE, TRIES)]
        chosen[name] = next(port for port in candidates if port and port not in chosen.values() and is_free(port))
    return chosen
