"""Steps that need one another, each begun as soon as it can be. Called by `platform`."""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from graphlib import TopologicalSorter


@dataclass(frozen=True)
class Step:
    """Something to do, once what it needs is done. Needs that are not among the steps count as done."""

    do: Callable[[], None]
    needs: tuple[str, ...] = ()


def run(steps: Mapping[str, Step]) -> None:
    """Do all steps; after the first failure nothing new is begun.

    Raises what the first step that failed raised, when those begun have ended.
    """
    order = TopologicalSorter({name: {need for need in step.needs if need in steps} for name, step in steps.items()})
    order.prepare()
    failures: list[BaseException] = []
    with ThreadPoolExecutor(max_workers=len(steps) or 1) as pool:
        running = {pool.submit(steps[name].do): name for name in order.get_ready()}
        while running:
            ended, _ = wait(running, return_when="FIRST_COMPLETED")
            for future in ended:
                order.done(name := running.pop(future))
                if error := future.exception():
                    error.add_note(f"in the step '{name}'")
                    failures.append(error)
            if not failures:
                running.update({pool.submit(steps[name].do): name for name in order.get_ready()})
    if failures:
        raise failures[0]
