"""Which resources read or write what a prediction will write, as the API server lists them."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from support.prediction_world import SPEC, PredictionWorld

from winepipelines.platform.outputs import OutputUses
from winepipelines.resource.outcome import OutputClaim, OutputUse
from winepipelines.resource.prediction import PredictionStage, WinePrediction


class Api:
    """An API server with these resources, in pages of two."""

    def __init__(self, **items: list[dict[str, Any]]) -> None:
        self.items = items
        self.asked: list[str] = []

    async def listed(self, path: str) -> AsyncIterator[dict[str, Any]]:
        self.asked.append(path)
        found = self.items.get(path.rpartition("/")[2], [])
        for start in range(0, len(found), 2):
            yield {"items": found[start : start + 2]}


def prediction(name: str, output: str, **status: Any) -> dict[str, Any]:
    metadata = {"namespace": "team", "name": name, "uid": f"uid-{name}", "creationTimestamp": "2026-01-05T12:00:00Z"}
    return {"metadata": metadata, "spec": {"output": output}, "status": status}


def pipeline(name: str, url: object) -> dict[str, Any]:
    return {"metadata": {"namespace": "team", "name": name}, "spec": {"data": {"url": url}}}


def mine(output: str = "s3://scores/red.parquet") -> WinePrediction:
    return replace(PredictionWorld().prediction, spec=SPEC.with_(output=output))


async def uses(api: Api, *namespaces: str) -> OutputUse:
    kubernetes: Any = api
    return await OutputUses(kubernetes, namespaces).of(mine())


async def test_predictions_with_the_same_output_are_found_on_every_page() -> None:
    others = [prediction(f"other-{number}", f"s3://scores/{number}.parquet") for number in range(4)]
    same = prediction("same", "s3://scores/red.parquet", stage="Scoring", model={"revision": 1})
    found = await uses(Api(winepredictions=[*others, same]))
    at = datetime(2026, 1, 5, 12, tzinfo=UTC)
    assert found.claims == (OutputClaim("team", "same", "uid-same", at, PredictionStage.SCORING, begun=True),)


async def test_itself_is_none_of_them() -> None:
    own = prediction("scores", "s3://scores/red.parquet")
    own["metadata"]["uid"] = mine().uid
    assert await uses(Api(winepredictions=[own])) == OutputUse()


@pytest.mark.parametrize(
    "url",
    [
        "s3://scores/red.parquet",
        "http://minio.kubeflow:9000/scores/red.parquet",
        "s3://scores/red.parquet?versionId=1",
        "s3://scores/red.parquet.report.json",
    ],
)
async def test_pipelines_that_train_on_it_are_found(url: str) -> None:
    found = await uses(Api(winepipelines=[pipeline("white", "s3://data/white.csv"), pipeline("red", url)]))
    assert found.trained_on == ("team/red",)


@pytest.mark.parametrize("url", ["ftp://scores/red.parquet", "", None, 7])
async def test_what_was_stored_under_another_schema_is_passed_over(url: object) -> None:
    assert (
        await uses(Api(winepipelines=[pipeline("old", url)], winepredictions=[{**prediction("old", ""), "spec": None}]))
        == OutputUse()
    )


async def test_only_the_operators_namespaces_are_asked_of() -> None:
    api = Api()
    await uses(api, "team", "other")
    assert [path for path in api.asked if "/namespaces/team/" not in path and "/namespaces/other/" not in path] == []
    assert len(api.asked) == 4
