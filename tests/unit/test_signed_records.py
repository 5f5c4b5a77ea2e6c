"""Only records that the train step of the same revision has signed are accepted."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from simulation.faults import forget_signatures
from support.mlflow import KEYS, expected, signature
from support.world import World, digest_of

from winecontract.reasons import Reason
from winecontract.signatures import Keys
from winecontract.tags import Tag
from winepipelines.api.observed import ServerView, TrainingRecords
from winepipelines.api.pipeline import GROUP
from winepipelines.api.status import ConditionType, RevisionOutcome, ServedModel
from winepipelines.platform import signed

TAGS = {
    "namespace": "admin",
    "uid": "uid-1",
    "revision": "7",
    "kfp-run": "kfp-1",
    "model-uri": "s3://mlflow/1/a/artifacts/model",
    "digest": digest_of(7),
}
OLD = Keys.parse({"current": "cd" * 32})


def run(run_id: str = "a", keys: Keys | None = KEYS, start: int = 0, **tags: str) -> Any:
    """Build a run as MLflow's client returns it, signed with these keys."""
    known = TAGS | tags
    named = {f"{GROUP}/{name}": value for name, value in known.items()}
    named |= signature(run_id, known, {"r2": 0.3}, keys) if keys else {}
    info = SimpleNamespace(run_id=run_id, status="FINISHED", start_time=start, end_time=start, artifact_uri="")
    return SimpleNamespace(info=info, data=SimpleNamespace(tags=named, metrics={"r2": 0.3}))


def test_judge_finds_the_signed_run_in_any_order() -> None:
    genuine, forged = run("b"), [run("a", None, 4_000_000_000_000), run("c", OLD, 4_000_000_000_000)]
    for runs in ((genuine, *forged), (*forged, genuine)):
        found = signed.judge(runs, expected())
        assert found.signed == (genuine,)
        assert found.unsigned == ()


def test_judge_orders_signed_runs_by_id() -> None:
    runs = [run("b", start=1), run("a", start=2)]
    assert [found.info.run_id for found in signed.judge(runs, expected()).signed] == ["a", "b"]
    assert signed.judge(reversed(runs), expected()).signed == signed.judge(runs, expected()).signed


@pytest.mark.parametrize(
    "tags", [{"namespace": "theirs"}, {"uid": "uid-2"}, {"uid": "UID-1"}, {"revision": "6"}, {"kfp-run": "kfp-2"}]
)
def test_judge_rejects_a_signature_for_another_revision_resource_or_run(tags: dict[str, str]) -> None:
    found = signed.judge([run("a", KEYS, 0, **tags)], expected())
    assert (found.signed, found.reason) == ((), "ModelTampered")


def test_judge_rejects_a_signature_copied_from_another_run() -> None:
    copied = run("b", None)
    copied.data.tags[Tag.SIGNATURE] = run("a").data.tags[Tag.SIGNATURE]
    assert signed.judge([copied], expected()).reason == "ModelTampered"


def test_judge_reports_the_worst_reason_and_names_a_run() -> None:
    found = signed.judge([run("a", None), run("b", OLD)], expected())
    assert (found.reason, "MLflow run a (and 1 more)" in found.message) == ("ModelUnsigned", True)
    altered = run("c")
    altered.data.metrics["r2"] = 0.9
    found = signed.judge([run("a", None), altered], expected())
    assert (found.reason, "MLflow run c " in found.message) == ("ModelTampered", True)


def test_judge_lists_runs_without_signature_only_as_unsigned() -> None:
    runs = [run("a", None), run("b", OLD), run("c", revision="6")]
    assert [item.info.run_id for item in signed.judge(runs, expected(), takes_unsigned=True).unsigned] == ["a"]


def test_refused_record_fails_the_revision_and_keeps_the_served_model() -> None:
    for reason in (Reason.MODEL_UNSIGNED, Reason.MODEL_TAMPERED):
        world = World()
        world.serve()
        applied = world.applied
        world.annotate(retrain="now")
        world.reconcile()
        world.succeed()
        world.records[2] = TrainingRecords(refused="the model of MLflow run x is not used", refused_reason=reason)
        world.reconcile()
        assert world.condition(ConditionType.TRAINED).reason == reason
        assert world.status.history[0].outcome is RevisionOutcome.FAILED
        assert world.applied == applied
        assert world.ready()
        world.annotate(retrain="again")
        world.reconcile()
        world.succeed()
        world.reconcile()
        world.roll_out()
        assert world.status.served is not None
        assert world.status.served.revision == 3


