"""The Pod Security Standard *restricted*, as Kubernetes documents it (v1.34): what a pod does that it forbids.

https://kubernetes.io/docs/concepts/security/pod-security-standards/. Pods on Windows nodes are not considered.
"""

from collections.abc import Iterator
from typing import Any

Object = dict[str, Any]
VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
SYSCTLS = {
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
}
SELINUX_TYPES = {"", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"}
APPARMOR = "container.apparmor.security.beta.kubernetes.io/"


def pods(manifest: Object) -> Iterator[Object]:
    """Find the pod or the pod template of a manifest."""
    spec = manifest.get("spec", {})
    if manifest["kind"] == "Pod":
        yield manifest
    elif manifest["kind"] == "CronJob":
        yield spec["jobTemplate"]["spec"]["template"]
    elif manifest["kind"] in ("Deployment", "ReplicaSet", "StatefulSet", "DaemonSet", "Job", "ReplicationController"):
        yield spec["template"]


def violations(pod: Object) -> Iterator[str]:
    """Say what of a pod, or of a pod template, is forbidden; each with its field."""
    spec = pod["spec"]
    context = spec.get("securityContext") or {}
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(field):
            yield f"spec.{field} is set"
    for volume in spec.get("volumes") or []:
        if kinds := volume.keys() - {"name"} - VOLUMES:
            yield f"volume {volume['name']} is of a forbidden type: {', '.join(sorted(kinds))}"
    for sysctl in context.get("sysctls") or []:
        if sysctl["name"] not in SYSCTLS:
            yield f"sysctl {sysctl['name']} is not a safe one"
    for name, profile in (pod.get("metadata", {}).get("annotations") or {}).items():
        if name.startswith(APPARMOR) and profile != "runtime/default" and not profile.startswith("localhost/"):
            yield f"annotation {name} is {profile}"
    yield from _identity("spec", context)
    for container in (*(spec.get("initContainers") or []), *spec["containers"], *(spec.get("ephemeralContainers") or [])):
        yield from _container(container, context)


def _container(container: Object, pod: Object) -> Iterator[str]:
    where = f"container {container['name']}"
    own = container.get("securityContext") or {}
    if own.get("privileged"):
        yield f"{where}: privileged"
    if own.get("allowPrivilegeEscalation") is not False:
        yield f"{where}: allowPrivilegeEscalation is not false"
    if own.get("procMount", "Default") != "Default":
        yield f"{where}: procMount is {own['procMount']}"
    capabilities = own.get("capabilities") or {}
    if "ALL" not in (capabilities.get("drop") or []):
        yield f"{where}: does not drop ALL capabilities"
    if added := set(capabilities.get("add") or []) - {"NET_BIND_SERVICE"}:
        yield f"{where}: adds {', '.join(sorted(added))}"
    if own.get("runAsNonRoot", pod.get("runAsNonRoot")) is not True:
        yield f"{where}: runAsNonRoot is not true"
    profile = (own.get("seccompProfile") or pod.get("seccompProfile") or {}).get("type")
    if profile not in ("RuntimeDefault", "Localhost"):
        yield f"{where}: seccompProfile is {profile}"
    yield from _identity(where, own)
    for port in container.get("ports") or []:
        if port.get("hostPort"):
            yield f"{where}: hostPort {port['hostPort']}"
    lifecycle = container.get("lifecycle") or {}
    handlers = [container.get(name) for name in ("livenessProbe", "readinessProbe", "startupProbe")]
    for handler in (*handlers, lifecycle.get("postStart"), lifecycle.get("preStop")):
        for way in ("httpGet", "tcpSocket"):
            if ((handler or {}).get(way) or {}).get("host"):
                yield f"{where}: a probe or hook names a host"


def _identity(where: str, context: Object) -> Iterator[str]:
    """What is forbidden to a pod's security context and to a container's alike."""
    if context.get("runAsUser") == 0:
        yield f"{where}: runAsUser is 0"
    if context.get("runAsNonRoot") is False:
        yield f"{where}: runAsNonRoot is false"
    if (context.get("seccompProfile") or {}).get("type") == "Unconfined":
        yield f"{where}: seccompProfile is Unconfined"
    if (context.get("appArmorProfile") or {}).get("type") == "Unconfined":
        yield f"{where}: appArmorProfile is Unconfined"
    selinux = context.get("seLinuxOptions") or {}
    if selinux.get("type", "") not in SELINUX_TYPES or selinux.get("user") or selinux.get("role"):
        yield f"{where}: seLinuxOptions are not those of a container"
    if (context.get("windowsOptions") or {}).get("hostProcess"):
        yield f"{where}: a Windows host process"
