"""Recordings of what KServe's controller and Kubernetes make of failures (`support.record_kserve`), trimmed to what matters."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

Object = dict[str, Any]

FOLDER = Path(__file__).with_name("recorded") / "kserve"
NEW, SERVED = "$new", "$served"
"""What stands for the hashes of the pods' templates: of the model that is rolled out, and of the one that serves."""
ANNOTATIONS = re.compile(r"winepipelines\.io/|serving\.kserve\.io/")
METADATA = ("name", "generation", "deletionTimestamp", "finalizers")
TIMES = re.compile(r"(?:Time|At)$|^(?:containerID|imageID|podIPs?|hostIPs?|qosClass|observedGeneration|lastHeartbeatTime)$")
KEPT_SPEC = ("replicas", "progressDeadlineSeconds")


def names() -> list[str]:
    """List the failures that are recorded."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def recorded(name: str) -> Object:
    """Read the recording of a failure."""
    found: Object = json.loads((FOLDER / f"{name}.json").read_text())
    return found


def trimmed(found: Object, replaced: Mapping[str, str]) -> Object:
    """Trim what was found in a namespace; `replaced` are texts of this recording alone, and what stands for them."""
    made = {
        "inferenceservice": _object(found["inferenceservice"]),
        "deployment": _object(found["deployment"]) if found["deployment"] else None,
        "replicasets": [_object(each) for each in found["replicasets"]],
        "pods": [_object(each) for each in found["pods"]],
        "events": found["events"],
    }
    text = json.dumps(made)
    for mine, instead in replaced.items():
        text = text.replace(mine, instead)
    stored: Object = json.loads(text)
    return stored


def _object(item: Object) -> Object:
    spec, template = item.get("spec") or {}, (item.get("spec") or {}).get("template")
    kept: Object = {name: spec[name] for name in KEPT_SPEC if name in spec}
    if template:
        images = [{"name": each["name"], "image": each.get("image", "")} for each in template["spec"].get("containers", [])]
        kept["template"] = {"metadata": _metadata(template["metadata"]), "spec": {"containers": images}}
    status = _without_times(item.get("status") or {})
    observed = (item.get("status") or {}).get("observedGeneration")
    return {
        "metadata": _metadata(item["metadata"]),
        **({"spec": kept} if kept else {}),
        "status": status if observed is None else {**status, "observedGeneration": observed},
    }


def _metadata(metadata: Object) -> Object:
    annotations = {key: value for key, value in (metadata.get("annotations") or {}).items() if ANNOTATIONS.search(key)}
    return {
        **{key: metadata[key] for key in METADATA if key in metadata},
        **({"annotations": annotations} if annotations else {}),
    }


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_times(each) for key, each in value.items() if not TIMES.search(key)}
    return [_without_times(each) for each in value] if isinstance(value, list) else value
