"""Read WinePipelines and WinePredictions from a file with YAML or JSON, such as `kubectl get -o yaml` prints."""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from winepipelines.api.pipeline import API_VERSION, KIND, WinePipeline
from winepipelines.api.prediction import PREDICTION_KIND, WinePrediction

KINDS: Mapping[str, type[WinePipeline] | type[WinePrediction]] = {KIND: WinePipeline, PREDICTION_KIND: WinePrediction}
UNKNOWN_UID = "(uid)"


class ResourceFileError(Exception):
    """The file cannot be read; the message says why."""


def read_bodies(filename: str, namespace: str) -> Iterator[dict[str, Any]]:
    """Read the bodies of the operator's kinds; `-` is standard input. `namespace` is that of bodies that name none.

    Raises ResourceFileError.
    """
    found = False
    for body in _objects(filename):
        if body.get("apiVersion") != API_VERSION or body.get("kind") not in KINDS:
            continue
        found = True
        body.setdefault("metadata", {}).setdefault("namespace", namespace)
        yield body
    if not found:
        raise ResourceFileError(f"{filename} has no {' and no '.join(KINDS)} of {API_VERSION}")


def read_resource(body: Mapping[str, Any]) -> WinePipeline | WinePrediction:
    """Read a body. What only the API server knows is left open; a status of another version counts as empty where it differs.

    Raises pydantic.ValidationError if the spec does not fit the schema.
    """
    metadata = {"uid": UNKNOWN_UID, "resourceVersion": "", **body["metadata"]}
    return KINDS[body["kind"]].from_body({**body, "metadata": metadata})


def first_error(error: ValidationError) -> str:
    """Name the first field that does not fit the schema."""
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"


def _objects(filename: str) -> Iterator[dict[str, Any]]:
    try:
        text = sys.stdin.read() if filename == "-" else Path(filename).read_text(encoding="utf-8")
        documents = [document for document in yaml.safe_load_all(text) if document is not None]
    except (OSError, UnicodeError) as error:
        raise ResourceFileError(f"Cannot read {filename}: {error}") from None
    except yaml.YAMLError as error:
        raise ResourceFileError(f"{filename} is not YAML: {error}") from None
    for document in documents:
        if not isinstance(document, dict):
            raise ResourceFileError(f"{filename} has a {type(document).__name__} where an object is expected")
        items = document.get("items")
        yield from items if isinstance(items, list) else [document]