def test_digest_is_kept_from_the_record_through_deployment_and_rollback() -> None:
    world = World()
    world.serve()
    assert world.applied is not None
    assert world.applied.model.digest == digest_of(1)
    world.change(data={"url": "http://data/new.csv"})
    world.reconcile()
    world.succeed()
    world.reconcile()
    assert world.applied.canary is not None
    assert (world.applied.model.digest, world.applied.canary.digest) == (digest_of(1), digest_of(2))
    world.roll_out()
    world.annotate(rollback="1")
    world.reconcile()
    world.roll_out()
    assert world.status.served is not None
    assert (world.status.served.model.revision, world.status.served.model.digest) == (1, digest_of(1))


def test_served_model_is_kept_when_its_record_is_unsigned() -> None:
    world = World()
    world.serve()
    forget_signatures(world)
    applied, writes = world.applied, world.writes
    for _ in range(3):
        world.pass_time(minutes=10)
        world.reconcile()
    assert (world.applied, world.writes) == (applied, writes)
    assert world.ready()
    world.applied = None  # a user deletes the deployment
    world.reconcile()
    world.roll_out()
    assert world.ready()


def test_rollback_to_an_unsigned_model_is_rejected_unless_the_administrator_allows_it() -> None:
    world = World()
    world.serve()
    world.change(data={"url": "http://data/new.csv"})
    world.reconcile()
    world.succeed()
    world.reconcile()
    world.roll_out()
    forget_signatures(world)
    world.annotate(rollback="1")
    world.reconcile()
    assert "no signed record" in world.status.handled.rejection_message
    assert world.status.revision == 2
    world.server = replace(world.server, takes_unsigned=True)
    world.annotate(rollback="1", retrain="")
    world.annotate(rollback="01")
    world.reconcile()
    assert world.status.revision == 3, "the administrator allows unsigned models"


def test_unsigned_candidate_is_rejected_and_a_retraining_replaces_it() -> None:
    world = World()
    world.serve()
    world.change(data={"url": "http://data/new.csv"})
    world.reconcile()
    world.succeed()
    world.reconcile()
    forget_signatures(world)
    world.reconcile()
    accepted = world.condition(ConditionType.ACCEPTED)
    assert (accepted.status, accepted.reason) == ("False", Reason.MODEL_UNSIGNED)
    assert "winepipelines.io/retrain" in accepted.message
    world.roll_out()
    assert world.status.served is not None
    assert world.status.served.revision == 1, "the served model must keep serving"
    world.annotate(retrain="now")
    world.reconcile()
    world.succeed()
    world.reconcile()
    world.roll_out()
    assert (world.status.served.revision, world.ready()) == (3, True)


def test_unsigned_first_candidate_is_replaced_by_a_retraining() -> None:
    world = World()
    world.reconcile()
    world.succeed()
    world.reconcile()
    forget_signatures(world)
    world.reconcile()
    assert world.condition(ConditionType.READY).reason == Reason.MODEL_UNSIGNED
    world.annotate(retrain="now")
    world.reconcile()
    world.succeed()
    world.reconcile()
    world.roll_out()
    assert world.ready()


def test_gate_uses_the_recorded_metrics_when_the_served_model_is_unsigned() -> None:
    world = World()
    world.serve()
    forget_signatures(world)
    world.change(gate=[{"metric": "r2", "noWorseThanServed": 0.0}])
    world.annotate(retrain="now")
    world.reconcile()
    world.succeed(0.05)
    world.reconcile()
    assert world.condition(ConditionType.ACCEPTED).reason == Reason.GATE_FAILED
    world.annotate(retrain="again")
    world.reconcile()
    world.succeed(0.2)
    world.reconcile()
    world.roll_out()
    assert isinstance(world.status.served, ServedModel)
    assert world.status.served.revision == 3


def test_canary_is_rejected_at_once_when_the_server_refuses_its_files() -> None:
    world = World()
    world.serve()
    world.change(data={"url": "http://data/new.csv"})
    world.reconcile()
    world.succeed()
    world.reconcile()
    world.pod_problem = (Reason.MODEL_TAMPERED, "the server does not load the model: its digest differs from the signed one")
    world.reconcile()
    entry = world.status.history[0]
    assert (entry.revision, entry.outcome, entry.reason) == (2, RevisionOutcome.REJECTED, Reason.MODEL_TAMPERED)
    assert world.status.served is not None
    assert world.status.served.revision == 1
    world.pod_problem = ("", "")
    world.roll_out()
    assert world.condition(ConditionType.ENDPOINT_VERIFIED).status == "True"


def test_server_view_does_not_accept_unsigned_models_by_default() -> None:
    assert not ServerView().takes_unsigned
