"""The recorder of decisions, with one history of each kind."""

import json

import pytest

from simulation.decisions import KINDS, history


@pytest.mark.parametrize("kind", KINDS)
def test_history_records_every_decision_and_repeats_from_its_seed(kind: str) -> None:
    first = history(kind, seed=1)

    decisions = json.loads(first)["decisions"]
    assert {"status", "decided_by"} <= {name for decision in decisions for name in decision}
    assert any(decision.get("actions") for decision in decisions)
    assert history(kind, seed=1) == first
    assert KINDS[kind][0].controller.decide.__module__ != "simulation.decisions", "the recorder has been removed"
