"""Whose record of a model counts: the one that the train step of this very revision has signed, and no other."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from simulation.faults import forget_signatures
from support.mlflow import KEYS, expected, signature
from support.world import World, digest_of

from winecontract.signatures import SIGNATURE_TAG, Keys
from winepipelines.lifecycle import reasons
from winepipelines.platform import signed
from winepipelines.resource.observed import ServerView, TrainingRecords
from winepipelines.resource.pipeline import GROUP
from winepipelines.resource.status import ConditionType, Outcome, ServedModel

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
    """A run as MLflow's client gives it, signed with these keys."""
    known = TAGS | tags
    named = {f"{GROUP}/{name}": value for name, value in known.items()}
    named |= signature(run_id, known, {"r2": 0.3}, keys) if keys else {}
    info = SimpleNamespace(run_id=run_id, status="FINISHED", start_time=start, end_time=start, artifact_uri="")
    return SimpleNamespace(info=info, data=SimpleNamespace(tags=named, metrics={"r2": 0.3}))


def test_the_signed_one_counts_wherever_it_comes_in_the_list() -> None:
    genuine, forged = run("b"), [run("a", None, 4_000_000_000_000), run("c", OLD, 4_000_000_000_000)]
    for runs in ((genuine, *forged), (*forged, genuine)):
        found = signed.judge(runs, expected())
        assert found.signed == (genuine,)
        assert found.unsigned == ()


def test_of_two_signed_ones_the_order_is_that_of_their_ids() -> None:
    runs = [run("b", start=1), run("a", start=2)]
    assert [found.info.run_id for found in signed.judge(runs, expected()).signed] == ["a", "b"]
    assert signed.judge(reversed(runs), expected()).signed == signed.judge(runs, expected()).signed


@pytest.mark.parametrize(
    "tags", [{"namespace": "theirs"}, {"uid": "uid-2"}, {"uid": "UID-1"}, {"revision": "6"}, {"kfp-run": "kfp-2"}]
)
def test_a_signature_for_something_else_is_not_one_for_this(tags: dict[str, str]) -> None:
    found = signed.judge([run("a", KEYS, 0, **tags)], expected())
    assert (found.signed, found.reason) == ((), "ModelTampered")


def test_a_signature_of_another_run_is_none() -> None:
    copied = run("b", None)
    copied.data.tags[SIGNATURE_TAG] = run("a").data.tags[SIGNATURE_TAG]
    assert signed.judge([copied], expected()).reason == "ModelTampered"


def test_the_reason_is_the_worst_and_names_a_run() -> None:
    found = signed.judge([run("a", None), run("b", OLD)], expected())
    assert (found.reason, "MLflow run a (and 1 more)" in found.message) == ("ModelUnsigned", True)
    altered = run("c")
    altered.data.metrics["r2"] = 0.9
    found = signed.judge([run("a", None), altered], expected())
    assert (found.reason, "MLflow run c " in found.message) == ("ModelTampered", True)


def test_unsigned_ones_are_told_apart_from_those_whose_signature_does_not_fit() -> None:
    runs = [run("a", None), run("b", OLD), run("c", revision="6")]
    assert [item.info.run_id for item in signed.judge(runs, expected(), takes_unsigned=True).unsigned] == ["a"]


def test_what_is_not_believed_ends_the_revision_and_what_served_goes_on() -> None:
    for reason in (reasons.MODEL_UNSIGNED, reasons.MODEL_TAMPERED):
        world = World()
        world.serve()
        applied = world.applied
        world.ask(retrain="now")
        world.reconcile()
        world.succeed()
        world.records[2] = TrainingRecords(refused="the model of MLflow run x is not used", refused_reason=reason)
        world.reconcile()
        assert world.condition(ConditionType.TRAINED).reason == reason
        assert world.status.history[0].outcome is Outcome.FAILED
        assert world.applied == applied
        assert world.ready()
        world.ask(retrain="again")
        world.reconcile()
        world.succeed()
        world.reconcile()
        world.roll_out()
        assert world.status.served is not None
        assert world.status.served.revision == 3


