"""Steps that depend on each other, each started as soon as possible."""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from graphlib import TopologicalSorter
from threading import Event


@dataclass(frozen=True)
class Step:
    """A step to run when its needs are done. Needs that are not among the steps count as done."""

    do: Callable[[], None]
    needs: tuple[str, ...] = ()


def run(steps: Mapping[str, Step], given_up: Event) -> None:
    """Run all steps. After the first failure no step starts, and `given_up` ends the waits of running ones.

    Raises what the first step that failed raised, when those begun have ended.
    """
    order = TopologicalSorter({name: {need for need in step.needs if need in steps} for name, step in steps.items()})
    order.prepare()
    failures: list[BaseException] = []
    with ThreadPoolExecutor(max_workers=len(steps) or 1) as pool:
        running = {pool.submit(steps[name].do): name for name in order.get_ready()}
        try:
            while running:
                ended, _ = wait(running, return_when="FIRST_COMPLETED")
                for future in ended:
                    order.done(running.pop(future))
                    if error := future.exception():
                        failures.append(error)
                        given_up.set()
                if not failures:
                    running.update({pool.submit(steps[name].do): name for name in order.get_ready()})
        except BaseException:  # interrupted
            given_up.set()
            raise
    if failures:
        raise failures[0]
