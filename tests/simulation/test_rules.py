"""The rules that hold everywhere, over random histories of triggers, outcomes, faults, crashes and clock jumps.

Rule 4, that no credential stands outside a Secret, needs no history: decisions never see one (tests/unit/test_attacks.py). A
failure prints its seed: `SEED=<n> make test-simulation` tells that history alone, with the traceback.
"""

import os
from concurrent.futures import ProcessPoolExecutor

import pytest

from simulation.history import History

STEPS = int(os.environ.get("STEPS") or 100_000)
LENGTH = 120  # steps of one history
SEEDS = [int(os.environ["SEED"])] if os.environ.get("SEED") else range(-(-STEPS // LENGTH))


def live(history: History) -> None:
    """Live one history through, to its end."""
    for _ in range(LENGTH):
        history.step()
    history.settle()
    history.delete()


def failure(seed: int) -> str:
    """Live the history of a seed; tell what did not hold, or nothing."""
    history = History(seed)
    try:
        live(history)
    except Exception as error:
        told = "\n  ".join(history.log[-30:])
        return f"seed {seed}: {type(error).__name__}: {error}\n  {told}\n{history.world.status.to_body()}"
    return ""


def test_the_rules_hold_in_every_history() -> None:
    """At least so many steps, each history from a seed of its own, the same in every run of the suite."""
    if len(SEEDS) == 1:
        live(History(SEEDS[0]))
        return
    with ProcessPoolExecutor() as processes:
        failures = [said for said in processes.map(failure, SEEDS, chunksize=8) if said]
    if failures:
        pytest.fail(f"{len(failures)} of {len(SEEDS)} histories\n{failures[0]}", pytrace=False)
