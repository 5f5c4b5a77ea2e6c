"""The model server's container, as far as it is the same for every serving backend. Pure."""

from winepipelines.api.spec import Resources

CPU_REQUEST = "250m"  # an autoscaler aims at a share of the request: every container must have one
DEFAULT_MEMORY = {"requests": "256Mi", "limits": "2Gi"}
"""Memory of the bundled server if spec.serving.resources names none: idle it uses 250 MiB, at worst 300 MiB more."""
# Seconds for which the server of a terminating pod accepts new requests. kube-proxy needs one or two. If no other pod is ready,
# it sends requests to the terminating one all that time: a single pod that is deleted or evicted is replaced meanwhile.
DRAIN_SECONDS = 30
CANDIDATE_DRAIN_SECONDS = 5  # the served model's pods keep serving


def resources_of(requested: Resources, *, autoscaled: bool, bundled: bool) -> dict[str, dict[str, str | int]]:
    """Build requests and limits of the container: those of the spec, and what they leave open."""
    resources = {"requests": dict(requested.requests), "limits": dict(requested.limits)}
    named = {**requested.requests, **requested.limits}
    if autoscaled and "cpu" not in named:
        resources["requests"]["cpu"] = CPU_REQUEST
    if bundled and "memory" not in named:
        for kind, memory in DEFAULT_MEMORY.items():
            resources[kind]["memory"] = memory
    return resources
