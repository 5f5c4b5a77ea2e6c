"""A compiled pipeline of `templates/pipelines`, and how it goes out with a run. No requests; called by `kubeflow`.

`winesteps.compile` writes these files. They name a stand-in for the image, no resources and no variables: all are put in here.
"""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from kubernetes.utils.quantity import parse_quantity

from winepipelines.resource.spec import Resources
from winepipelines.settings import Settings

FOLDER = "pipelines"


class CompiledPipeline:
    """One compiled pipeline: its steps, and what is submitted of it."""

    def __init__(self, templates: str, name: str) -> None:
        """Read `<templates>/pipelines/<name>.yaml`: the pipeline, and what Kubernetes shall do for it."""
        path = Path(templates) / FOLDER / f"{name}.yaml"
        self._pipeline, *self._platform = yaml.safe_load_all(path.read_text(encoding="utf-8"))
        tasks = self._pipeline["root"]["dag"]["tasks"].values()
        self.steps: tuple[str, ...] = tuple(task["taskInfo"]["name"] for task in tasks)

    def specification(self, settings: Settings, resources: Mapping[str, Resources] | None = None) -> dict[str, Any]:
        """Build the inline pipeline, with image, variables and resources that the administrator gives each step.

        `resources` are what a resource asks for some steps, by name.
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
            wished = (resources or {}).get(label.removeprefix("exec-"), Resources())
            if written := _container_resources(_with_defaults(wished, settings)):
                container["resources"] = written
        return {"pipeline_spec": pipeline, "platform_spec": self._platform[0]} if self._platform else pipeline


def _with_defaults(wished: Resources, settings: Settings) -> Resources:
    """Add the administrator's defaults: a step that takes far too much memory is then ended, and nothing beside it."""
    requests = {"cpu": settings.step_cpu_request, "memory": settings.step_memory_request, **wished.requests}
    limits = {"memory": settings.step_memory_limit, **wished.limits}
    for name in requests.keys() & limits.keys():
        if requests[name] and limits[name] and parse_quantity(requests[name]) > parse_quantity(limits[name]):
            changed, kept = (requests, limits) if name in wished.limits else (limits, requests)
            changed[name] = kept[name]  # a request must not be above its limit
    return Resources(
        requests={name: value for name, value in requests.items() if value},
        limits={name: value for name, value in limits.items() if value},
    )


def _container_resources(resources: Resources) -> dict[str, str]:
    """Write a container's resources in the form of the pipeline's intermediate representation."""
    names = {
        "resourceCpuRequest": resources.requests.get("cpu"),
        "resourceMemoryRequest": resources.requests.get("memory"),
        "resourceCpuLimit": resources.limits.get("cpu"),
        "resourceMemoryLimit": resources.limits.get("memory"),
    }
    return {name: str(value) for name, value in names.items() if value is not None}


def template_in(value: object, name: str = "") -> str:
    """Name the first text among a run's parameters that Argo Workflows would read as a template; "" where there is none."""
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
