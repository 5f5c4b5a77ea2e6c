"""A step's variables: those of the image, of the compiled component, and of the Secrets that its pod uses.

The platform part of a compiled pipeline says, per executor, what Kubernetes is to add to the pod.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from typing import Any

from .cluster import Cluster

#: What a step would notice the lack of, and no process here can be given.
_OUT_OF_REACH = {"secretAsVolume", "configMapAsVolume", "configMapAsEnv", "fieldPathAsEnv", "pvcMount"}
_OUT_OF_REACH |= {"emptyDirMounts", "genericEphemeralVolume"}

Parameter = Callable[[Mapping[str, Any]], str]


class NotSupportedError(Exception):
    """The step needs a feature of its pod that this stand-in does not support."""


def time_limit(kubernetes: Mapping[str, Any]) -> int | None:
    """Return the pod's active deadline in seconds, or None."""
    return int(kubernetes.get("activeDeadlineSeconds", 0)) or None


def from_secrets(
    kubernetes: Mapping[str, Any],
    parameter: Parameter,
    cluster: Cluster | None,
    namespace: str,
    missing: Callable[[str], None] = lambda _problem: None,
) -> dict[str, str]:
    """Return the variables from Secrets. Waits for ever for a missing Secret, as a pod's container does.

    Args:
        kubernetes: the executor's part of the platform specification.
        parameter: what a parameter of it stands for in this run.
        cluster: where the secrets are; without one there are none.
        namespace: the run's.
        missing: called with the kubelet's message about a Secret that does not exist or lacks a key.

    Raises:
        NotSupportedError: the step wants volumes, or anything else that only a pod has.

    """
    if beyond := _OUT_OF_REACH & {name for name, value in kubernetes.items() if value}:
        raise NotSupportedError(f"only a real Kubeflow can do this: {', '.join(sorted(beyond))}")
    variables: dict[str, str] = {}
    for wanted in kubernetes.get("secretAsEnv", []):
        named = wanted.get("secretNameParameter")
        name = parameter(named) if named else wanted["secretName"]
        keys = {entry["secretKey"]: entry["envVar"] for entry in wanted.get("keyToEnv", [])}
        values = _values(cluster, namespace, name, keys, bool(wanted.get("optional")), missing)
        variables |= {variable: values[key] for key, variable in keys.items() if key in values}
    return variables


def _values(
    cluster: Cluster | None,
    namespace: str,
    name: str,
    keys: Mapping[str, str],
    optional: bool,
    missing: Callable[[str], None],
) -> dict[str, str]:
    if cluster is None:
        if optional:
            return {}
        while True:  # without Kubernetes no Secret can be created
            signal.pause()
    for found in cluster.watch_secret(namespace, name):
        if optional or (found is not None and keys.keys() <= found.keys()):
            return found or {}
        lacking = next(iter(keys.keys() - (found or {}).keys()), "")
        missing(f'secret "{name}" not found' if found is None else f"couldn't find key {lacking} in Secret {namespace}/{name}")
    raise AssertionError("a watch has no end")
