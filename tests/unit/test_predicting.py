"""A prediction whose time is over is deleted once, and what the API server says of it is believed."""

from typing import Any

import pytest
from support.prediction_world import PredictionWorld

from winepipelines.platform.kubernetes import Body, Conflict
from winepipelines.predicting import PredictionActor
from winepipelines.predictions.actions import DeleteResource

NOBODY: Any = None


class Kubernetes:
    """An API server that answers a deletion."""

    def __init__(self, answer: Body | None) -> None:
        self.answer = answer

    async def delete(self, *_: object) -> Body | None:
        return self.answer


async def perform(answer: Body | None) -> Body | None:
    api: Any = Kubernetes(answer)
    return await PredictionActor(api, NOBODY).perform(DeleteResource(), PredictionWorld().prediction)


async def test_what_a_finalizer_keeps_is_from_then_on_one_that_is_being_deleted() -> None:
    body = {"metadata": {"name": "scores", "deletionTimestamp": "2026-01-05T12:00:00Z"}}
    assert await perform(body) == body


async def test_what_has_gone_at_once_is_not_looked_at_again() -> None:
    with pytest.raises(Conflict):
        await perform(None)
