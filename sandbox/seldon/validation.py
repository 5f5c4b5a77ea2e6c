"""What Seldon's webhook refuses and a CRD's schema cannot. Pure; used by `controller`, which answers with state Failed.

Source: seldon-core 1.18, `seldondeployment_webhook.go`. At the end, what only the sandbox cannot do.
"""

from collections.abc import Iterator
from typing import Any

Object = dict[str, Any]

PREPACKAGED = ("MLFLOW_SERVER", "SKLEARN_SERVER")
BUILT_IN = ("", "UNKNOWN_IMPLEMENTATION")


def problems(spec: Object) -> list[str]:
    """What is wrong with a SeldonDeployment's spec; [] where nothing is."""
    return [*_spec(spec), *_traffic(spec), *_sandbox(spec)]


def _spec(spec: Object) -> Iterator[str]:
    if spec.get("protocol", "seldon") not in ("", "seldon", "tensorflow", "kfserving", "v2"):
        yield f'spec: Invalid value: "{spec["protocol"]}": Invalid protocol'
    if not spec.get("predictors"):
        yield 'spec: Invalid value: "": Graph contains no predictors'
    seen: set[str] = set()
    for index, predictor in enumerate(spec.get("predictors", [])):
        if predictor["name"] in seen:
            yield f'spec.predictors[{index}]: Invalid value: "{predictor["name"]}": Duplicate predictor name'
        seen.add(predictor["name"])
        yield from _graph(predictor, f"spec.predictors[{index}].graph")


def _graph(predictor: Object, path: str) -> Iterator[str]:
    graph = predictor["graph"]
    containers = {
        container["name"]: container
        for part in predictor.get("componentSpecs", [])
        for container in part.get("spec", {}).get("containers", [])
    }
    implementation, container = graph.get("implementation", ""), containers.get(graph["name"])
    invalid = f'{path}: Invalid value: "{graph["name"]}": '
    if implementation in BUILT_IN:
        if container is None:
            yield invalid + "Can't find container for Predictive Unit"
        return
    if not graph.get("modelUri"):
        yield invalid + "Predictive unit modelUri required when using standalone servers"
    if implementation not in PREPACKAGED and not (container or {}).get("image"):
        yield invalid + f"No entry in predictors map for {implementation}"


def _traffic(spec: Object) -> Iterator[str]:
    predictors = spec.get("predictors", [])
    shares = [predictor.get("traffic", 0) for predictor in predictors if not predictor.get("shadow")]
    shadows = len(predictors) - len(shares)
    if shadows > 1:
        yield "spec: Invalid value: Multiple shadows are not allowed"
    if predictors and not shares:
        yield "spec.predictors[0]: Invalid value: Shadow can not exist as only predictor"
    if len(shares) > 1 and sum(shares) != 100:
        yield f'spec: Invalid value: "{predictors[0]["name"]}": Traffic must sum to 100 for multiple predictors'
    if len(predictors) == 1 and 0 < sum(shares) < 100:
        yield f'spec: Invalid value: "{predictors[0]["name"]}": Traffic must sum be 100 for a single predictor when set'


def _sandbox(spec: Object) -> Iterator[str]:
    for predictor in spec.get("predictors", []):
        if predictor["graph"].get("children"):
            yield f"the sandbox serves graphs of one node: predictor {predictor['name']} has more"
        if sum(1 for part in predictor.get("componentSpecs", []) if part.get("spec", {}).get("containers")) > 1:
            yield f"the sandbox serves one componentSpec a predictor: predictor {predictor['name']} has more"
