"""Blocking calls on threads, of which each tenant has a bounded share.

A thread cannot be ended. One that hangs takes a place of its tenant until it ends, even when nobody waits for it any more; other
tenants have places of their own. Threads are made for one call each, and nobody waits for them when the process ends.
"""

import asyncio
import contextlib
import contextvars
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from typing import ParamSpec, TypeVar

from winepipelines.engine.tenant import TENANT

P = ParamSpec("P")
T = TypeVar("T")
THREADS = 64
PER_TENANT = 4
SHARED = 16  # for work that is everybody's


class Threads:
    """Runs calls on at most `threads` threads at once, and for one tenant on at most `per_tenant`. For one event loop."""

    def __init__(self, name: str, threads: int = THREADS, per_tenant: int = PER_TENANT) -> None:
        """`name` is what threads are called in a dump of them."""
        self._name = name
        self._per_tenant = per_tenant
        self._places = asyncio.Semaphore(threads)
        self._tenants: dict[str, asyncio.Semaphore] = {}
        self._users: Counter[str] = Counter()  # of the tenants' semaphores: those of nobody are dropped

    async def run(self, function: Callable[P, T], /, *arguments: P.args, **options: P.kwargs) -> T:
        """Call a function on a thread for the current tenant; wait for a place where all of its places are taken."""
        tenant, loop = TENANT.get(), asyncio.get_running_loop()
        own = self._tenants.setdefault(tenant, asyncio.Semaphore(self._per_tenant if tenant else SHARED))
        self._users[tenant] += 1
        held: list[asyncio.Semaphore] = []

        def leave() -> None:
            for semaphore in held:
                semaphore.release()
            self._users[tenant] -= 1
            if not self._users[tenant]:
                del self._users[tenant], self._tenants[tenant]

        try:
            for semaphore in (own, self._places):
                await semaphore.acquire()
                held.append(semaphore)
            future = _start(self._name, lambda: function(*arguments, **options))
        except BaseException:
            leave()
            raise

        def ended(_: Future[T]) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended first
                loop.call_soon_threadsafe(leave)

        future.add_done_callback(ended)
        return await asyncio.wrap_future(future)


def _start(name: str, call: Callable[[], T]) -> Future[T]:
    future: Future[T] = Future()

    def work() -> None:
        if not future.set_running_or_notify_cancel():
            return
        try:
            future.set_result(call())
        except BaseException as error:  # it is the caller's
            future.set_exception(error)

    context = contextvars.copy_context()
    threading.Thread(target=context.run, args=(work,), name=name, daemon=True).start()
    return future
