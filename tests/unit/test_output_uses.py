"""The resources that use the output of a prediction, found in the API server's lists."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from support.prediction_world import SPEC, PredictionWorld

from winepipelines.api.prediction import PredictionStage, WinePrediction
from winepipelines.api.scoring import OutputClaim, OutputUse
from winepipelines.platform.outputs import OutputUses


class Api:
    """An API server with these resources, in pages of two."""

    def __init__(self, **items: list[dict[str, Any]]) -> None:
        self.items = items
        self.requests: list[str] = []

    async def listed(self, path: str) -> AsyncIterator[dict[str, Any]]:
        self.requests.append(path)
        found = self.items.get(path.rpartition("/")[2], [])
        for start in range(0, len(found), 2):
            yield {"items": found[start : start + 2]}


def prediction(name: str, output: str, **status: Any) -> dict[str, Any]:
    metadata = {"namespace": "team", "name": name, "uid": f"uid-{name}", "creationTimestamp": "2026-01-05T12:00:00Z"}
    return {"metadata": metadata, "spec": {"output": output}, "status": status}


def pipeline(name: str, url: object) -> dict[str, Any]:
    return {"metadata": {"namespace": "team", "name": name}, "spec": {"data": {"url": url}}}


def scores(output: str = "s3://scores/red.parquet") -> WinePrediction:
    return replace(PredictionWorld().prediction, spec=SPEC.with_(output=output))


async def uses(api: Api, *namespaces: str, output: str = "s3://scores/red.parquet") -> OutputUse:
    kubernetes: Any = api
    return await OutputUses(kubernetes, "s3://scores/private", namespaces).of(scores(output))


async def test_output_use_has_predictions_with_the_same_output_from_every_page() -> None:
    others = [prediction(f"other-{number}", f"s3://scores/{number}.parquet") for number in range(4)]
    same = prediction("same", "s3://scores/red.parquet", stage="Scoring", model={"revision": 1})
    found = await uses(Api(winepredictions=[*others, same]))
    at = datetime(2026, 1, 5, 12, tzinfo=UTC)
    assert found.claims == (OutputClaim("team", "same", "uid-same", at, PredictionStage.SCORING, begun=True),)


@pytest.mark.parametrize(
    ("status", "output"),
    [
        ({}, "s3://scores/private/team/predictions/same-uid-same.csv"),
        ({"output": "s3://earlier/team/same.csv"}, "s3://earlier/team/same.csv"),
    ],
    ids=["not-chosen-yet", "chosen"],
)
async def test_output_use_has_a_prediction_whose_default_output_is_the_same(status: dict[str, Any], output: str) -> None:
    default = prediction("same", "") | {"status": status}
    default["spec"] = {"pipeline": "wine", "input": {"url": "s3://data/new.csv"}}
    found = await uses(Api(winepredictions=[default]), output=output)
    assert [claim.name for claim in found.claims] == ["same"]


async def test_output_use_excludes_the_prediction_itself() -> None:
    own = prediction("scores", "s3://scores/red.parquet")
    own["metadata"]["uid"] = scores().uid
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
async def test_output_use_has_pipelines_that_train_on_the_output(url: str) -> None:
    found = await uses(Api(winepipelines=[pipeline("white", "s3://data/white.csv"), pipeline("red", url)]))
    assert found.trained_on == ("team/red",)


@pytest.mark.parametrize("url", ["ftp://scores/red.parquet", "", None, 7])
async def test_output_use_skips_objects_stored_under_another_schema(url: object) -> None:
    assert (
        await uses(Api(winepipelines=[pipeline("old", url)], winepredictions=[{**prediction("old", ""), "spec": None}]))
        == OutputUse()
    )


async def test_output_use_lists_the_watched_namespaces_only() -> None:
    api = Api()
    await uses(api, "team", "other")
    assert [path for path in api.requests if "/namespaces/team/" not in path and "/namespaces/other/" not in path] == []
    assert len(api.requests) == 4
