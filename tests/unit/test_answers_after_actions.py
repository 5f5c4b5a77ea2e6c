"""Which answers of earlier reconciles an action drops: those about objects that it changes, and no others."""

from datetime import UTC, datetime

import pytest

from winepipelines.api.observed import ChildrenView, KeyState, SecretState
from winepipelines.api.status import Status
from winepipelines.api.timeouts import Timeouts
from winepipelines.controllers import PIPELINES
from winepipelines.engine.reconcile import AnswerCache
from winepipelines.pipelines.actions import ApplyChildren, CreateRun, DeleteDeployment
from winepipelines.pipelines.queries import GetChildren

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
CHILDREN = GetChildren(("Seldon",))
SETTLED = ChildrenView(SecretState("kubeflow", "source", exists=True), None, (), key=KeyState("team", exists=True))


@pytest.mark.parametrize(
    ("action", "kept"), [(ApplyChildren(), False), (CreateRun("mlflow-1", 1), True), (DeleteDeployment("Seldon"), True)]
)
def test_objects_of_a_namespace_are_read_again_only_after_they_are_applied(action: object, kept: bool) -> None:
    cache = AnswerCache()
    cache.store(PIPELINES, CHILDREN, SETTLED, NOW, cache.changes)
    cache.invalidate(PIPELINES, action)
    assert (CHILDREN in cache.fresh(PIPELINES, Status(), Timeouts(), NOW)) is kept
