"""Specs that the sandbox cannot serve. Pure; used by `controller`, which answers with state Failed.

What Seldon's webhook refuses is refused by a policy of the API server's: see `manifests/20-seldondeployments.yaml`. A policy
cannot know which prepackaged servers Seldon is configured with.
"""

from collections.abc import Iterator
from typing import Any

Object = dict[str, Any]

PREPACKAGED = ("MLFLOW_SERVER", "SKLEARN_SERVER")
BUILT_IN = ("", "UNKNOWN_IMPLEMENTATION")


def problems(spec: Object) -> list[str]:
    """List the problems of a SeldonDeployment's spec."""
    return [problem for predictor in spec.get("predictors", []) for problem in _predictor(predictor)]


def _predictor(predictor: Object) -> Iterator[str]:
    graph, parts = predictor["graph"], predictor.get("componentSpecs", [])
    images = {c["name"]: c.get("image") for part in parts for c in part.get("spec", {}).get("containers", [])}
    implementation = graph.get("implementation", "")
    if implementation not in (*BUILT_IN, *PREPACKAGED) and not images.get(graph["name"]):
        yield f"No entry in predictors map for {implementation}"
    if graph.get("children"):
        yield f"the sandbox serves graphs of one node: predictor {predictor['name']} has more"
    if sum(1 for part in parts if part.get("spec", {}).get("containers")) > 1:
        yield f"the sandbox serves one componentSpec a predictor: predictor {predictor['name']} has more"
