"""The containers of a predictor's pods: the model server, the init container that copies the model, the executor.

Pure; used by `objects`. Source: seldon-core 1.18, `createContainerService`, `addModelDefaultServers`, `addMLServerDefault`,
`InjectModelInitializer` and `createExecutorContainer`, with the Helm chart's default values.
"""

import base64
import json
from typing import Any

from sandbox.seldon import names

Object = dict[str, Any]

VERSION = "1.18.2"
ENGINE = "seldon-container-engine"
ENGINE_IMAGE = f"docker.io/seldonio/seldon-core-executor:{VERSION}"
INITIALIZER_IMAGE = f"docker.io/seldonio/rclone-storage-initializer:{VERSION}"
SERVER_IMAGES = {
    ("MLFLOW_SERVER", "seldon"): f"docker.io/seldonio/mlflowserver:{VERSION}",
    ("SKLEARN_SERVER", "seldon"): f"docker.io/seldonio/sklearnserver:{VERSION}",
    ("MLFLOW_SERVER", "v2"): "docker.io/seldonio/mlserver:1.3.5-mlflow",
    ("SKLEARN_SERVER", "v2"): "docker.io/seldonio/mlserver:1.3.5-sklearn",
}
RUNTIMES = {"MLFLOW_SERVER": "mlserver_mlflow.MLflowRuntime", "SKLEARN_SERVER": "mlserver_sklearn.SKLearnModel"}
MODELS = "/mnt/models"
HTTP, GRPC, METRICS, ENGINE_HTTP, ENGINE_GRPC = 9000, 9500, 6000, 8000, 5001
USER = 8888
HANDLERS = ("httpGet", "tcpSocket", "exec", "grpc")  # the actions of a probe
PODINFO = {"name": "seldon-podinfo", "mountPath": "/etc/podinfo"}
TERMINATION = {"terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File"}


def port_of(container: Object, name: str, otherwise: int) -> int:
    """Return the number of a container's port by name, or Seldon's default."""
    return int(next((port["containerPort"] for port in container.get("ports") or [] if port.get("name") == name), otherwise))


def complete(container: Object, sdep: Object, spec: Object, protocol: str, labels: Object) -> None:
    """Add the missing parts to the model's container: image, ports, probes and the variables of Seldon and MLServer."""
    graph, http, grpc = spec["graph"], port_of(container, "http", HTTP), port_of(container, "grpc", GRPC)
    implementation = graph.get("implementation", "")
    container.setdefault("image", SERVER_IMAGES.get((implementation, protocol), ""))
    container.setdefault("imagePullPolicy", "IfNotPresent")
    for key, value in TERMINATION.items():
        container.setdefault(key, value)
    ports = container.setdefault("ports", [])
    for name, number in (("metrics", METRICS), ("http", HTTP), ("grpc", GRPC)):
        if not any(port.get("name") == name for port in ports):
            ports.append({"name": name, "containerPort": number, "protocol": "TCP"})
    timing = {"periodSeconds": 5, "successThreshold": 1, "failureThreshold": 3, "timeoutSeconds": 1}
    container.setdefault("livenessProbe", {"tcpSocket": {"port": http}, "initialDelaySeconds": 60, **timing})
    container.setdefault("readinessProbe", {"tcpSocket": {"port": http}, "initialDelaySeconds": 20, **timing})
    container.setdefault("lifecycle", {"preStop": {"exec": {"command": ["/bin/sh", "-c", "/bin/sleep 10"]}}})
    container.setdefault("volumeMounts", []).append(dict(PODINFO))
    wanted = {
        "PREDICTIVE_UNIT_SERVICE_PORT": str(http),
        "PREDICTIVE_UNIT_HTTP_SERVICE_PORT": str(http),
        "MLSERVER_HTTP_PORT": str(http),
        "PREDICTIVE_UNIT_GRPC_SERVICE_PORT": str(grpc),
        "MLSERVER_GRPC_PORT": str(grpc),
        "PREDICTIVE_UNIT_ID": container["name"],
        "MLSERVER_MODEL_NAME": container["name"],
        "PREDICTIVE_UNIT_IMAGE": container["image"],
        "PREDICTOR_ID": spec["name"],
        "PREDICTOR_LABELS": json.dumps(labels, sort_keys=True, separators=(",", ":")),
        "SELDON_DEPLOYMENT_ID": sdep["metadata"]["name"],
        "SELDON_EXECUTOR_ENABLED": "true",
        "PREDICTIVE_UNIT_METRICS_SERVICE_PORT": str(METRICS),
        "PREDICTIVE_UNIT_METRICS_ENDPOINT": "/prometheus",
        "MLSERVER_METRICS_PORT": str(METRICS),
        "MLSERVER_METRICS_ENDPOINT": "/prometheus",
    }
    parameters = list(graph.get("parameters", []))
    if implementation in RUNTIMES and protocol == "v2":
        wanted["MLSERVER_MODEL_IMPLEMENTATION"] = RUNTIMES[implementation]
        wanted["MLSERVER_MODEL_VERSION"] = "v1"
    elif implementation in RUNTIMES:
        parameters.append({"name": "model_uri", "type": "STRING", "value": MODELS})
    if parameters:
        wanted["PREDICTIVE_UNIT_PARAMETERS"] = json.dumps(parameters, separators=(",", ":"))
    if graph.get("modelUri"):
        wanted["MLSERVER_MODEL_URI"] = MODELS
    own = container.setdefault("env", [])
    if implementation in RUNTIMES and protocol != "v2":  # Seldon sets the path for its own server
        own[:] = [variable for variable in own if variable["name"] != "PREDICTIVE_UNIT_PARAMETERS"]
    set_already = {variable["name"] for variable in own}
    own += [{"name": name, "value": value} for name, value in wanted.items() if name not in set_already]
    if implementation in RUNTIMES and protocol == "v2":
        _make_mlserver(container)


