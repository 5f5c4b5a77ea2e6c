"""A compiled pipeline of `templates/pipelines`, and how it goes out with a run. No requests; called by `kubeflow`.

`winesteps.compile` writes these files. They name a stand-in for the image, and no resources: both are put in here.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from winepipelines.resource.spec import Resources

FOLDER = "pipelines"


class CompiledPipeline:
    """One compiled pipeline: its steps, and what is submitted of it."""

    def __init__(self, templates: str, name: str) -> None:
        """Read `<templates>/pipelines/<name>.yaml`: the pipeline, and what Kubernetes shall do for it."""
        path = Path(templates) / FOLDER / f"{name}.yaml"
        self._pipeline, *self._platform = yaml.safe_load_all(path.read_text(encoding="utf-8"))
        tasks = self._pipeline["root"]["dag"]["tasks"].values()
        self.steps: tuple[str, ...] = tuple(task["taskInfo"]["name"] for task in tasks)

    def specification(self, image: str, resources: Mapping[str, Resources] | None = None) -> dict[str, Any]:
        """Build the inline pipeline, with the administrator's image in each step and the wished resources of some."""
        pipeline = json.loads(json.dumps(self._pipeline))
        executors = pipeline["deploymentSpec"]["executors"]
        for executor in executors.values():
            executor["container"]["image"] = image
        for step, wished in (resources or {}).items():
            if written := _container_resources(wished):
                executors[f"exec-{step}"]["container"]["resources"] = written
        return {"pipeline_spec": pipeline, "platform_spec": self._platform[0]} if self._platform else pipeline


def _container_resources(resources: Resources) -> dict[str, str]:
    """Write a container's resources in the form of the pipeline's intermediate representation."""
    names = {
        "resourceCpuRequest": resources.requests.get("cpu"),
        "resourceMemoryRequest": resources.requests.get("memory"),
        "resourceCpuLimit": resources.limits.get("cpu"),
        "resourceMemoryLimit": resources.limits.get("memory"),
    }
    return {name: str(value) for name, value in names.items() if value is not None}
