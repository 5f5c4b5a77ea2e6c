"""The table of stages: the effects of a row, of which `decide` knows no stage by name."""

from dataclasses import replace

import pytest
from support.world import World

from winepipelines.api.status import ConditionType, Stage
from winepipelines.pipelines import decide
from winepipelines.pipelines.context import Done, NotReady, ReconcileContext
from winepipelines.pipelines.stage import ConditionSubject, StageSpec
from winepipelines.pipelines.stages.table import STAGES


def reviewed(context: ReconcileContext) -> NotReady | None:
    """Check that the r2 of the model is above 0.5."""
    candidate = context.status.candidate
    assert candidate is not None, "train precedes this stage"
    if candidate.model.metrics["r2"] > 0.5:
        return None
    return NotReady("ReviewPending", f"Revision {candidate.revision} waits for its review.")


REVIEW = StageSpec(
    name="review",
    stage=Stage.GATING,
    condition=ConditionType.ACCEPTED,
    checks=(reviewed,),
    done=lambda _: Done("Reviewed", "The model was reviewed."),
    subject=ConditionSubject.CANDIDATE,
)


def with_stage(monkeypatch: pytest.MonkeyPatch, spec: StageSpec, *, after: str) -> None:
    """Insert a stage into the table."""
    position = [row.name for row in STAGES].index(after) + 1
    monkeypatch.setattr(decide, "STAGES", (*STAGES[:position], spec, *STAGES[position:]))


def trained(r2: float) -> World:
    """Train the model of a revision."""
    world = World()
    world.reconcile()
    world.succeed(r2)
    world.reconcile()
    return world


def test_new_stage_decides_when_its_check_does_not_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """The row sets stage, condition, reason, message and the name of the decision. Later stages do not run."""
    with_stage(monkeypatch, REVIEW, after="gate")
    world = trained(r2=0.1)
    assert world.decision is not None
    assert world.decision.decided_by == "review/reviewed"
    assert (world.status.stage, world.condition(ConditionType.ACCEPTED).reason) == (Stage.GATING, "ReviewPending")
    assert world.ready_condition().message == "Revision 1 waits for its review."
    assert world.applied is None


def test_new_stage_lets_the_next_one_decide_when_its_check_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """The condition of the new stage is then True."""
    with_stage(monkeypatch, REVIEW, after="gate")
    world = trained(r2=0.9)
    assert world.decision is not None
    assert world.decision.decided_by == "deploy/rollout_is_complete"
    assert world.condition(ConditionType.ACCEPTED).reason == "Reviewed"


@pytest.mark.parametrize(("keeps_ready", "ready"), [(True, "True"), (False, "False")])
def test_flag_keeps_ready_decides_whether_ready_stays_true_meanwhile(
    monkeypatch: pytest.MonkeyPatch, keeps_ready: bool, ready: str
) -> None:
    """A model of the same spec is served while the next one waits in the stage."""
    with_stage(monkeypatch, replace(REVIEW, keeps_ready=keeps_ready), after="gate")
    world = World()
    world.reconcile()
    world.succeed(r2=0.9)
    world.reconcile()
    world.roll_out()
    world.annotate(retrain="once")
    world.reconcile()
    world.succeed(r2=0.1)
    world.reconcile()
    assert world.decision is not None
    assert world.decision.decided_by == "review/reviewed"
    assert world.ready_condition().status == ready


@pytest.mark.parametrize(("subject", "stays"), [(ConditionSubject.RESOURCE, True), (ConditionSubject.CANDIDATE, False)])
def test_subject_decides_whether_a_condition_outlives_its_model(
    monkeypatch: pytest.MonkeyPatch, subject: ConditionSubject, stays: bool
) -> None:
    """The next revision has no model yet."""
    review = replace(REVIEW, subject=subject)
    rows = tuple(review if row.name == "gate" else row for row in STAGES)
    monkeypatch.setattr(decide, "STAGES", rows)
    world = trained(r2=0.9)
    world.change(training={"seed": 9})
    world.reconcile()
    assert (world.status.condition(ConditionType.ACCEPTED) is not None) is stays


def test_names_and_conditions_of_stages_are_unique() -> None:
    """No two rows share a name or condition."""
    assert len({row.name for row in STAGES}) == len({row.condition for row in STAGES}) == len(STAGES)