def _make_mlserver(container: Object) -> None:
    """Set MLServer's ports and probe paths in a container. The probes keep their periods."""
    container["ports"] = [
        {"name": name, "containerPort": port_of(container, name, number), "protocol": "TCP"}
        for name, number in (("grpc", GRPC), ("http", HTTP))
    ]
    for probe, path in (("readinessProbe", "/v2/health/ready"), ("livenessProbe", "/v2/health/live")):
        timing = {key: value for key, value in container[probe].items() if key not in HANDLERS}
        container[probe] = {"httpGet": {"path": path, "port": "http", "scheme": "HTTP"}, **timing}


def add_initializer(pod_spec: Object, container: Object, graph: Object) -> None:
    """Add the init container that copies the model, and the volume it shares with the model's container."""
    volume = names.suffixed(container["name"], "provision-location")
    initializer: Object = {
        "name": names.suffixed(container["name"], "model-initializer"),
        "image": graph.get("storageInitializerImage") or INITIALIZER_IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "args": [graph["modelUri"], MODELS],
        "volumeMounts": [{"name": volume, "mountPath": MODELS}],
        "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "100m", "memory": "100Mi"}},
        **TERMINATION,
    }
    if graph.get("envSecretRefName"):
        initializer["envFrom"] = [{"secretRef": {"name": graph["envSecretRefName"]}}]
    if graph.get("serviceAccountName"):
        pod_spec["serviceAccountName"] = graph["serviceAccountName"]
    pod_spec.setdefault("initContainers", []).append(initializer)
    pod_spec.setdefault("volumes", []).append({"name": volume, "emptyDir": {}})
    container["volumeMounts"].append({"name": volume, "mountPath": MODELS, "readOnly": True})


def engine(sdep: Object, spec: Object, protocol: str) -> Object:
    """Return the executor's container. Its predictor lacks traffic and replicas, whose changes must not restart pods."""
    predictor_spec = json.dumps({**spec, "traffic": 0, "replicas": 0}, sort_keys=True, separators=(",", ":"))
    probe = {"periodSeconds": 5, "successThreshold": 1, "failureThreshold": 3, "timeoutSeconds": 60}
    resources = spec.get("svcOrchSpec", {}).get("resources")
    default = {"cpu": "500m", "memory": "512Mi"}
    return {
        "name": ENGINE,
        "image": ENGINE_IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "args": [
            *("--sdep", sdep["metadata"]["name"], "--namespace", sdep["metadata"]["namespace"]),
            *("--predictor", spec["name"], "--http_port", str(ENGINE_HTTP), "--grpc_port", str(ENGINE_GRPC)),
            *("--protocol", protocol, "--transport", sdep["spec"].get("transport") or "rest"),
            *("--prometheus_path", "/prometheus", "--server_type", sdep["spec"].get("serverType") or "rpc"),
            *("--log_work_buffer_size", "10000", "--log_write_timeout_ms", "2000", "--full_health_checks=false"),
        ],
        "env": [
            {"name": "ENGINE_PREDICTOR", "value": base64.b64encode(predictor_spec.encode()).decode()},
            {"name": "REQUEST_LOGGER_DEFAULT_ENDPOINT", "value": "http://default-broker"},
            *spec.get("svcOrchSpec", {}).get("env", []),
        ],
        "ports": [
            {"name": "http", "containerPort": ENGINE_HTTP, "protocol": "TCP"},
            {"name": "metrics", "containerPort": ENGINE_HTTP, "protocol": "TCP"},
            {"name": "grpc", "containerPort": ENGINE_GRPC, "protocol": "TCP"},
        ],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": ENGINE_HTTP}, "initialDelaySeconds": 20, **probe},
        "livenessProbe": {"httpGet": {"path": "/live", "port": ENGINE_HTTP}, "initialDelaySeconds": 20, **probe},
        "resources": resources or {"limits": dict(default), "requests": dict(default)},
        "securityContext": {"runAsUser": USER, "allowPrivilegeEscalation": False},
        "volumeMounts": [dict(PODINFO)],
        **TERMINATION,
    }
