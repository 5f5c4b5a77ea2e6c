"""The rules that hold everywhere, over random histories of triggers, outcomes, faults, crashes and clock jumps.

At a random step of each history everything is corrected in a copy of it: it must become Ready, with no help but what
docs/serving.md names ("When a revision has failed"), and then nothing more may be written. Rule 4, that no credential stands
outside a Secret, needs no history: decisions never see one (tests/unit/test_attacks.py). A failure prints its seed:
`SEED=<n> make test-simulation` tells that history alone, with the traceback.
"""

import os
from concurrent.futures import ProcessPoolExecutor

import pytest

from simulation.history import History
from winepipelines.lifecycle import deploy, triggers

STEPS = int(os.environ.get("STEPS") or 100_000)
LENGTH = 120  # steps of one history
SEEDS = [int(os.environ["SEED"])] if os.environ.get("SEED") else range(-(-STEPS // LENGTH))
ENOUGH = 400  # histories in which a state that nothing leads out of is certainly met


def live(history: History) -> None:
    """Live one history through, to its end, and once more from a step on the way with everything corrected."""
    healed_at = history.random.randrange(LENGTH)
    for step in range(LENGTH):
        history.step()
        if step == healed_at:
            history.healed().heal()
    history.healing = None
    history.settle()
    history.delete()


def failure(seed: int) -> str:
    """Live the history of a seed; tell what did not hold, or nothing."""
    history = History(seed)
    try:
        live(history)
    except Exception as error:
        history = history.healing or history
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


@pytest.mark.parametrize(
    ("module", "function", "returns"),
    [(deploy, "attempt_is_current", None), (triggers, "is_stuck", False)],
    ids=["a corrected image reaches nothing", "retrain waits for ever"],
)
def test_a_state_without_a_way_out_is_noticed(
    monkeypatch: pytest.MonkeyPatch, module: object, function: str, returns: object
) -> None:
    """The property can fail: without what leads out of a state, a history soon ends there."""
    monkeypatch.setattr(module, function, lambda *_: returns)
    failures = (failure(seed) for seed in range(ENOUGH))
    said = next((said for said in failures if said), "")
    assert "no way out" in said or "never came to rest" in said or "has not reached it" in said, said
