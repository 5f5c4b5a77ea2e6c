"""The comparison of a canary with a served model whose input example is gone."""

from datetime import UTC, datetime
from typing import Any, cast

import aiohttp
import pytest
from support.backends import seldon_backend, serving
from support.earlier import SETTINGS
from support.world import World

from winecontract.protocols import Protocol
from winecontract.reasons import Reason
from winepipelines.api.errors import PlatformError, Refused, Unavailable
from winepipelines.api.modelrecord import ModelRecord
from winepipelines.api.observed import CanaryComparison, PredictionCheck
from winepipelines.pipelines.observe import Observer
from winepipelines.pipelines.queries import CompareCanary
from winepipelines.platform.records import Example
from winepipelines.serving import probing
from winepipelines.serving.probing import ProbeTarget, compare

EXAMPLE = Example(["a"], [[1.0]], [5.7])
SERVED, CANDIDATE = (ModelRecord(uri=f"s3://m/{run}", mlflow_run=run) for run in ("gone", "there"))


class MLflow:
    """MLflow with the input example of the candidate. That of the served model raises an error."""

    def __init__(self, error: PlatformError) -> None:
        self.error = error

    async def example(self, mlflow_run: str, _digest: str) -> Example:
        if mlflow_run == "gone":
            raise self.error
        return EXAMPLE


class Prober:
    """A prober that records the targets of a comparison."""

    async def compare(self, served: ProbeTarget | None, candidate: ProbeTarget) -> CanaryComparison:
        self.targets = served, candidate
        return CanaryComparison(20)


async def compared(error: PlatformError) -> Prober:
    prober, unused = Prober(), cast("Any", None)
    systems = serving(seldon_backend(SETTINGS), unused, prober)
    observer = Observer(unused, unused, unused, cast("Any", MLflow(error)), unused, systems, lambda: None)
    await observer.answer(CompareCanary(CANDIDATE, SERVED), World().pipeline)
    return prober


async def test_served_model_without_an_example_is_not_probed() -> None:
    served, candidate = (await compared(Refused(Reason.INPUT_EXAMPLE_MISSING, "the run is gone"))).targets
    assert served is None
    assert candidate.example == EXAMPLE
    assert candidate.url.startswith("http://mlflow-candidate.")


@pytest.mark.parametrize("error", [Unavailable(Reason.MLFLOW_UNAVAILABLE, "down"), Refused(Reason.MLFLOW_UNAUTHORIZED, "401")])
async def test_comparison_raises_when_mlflow_fails_with_another_error(error: PlatformError) -> None:
    with pytest.raises(type(error)):
        await compared(error)


async def test_candidate_is_not_too_slow_when_it_is_probed_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    probed: list[str] = []

    async def probe(_session: object, one: ProbeTarget, _seconds: float) -> PredictionCheck:
        probed.append(one.url)
        return PredictionCheck(datetime.now(UTC), True, 5.7, 900)

    monkeypatch.setattr(probing, "probe", probe)
    view = await compare(cast("aiohttp.ClientSession", None), None, ProbeTarget("http://candidate", Protocol.SELDON, EXAMPLE))
    assert set(probed) == {"http://candidate"}
    assert (view.failed, view.served_reason) == (0, "")
    assert view.milliseconds < 2 * view.served_milliseconds
