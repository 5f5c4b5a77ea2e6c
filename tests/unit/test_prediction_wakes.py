"""The watch events of a WinePipeline that enqueue its waiting WinePredictions."""

from typing import Any

from winepipelines.engine.controller import Key
from winepipelines.process import serves_another_model


def _body(uid: str = "1", annotation: str = "", revision: int = 0, run: str = "", uri: str = "") -> dict[str, Any]:
    metadata = {"namespace": "admin", "name": "wine", "uid": uid, "annotations": {"flap": annotation}}
    served = {"revision": revision, "model": {"mlflowRun": run, "uri": uri}}
    return {"metadata": metadata, "status": {"served": served}} if revision else {"metadata": metadata}


def test_predictions_are_not_enqueued_when_only_an_annotation_changes() -> None:
    known: dict[Key, object] = {}
    assert serves_another_model(known, _body(), deleted=False)
    assert not any(serves_another_model(known, _body(annotation=str(number)), deleted=False) for number in range(100))


def test_predictions_are_enqueued_when_another_model_is_served() -> None:
    known: dict[Key, object] = {}
    assert serves_another_model(known, _body(), deleted=False)
    assert serves_another_model(known, _body(revision=1, run="a", uri="s3://a"), deleted=False)
    assert not serves_another_model(known, _body(revision=1, run="a", uri="s3://a"), deleted=False)
    assert serves_another_model(known, _body(revision=2, run="a", uri="s3://a"), deleted=False)
    assert serves_another_model(known, _body(revision=2, run="b", uri="s3://a"), deleted=False)
    assert serves_another_model(known, _body(revision=2, run="b", uri="s3://b"), deleted=False)


def test_predictions_are_enqueued_when_the_pipeline_is_deleted_or_created_again() -> None:
    known: dict[Key, object] = {}
    assert serves_another_model(known, _body(revision=2, run="b"), deleted=False)
    assert serves_another_model(known, _body("2", revision=2, run="b"), deleted=False)
    assert serves_another_model(known, _body("2"), deleted=True)
    assert not known
