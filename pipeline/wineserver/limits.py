"""What callers can take of the server's memory and time. Used by application.py, bodies.py and connections.py.

Sizes are bytes, times are seconds. A request that is not large needs no room of the budget, so that it is answered, and the
probes with it, however many large ones come.
"""

import asyncio

from wineserver.problems import RequestRefusedError

KIBIBYTE = 1024
MEBIBYTE = 1024 * KIBIBYTE

LARGE_BODY = 32 * KIBIBYTE
"""A larger body needs room of the budget, and is read by a thread."""
LARGE_AT_ONCE = 1
"""Large bodies that are parsed and answered at a time: Python's objects take ten times the room of the JSON."""
BODY_BUDGET = 32 * MEBIBYTE
"""All large bodies that the server holds, being received, waiting or being answered."""
MAX_WAITING = 32
"""Requests that wait for room; each holds at most what the socket and the protocol have read ahead."""
WAIT_FOR_ROOM = 5.0
RETRY_AFTER = 2

HEADER_TIME = 10.0
"""From the first byte of a request, or from the start of the connection, to the end of its headers."""
BODY_TIME = 30.0
"""From the end of the headers to the end of the body."""
ANSWER_TIME = 60.0
"""From the first byte of an answer until the caller has taken it; half of it for each 64 KiB."""
LINGER = 5.0
"""For the rest of a body that has been refused already, and for the last bytes of a connection that is closing."""

MAX_CONNECTIONS = 1000
READ_AHEAD = 64 * KIBIBYTE
"""Read from a socket at a time, and written to it."""
SEND_BUFFER = 128 * KIBIBYTE
"""What the kernel holds of an answer that is not taken; by itself it would hold megabytes."""
MAX_HEAD = 64 * KIBIBYTE
"""Method, path and headers of a request; trailers after its body; the extensions of one chunk."""
FREE_PIECES = 1000
SMALLEST_PIECE = 64
"""A body may come in `FREE_PIECES` pieces of any size; beyond these, a piece has this many bytes on average."""


class Budget:
    """Room for large bodies. A request that fits does not wait for a larger one that came before it."""

    def __init__(self, size: int) -> None:
        self._free = size
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []

    async def take(self, size: int) -> None:
        """Take room for `size` bytes, after a wait if need be. Raises RequestRefusedError (503)."""
        if size <= self._free:
            self._free -= size
            return
        if len(self._waiting) >= MAX_WAITING:
            raise _busy()
        given: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (size, given)
        self._waiting.append(entry)
        try:
            await asyncio.wait_for(asyncio.shield(given), WAIT_FOR_ROOM)
        except BaseException as error:
            if given.done():  # the room came at the same moment
                self.give_back(size)
            else:
                self._waiting.remove(entry)
                self._serve()
            raise (_busy() if isinstance(error, TimeoutError) else error) from None

    def give_back(self, size: int) -> None:
        """Return room that was taken."""
        self._free += size
        self._serve()

    def _serve(self) -> None:
        for entry in [*self._waiting]:
            size, given = entry
            if size <= self._free:
                self._waiting.remove(entry)
                self._free -= size
                given.set_result(None)


class Room:
    """What one request holds of the budget."""

    def __init__(self, budget: Budget) -> None:
        self.size = 0
        self._budget = budget

    async def take(self, size: int) -> None:
        """Take room, once. Raises RequestRefusedError (503)."""
        await self._budget.take(size)
        self.size = size

    def give_back(self) -> None:
        """Return all of it."""
        if self.size:
            self._budget.give_back(self.size)
            self.size = 0


def _busy() -> RequestRefusedError:
    info = f"the server is answering as many large requests as it has room for: send this one again in {RETRY_AFTER} s"
    return RequestRefusedError(503, info, {"Retry-After": str(RETRY_AFTER)})