def test_the_digest_goes_with_the_model_from_the_record_to_the_server_and_back() -> None:
    world = World()
    world.serve()
    assert world.applied is not None
    assert world.applied.model.digest == digest_of(1)
    world.change(data={"url": "http://data/new.csv"})
    world.reconcile()
    world.succeed()
    world.reconcile()
    assert world.applied.trial is not None
    assert (world.applied.model.digest, world.applied.trial.digest) == (digest_of(1), digest_of(2))
    world.roll_out()
    world.ask(rollback="1")
    world.reconcile()
    world.roll_out()
    assert world.status.served is not None
    assert (world.status.served.origin, world.status.served.digest) == (1, digest_of(1))


def test_an_upgrade_leaves_a_model_that_serves_alone() -> None:
    world = World()
    world.serve()
    forget_signatures(world)
    applied, writes = world.applied, world.writes
    for _ in range(3):
        world.pass_time(minutes=10)
        world.reconcile()
    assert (world.applied, world.writes) == (applied, writes)
    assert world.ready()
    world.applied = None  # someone deletes it
    world.reconcile()
    world.roll_out()
    assert world.ready()


def test_a_model_of_before_is_not_rolled_back_to_and_training_again_leads_on() -> None:
    world = World()
    world.serve()
    world.change(data={"url": "http://data/new.csv"})
    world.reconcile()
    world.succeed()
    world.reconcile()
    world.roll_out()
    forget_signatures(world)
    world.ask(rollback="1")
    world.reconcile()
    assert "no signed record" in world.status.asked.problem
    assert world.status.revision == 2
    world.server = replace(world.server, takes_unsigned=True)
    world.ask(rollback="1", retrain="")
    world.ask(rollback="01")
    world.reconcile()
    assert world.status.revision == 3, "the administrator lets such models serve"


def test_a_candidate_of_before_that_does_not_serve_yet_is_trained_again_on_request() -> None:
    world = World()
    world.serve()
    world.change(data={"url": "http://data/new.csv"})
    world.reconcile()
    world.succeed()
    world.reconcile()
    forget_signatures(world)
    world.reconcile()
    accepted = world.condition(ConditionType.ACCEPTED)
    assert (accepted.status, accepted.reason) == ("False", reasons.MODEL_UNSIGNED)
    assert "winepipelines.io/retrain" in accepted.message
    world.roll_out()
    assert world.status.served is not None
    assert world.status.served.revision == 1, "what served keeps serving"
    world.ask(retrain="now")
    world.reconcile()
    world.succeed()
    world.reconcile()
    world.roll_out()
    assert (world.status.served.revision, world.ready()) == (3, True)


def test_a_first_candidate_of_before_is_not_stuck() -> None:
    world = World()
    world.reconcile()
    world.succeed()
    world.reconcile()
    forget_signatures(world)
    world.reconcile()
    assert world.condition(ConditionType.READY).reason == reasons.MODEL_UNSIGNED
    world.ask(retrain="now")
    world.reconcile()
    world.succeed()
    world.reconcile()
    world.roll_out()
    assert world.ready()


def test_a_gate_against_an_unsigned_model_compares_what_its_training_recorded() -> None:
    world = World()
    world.serve()
    forget_signatures(world)
    world.change(gate=[{"metric": "r2", "noWorseThanServed": 0.0}])
    world.ask(retrain="now")
    world.reconcile()
    world.succeed(0.05)
    world.reconcile()
    assert world.condition(ConditionType.ACCEPTED).reason == reasons.GATE_REFUSED
    world.ask(retrain="again")
    world.reconcile()
    world.succeed(0.2)
    world.reconcile()
    world.roll_out()
    assert isinstance(world.status.served, ServedModel)
    assert world.status.served.revision == 3


def test_files_that_the_server_refuses_end_the_trial_at_once() -> None:
    world = World()
    world.serve()
    world.change(data={"url": "http://data/new.csv"})
    world.reconcile()
    world.succeed()
    world.reconcile()
    world.trouble = (reasons.MODEL_TAMPERED, "the server does not load the model: other bytes were signed")
    world.reconcile()
    ended = world.status.history[0]
    assert (ended.revision, ended.outcome, ended.reason) == (2, Outcome.REJECTED, reasons.MODEL_TAMPERED)
    assert world.status.served is not None
    assert world.status.served.revision == 1
    world.trouble = ("", "")
    world.roll_out()
    assert world.condition(ConditionType.ANSWERING).status == "True"


def test_a_server_view_takes_no_unsigned_models_unless_told() -> None:
    assert not ServerView().takes_unsigned
