"""The rules that hold everywhere, over random histories of triggers, outcomes, faults, crashes and clock jumps.

Rule 4, that no credential stands outside a Secret, needs no history: decisions never see one (tests/unit/test_attacks.py). A
failure prints its seed: `SEED=<n> make test-simulation` tells that history alone, step by step.
"""

import logging
import os
import time

import pytest

from simulation.history import History

STEPS = int(os.environ.get("STEPS", "100000"))
LENGTH = 120  # steps of one history
log = logging.getLogger(__name__)


def test_the_rules_hold_in_every_history() -> None:
    """At least so many steps, each from a seed of its own, the same in every run of the suite."""
    seeds = [int(os.environ["SEED"])] if "SEED" in os.environ else range(-(-STEPS // LENGTH))
    begun = time.monotonic()
    for seed in seeds:
        history = History(seed)
        try:
            for _ in range(LENGTH):
                history.step()
            history.settle()
            history.delete()
        except Exception as error:
            told = "\n  ".join(history.log[-30:])
            pytest.fail(
                f"seed {seed}: {type(error).__name__}: {error}\n  {told}\n{history.world.status.to_body()}",
                pytrace="SEED" in os.environ,
            )
    log.info("%d steps in %.0f s", len(seeds) * LENGTH, time.monotonic() - begun)
