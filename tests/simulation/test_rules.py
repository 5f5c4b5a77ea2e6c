"""Rules that must hold in random histories of triggers, outcomes, faults, crashes and clock jumps.

At a random step of each history all faults are corrected in a copy: the copy must become Ready, with no other help than
docs/how-to/troubleshoot.md names ("Correct the cause"), and then nothing more may be written. Rule 4, no credential outside a
Secret, needs no history: decisions never see a credential (tests/unit/test_attacks.py). A failure prints its seed and the fewest
steps that fail in the same way. `SEED=<n> make test-simulation` runs that history alone and shows the traceback.
"""

import os
from concurrent.futures import ProcessPoolExecutor

import pytest

from simulation.history import History
from simulation.shrink import RecordedHistory, shrink
from winepipelines.pipelines import attempts, triggers

STEPS = int(os.environ.get("STEPS") or 100_000)
LENGTH = 120  # steps of one history
SEEDS = [int(os.environ["SEED"])] if os.environ.get("SEED") else range(-(-STEPS // LENGTH))
MUTANT_HISTORIES = 400  # histories that are enough to reach a final state


def run_history(history: History) -> None:
    """Run one history to its end, and from a random step a copy with all faults corrected."""
    recovered_at = history.random.randrange(LENGTH)
    for step in range(LENGTH):
        history.step()
        if step == recovered_at:
            history.copy_for_recovery().recover()
            history.recovery = None
    history.settle()
    history.delete()


def failure(seed: int) -> str:
    """Run the history of a seed. Return the failure with the fewest steps that show it, or an empty text."""
    history = RecordedHistory(seed)
    try:
        run_history(history)
    except Exception as error:
        ended = history.recovery or history
        shrunk = shrink(history, error)
        log, problem = (shrunk.log, shrunk.error) if shrunk is not None else (ended.log[-30:], error)
        lines = "\n  ".join(log)
        return f"seed {seed}: {type(problem).__name__}: {problem}\n  {lines}\n{ended.world.status.to_body()}"
    return ""


def test_rules_hold_in_every_history() -> None:
    """Run at least STEPS steps. The seeds are the same in each run of the suite."""
    if len(SEEDS) == 1:
        run_history(History(SEEDS[0]))
        return
    with ProcessPoolExecutor() as processes:
        failures = [problem for problem in processes.map(failure, SEEDS, chunksize=8) if problem]
    if failures:
        pytest.fail(f"{len(failures)} of {len(SEEDS)} histories\n{failures[0]}", pytrace=False)


@pytest.mark.parametrize(
    ("module", "function", "returns"),
    [(attempts, "attempt_is_current", None), (triggers, "is_stuck", False)],
    ids=["corrected image is not applied", "retrain stays pending"],
)
def test_final_state_is_detected(monkeypatch: pytest.MonkeyPatch, module: object, function: str, returns: object) -> None:
    """The rule can fail: without the check that leads out of a state, some history ends there."""
    monkeypatch.setattr(module, function, lambda *_: returns)
    failures = (failure(seed) for seed in range(MUTANT_HISTORIES))
    first = next((problem for problem in failures if problem), "")
    signs = ("does not recover", "does not settle", "is not applied", "a deployment is left")
    assert any(sign in first for sign in signs), first


def test_failing_history_is_shrunk_to_the_step_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def is_not_suspended(history: History) -> None:
        if history.world.pipeline.spec.suspend:
            raise AssertionError("suspended")

    monkeypatch.setattr(History, "check_status", is_not_suspended)
    first = next(problem for seed in range(MUTANT_HISTORIES) if (problem := failure(seed)))
    _, *log, _ = first.splitlines()
    assert [line.split()[0] for line in log] == ["change_spec"]
