"""A model on trial is compared with one that can no longer be asked: that says nothing against it."""

from datetime import UTC, datetime
from typing import Any, cast

import aiohttp
import pytest
from support.world import World

from winepipelines.lifecycle.questions import Tried
from winepipelines.observe import Observer
from winepipelines.platform import answers
from winepipelines.platform.answers import Asked, compare
from winepipelines.platform.records import Example
from winepipelines.resource.errors import PlatformError, Refused, Unavailable
from winepipelines.resource.observed import PredictionCheck, TrialView
from winepipelines.resource.rollout import ModelRef, Rollout
from winepipelines.resource.spec import Protocol

EXAMPLE = Example(["a"], [[1.0]], [5.7])
SERVED, CANDIDATE = ModelRef(1, "s3://m/1", "gone"), ModelRef(2, "s3://m/2", "there")


class MLflow:
    """Knows the candidate's example, and raises an error for the served model's."""

    def __init__(self, error: PlatformError) -> None:
        self.error = error

    async def example(self, mlflow_run: str, _digest: str) -> Example:
        if mlflow_run == "gone":
            raise self.error
        return EXAMPLE


class Seldon:
    """Keeps what it was given to compare with."""

    async def compare(self, _pipeline: object, _rollout: Rollout, examples: tuple[Example | None, Example]) -> TrialView:
        self.examples = examples
        return TrialView(20)


async def tried(error: PlatformError) -> Seldon:
    seldon = Seldon()
    unused = cast("Any", None)
    observer = Observer(unused, unused, unused, cast("Any", MLflow(error)), unused, cast("Any", seldon), lambda: None)
    await observer.answer(Tried(CANDIDATE, SERVED), World().pipeline)
    return seldon


async def test_a_served_model_without_an_example_is_not_asked() -> None:
    assert (await tried(Refused("ExampleMissing", "the run is gone"))).examples == (None, EXAMPLE)


@pytest.mark.parametrize("error", [Unavailable("MlflowUnavailable", "down"), Refused("MlflowUnauthorized", "401")])
async def test_mlflow_away_is_no_missing_example(error: PlatformError) -> None:
    with pytest.raises(type(error)):
        await tried(error)


async def test_a_candidate_that_is_asked_alone_is_never_too_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    async def ask(_session: object, one: Asked, _seconds: float) -> PredictionCheck:
        asked.append(one.url)
        return PredictionCheck(datetime.now(UTC), True, 5.7, 900)

    monkeypatch.setattr(answers, "ask", ask)
    view = await compare(cast("aiohttp.ClientSession", None), None, Asked("http://candidate", Protocol.SELDON, EXAMPLE))
    assert set(asked) == {"http://candidate"}
    assert (view.failed, view.served_reason) == (0, "")
    assert view.milliseconds < 2 * view.served_milliseconds
