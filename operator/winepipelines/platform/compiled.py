"""The compiled pipelines in `templates/pipelines`, and the specification that is submitted with a run.

`winesteps.compile` writes these files with a placeholder for the image, without resources and variables. They are added here.
"""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from kubernetes.utils.quantity import parse_quantity

from winepipelines.api.spec import Resources
from winepipelines.settings import Settings

FOLDER = "pipelines"


class CompiledPipeline:
    """A compiled pipeline: its steps, and its specification."""

    def __init__(self, templates: str, name: str) -> None:
        """Read `<templates>/pipelines/<name>.yaml`: the pipeline and its Kubernetes-specific settings."""
        path = Path(templates) / FOLDER / f"{name}.yaml"
        self._pipeline, *self._platform = yaml.load_all(path.read_text(encoding="utf-8"), yaml.CSafeLoader)
        tasks = self._pipeline["root"]["dag"]["tasks"].values()
        self.steps: tuple[str, ...] = tuple(task["taskInfo"]["name"] for task in tasks)

    def specification(self, settings: Settings, resources: Mapping[str, Resources] | None = None) -> dict[str, Any]:
        """Build the inline pipeline, with the administrator's image, variables and default resources for each step.

        `resources` are those in the spec of a WinePipeline or WinePrediction, by the name of the step.
        """
        pipeline = copy.deepcopy(self._pipeline)
        variables = {
            "WINE_DATA_PRIVATE_NETWORKS": settings.data_private_networks,
            "WINE_DATA_ALLOWED_NETWORKS": ",".join(settings.data_allowed_networks),
        }
        for label, executor in pipeline["deploymentSpec"]["executors"].items():
            container = executor["container"]
            container["image"] = settings.steps_image
            container["env"] = [{"name": name, "value": value} for name, value in variables.items()]
            requested = (resources or {}).get(label.removeprefix("exec-"), Resources())
            if written := _container_resources(_with_defaults(requested, settings)):
                container["resources"] = written
        return {"pipeline_spec": pipeline, "platform_spec": self._platform[0]} if self._platform else pipeline


def _with_defaults(requested: Resources, settings: Settings) -> Resources:
    """Add the administrator's defaults. With a memory limit, a step that uses too much memory affects no other pod."""
    requests = {"cpu": settings.step_cpu_request, "memory": settings.step_memory_request, **requested.requests}
    limits = {"memory": settings.step_memory_limit, **requested.limits}
    for name in requests.keys() & limits.keys():
        if requests[name] and limits[name] and parse_quantity(requests[name]) > parse_quantity(limits[name]):
            changed, kept = (requests, limits) if name in requested.limits else (limits, requests)
            changed[name] = kept[name]  # Kubernetes rejects a request above the limit
    return Resources(
        requests={name: value for name, value in requests.items() if value},
        limits={name: value for name, value in limits.items() if value},
    )


def _container_resources(resources: Resources) -> dict[str, str]:
    """Convert resources to the fields of the pipeline's intermediate representation."""
    names = {
        "resourceCpuRequest": resources.requests.get("cpu"),
        "resourceMemoryRequest": resources.requests.get("memory"),
        "resourceCpuLimit": resources.limits.get("cpu"),
        "resourceMemoryLimit": resources.limits.get("memory"),
    }
    return {name: str(value) for name, value in names.items() if value is not None}


def template_in(value: object, name: str = "") -> str:
    """Return the path of the first of a run's parameters that Argo Workflows would evaluate as a template; else empty."""
    if isinstance(value, str):
        return name if "{{" in value or "}}" in value else ""
    if isinstance(value, Mapping):
        named = [(f"{name}.{key}" if name else str(key), key, item) for key, item in value.items()]
        parts = [(path, part) for path, key, item in named for part in (str(key), item)]
    elif isinstance(value, Sequence):
        parts = [(name, item) for item in value]
    else:
        return ""
    return next((found for path, part in parts if (found := template_in(part, path))), "")
