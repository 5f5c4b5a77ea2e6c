"""Which events of a WinePipeline wake the predictions that wait for it."""

from typing import Any

from winepipelines.handlers import is_news_to_predictions
from winepipelines.reconciler import Key


def _body(uid: str = "1", annotation: str = "", **served: object) -> dict[str, Any]:
    metadata = {"namespace": "admin", "name": "wine", "uid": uid, "annotations": {"flap": annotation}}
    return {"metadata": metadata, "status": {"served": served}} if served else {"metadata": metadata}


def test_a_resource_that_flaps_wakes_no_prediction() -> None:
    known: dict[Key, object] = {}
    assert is_news_to_predictions(known, {"type": None}, _body())
    assert not any(is_news_to_predictions(known, {"type": "MODIFIED"}, _body(annotation=str(number))) for number in range(100))


def test_another_model_another_resource_and_a_deletion_are_news() -> None:
    known: dict[Key, object] = {}
    assert is_news_to_predictions(known, {"type": "ADDED"}, _body())
    assert is_news_to_predictions(known, {"type": "MODIFIED"}, _body(revision=1, mlflowRun="a", uri="s3://a"))
    assert not is_news_to_predictions(known, {"type": "MODIFIED"}, _body(revision=1, mlflowRun="a", uri="s3://a"))
    assert is_news_to_predictions(known, {"type": "MODIFIED"}, _body(revision=2, mlflowRun="b", uri="s3://b"))
    assert is_news_to_predictions(known, {"type": "MODIFIED"}, _body("2", revision=2, mlflowRun="b", uri="s3://b"))
    assert is_news_to_predictions(known, {"type": "DELETED"}, _body("2"))
    assert not known
