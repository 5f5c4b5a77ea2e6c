"""The objects that Seldon's operator makes of a SeldonDeployment. Pure; used by `controller`.

Source: seldon-core 1.18, `seldondeployment_controller.go` and its neighbours, with the Helm chart's default values.
"""

import base64
import copy
import hashlib
import json
from dataclasses import dataclass
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
    ("MLFLOW_SERVER", "v2"): "docker.io/seldonio/mlserver:1.6.0-mlflow",
    ("SKLEARN_SERVER", "v2"): "docker.io/seldonio/mlserver:1.6.0-sklearn",
}
RUNTIMES = {"MLFLOW_SERVER": "mlserver_mlflow.MLflowRuntime", "SKLEARN_SERVER": "mlserver_sklearn.SKLearnModel"}
MODELS = "/mnt/models"
HTTP, GRPC, METRICS, ENGINE_HTTP, ENGINE_GRPC = 9000, 9500, 6000, 8000, 5001
USER = 8888
MANAGED_BY = {"app.kubernetes.io/managed-by": "seldon-core"}
APPLIED = "seldon.io/last-applied-hash"
PODINFO = {"name": "seldon-podinfo", "mountPath": "/etc/podinfo"}
TERMINATION = {"terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File"}


@dataclass(frozen=True)
class Predictor:
    """One predictor's objects and how it is reached. With an autoscaler the Deployment names no replicas."""

    name: str
    protocol: str
    traffic: int
    deployment: Object
    services: tuple[Object, ...]
    autoscaler: Object | None

    @property
    def service(self) -> str:
        """The name of the Service that its executor answers."""
        return str(self.services[0]["metadata"]["name"])


def predictors(sdep: Object) -> list[Predictor]:
    """Build every predictor's objects; the spec has passed `validation`."""
    return [_predictor(sdep, spec) for spec in sdep["spec"]["predictors"]]


def pod(deployment: Object, name: str) -> Object:
    """A Pod of a Deployment as the API server knows it. No ReplicaSet stands between: its controller is not there."""
    template = deployment["spec"]["template"]
    meta = copy.deepcopy(template["metadata"])
    meta["labels"] = {**meta.get("labels", {}), **MANAGED_BY, "pod-template-hash": template_hash(deployment)}
    meta.pop("creationTimestamp", None)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            **meta,
            "name": name,
            "namespace": deployment["metadata"]["namespace"],
            "ownerReferences": [_owner(deployment, "apps/v1", "Deployment")],
        },
        "spec": template["spec"],
    }


def template_hash(deployment: Object) -> str:
    """What tells one pod template from another; ten characters."""
    return _digest(deployment["spec"]["template"])[:10]


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _owner(owner: Object, version: str, kind: str) -> Object:
    return {
        "apiVersion": version,
        "kind": kind,
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def _predictor(sdep: Object, spec: Object) -> Predictor:
    protocol = sdep["spec"].get("protocol") or "seldon"
    protocol = "v2" if protocol == "kfserving" else protocol
    parts = spec.get("componentSpecs") or []
    index, part = next(((i, p) for i, p in enumerate(parts) if p.get("spec", {}).get("containers")), (0, Object()))
    labels = {"version": spec["name"], **spec.get("labels", {})}
    name, service = sdep["metadata"]["name"], names.service(sdep["metadata"]["name"], spec["name"])
    container_service = names.container_service(name, spec["name"], spec["graph"]["name"])
    key = f"seldon-app-svc-{spec['graph']['name']}"
    deployment = _deployment(sdep, spec, protocol, part, index, {key: container_service, "seldon-app": service}, labels)
    hpa = part.get("hpaSpec")
    if not hpa:
        replicas = (part.get("replicas"), spec.get("replicas"), sdep["spec"].get("replicas"), 1)
        deployment["spec"]["replicas"] = next(number for number in replicas if number is not None)
    deployment["metadata"]["annotations"][APPLIED] = _digest(deployment)
    return Predictor(
        name=spec["name"],
        protocol=protocol,
        traffic=0 if spec.get("shadow") else spec.get("traffic", 0) or (100 if len(sdep["spec"]["predictors"]) == 1 else 0),
        deployment=deployment,
        services=(
            _service(sdep, service, {"seldon-app": service}, ENGINE_HTTP, ENGINE_GRPC, spec),
            _service(sdep, container_service, {key: container_service}, HTTP, GRPC, spec, {"seldon.io/model": "true"}),
        ),
        autoscaler=_autoscaler(sdep, deployment["metadata"]["name"], hpa) if hpa else None,
    )


def _meta(sdep: Object, name: str, labels: Object, annotations: Object) -> Object:
    return {
        "name": name,
        "namespace": sdep["metadata"]["namespace"],
        "labels": {"seldon-deployment-id": names.seldon_id(sdep["metadata"]["name"]), **MANAGED_BY, **labels},
        "annotations": dict(annotations),
        "ownerReferences": [_owner(sdep, "machinelearning.seldon.io/v1", "SeldonDeployment")],
    }


def _service(
    sdep: Object, name: str, selector: Object, http: int, grpc: int, spec: Object, labels: Object | None = None
) -> Object:
    ports = [{"name": n, "port": p, "targetPort": p, "protocol": "TCP"} for n, p in (("http", http), ("grpc", grpc))]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _meta(sdep, name, {**selector, **(labels or {})}, spec.get("annotations", {})),
        "spec": {"type": "ClusterIP", "selector": selector, "sessionAffinity": "None", "ports": ports},
    }


def _autoscaler(sdep: Object, name: str, hpa: Object) -> Object:
    old = [
        {
            "type": metric["type"],
            "resource": {
                "name": metric["resource"]["name"],
                "target": {"type": "Utilization", "averageUtilization": metric["resource"]["targetAverageUtilization"]},
            },
        }
        for metric in hpa.get("metrics", [])
        if metric.get("resource", {}).get("targetAverageUtilization")
    ]
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": _meta(sdep, name, {}, {}),
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
            "minReplicas": hpa.get("minReplicas", 1),
            "maxReplicas": hpa["maxReplicas"],
            "metrics": hpa.get("metricsv2") or old,
        },
    }


def _deployment(sdep: Object, spec: Object, protocol: str, part: Object, index: int, selector: Object, labels: Object) -> Object:
    pod_spec = copy.deepcopy(part.get("spec") or {})
    graph = spec["graph"]
    containers = pod_spec.setdefault("containers", [])
    container = next((c for c in containers if c["name"] == graph["name"]), None)
    if container is None:
        container = {"name": graph["name"]}
        containers.append(container)
    name = names.workload(sdep["metadata"]["name"], spec["name"], index, [c["name"] for c in containers])
    _complete_container(container, sdep, spec, protocol, labels)
    if graph.get("modelUri"):
        _add_initializer(pod_spec, container, graph)
    containers.append(_engine(sdep, spec, protocol))
    pod_spec.setdefault("securityContext", {"runAsUser": USER})
    pod_spec.setdefault("terminationGracePeriodSeconds", 20)
    field = {"path": "annotations", "fieldRef": {"fieldPath": "metadata.annotations", "apiVersion": "v1"}}
    volumes = pod_spec.setdefault("volumes", [])
    volumes.append({"name": PODINFO["name"], "downwardAPI": {"items": [field], "defaultMode": 420}})
    own = {"app": name, "fluentd": "true", "seldon.io/model": "true", **selector, **labels}
    extra = part.get("metadata", {})
    annotations = {
        **sdep["spec"].get("annotations", {}),
        **spec.get("annotations", {}),
        **extra.get("annotations", {}),
    }
    meta = _meta(sdep, name, {**own, **extra.get("labels", {}), "seldon-deployment-contains-svcorch": "true"}, annotations)
    identity = {"seldon-deployment-id": meta["labels"]["seldon-deployment-id"]}
    deployment: Object = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": meta,
        "spec": {
            "selector": {"matchLabels": {**identity, **selector}},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "10%"}},
            "template": {
                "metadata": {
                    "labels": {**identity, **MANAGED_BY, **own, **extra.get("labels", {})},
                    "annotations": {"prometheus.io/path": "/prometheus", "prometheus.io/scrape": "true", **annotations},
                },
                "spec": pod_spec,
            },
        },
    }
    if "progressDeadlineSeconds" in spec:
        deployment["spec"]["progressDeadlineSeconds"] = spec["progressDeadlineSeconds"]
    return deployment


def _complete_container(container: Object, sdep: Object, spec: Object, protocol: str, labels: Object) -> None:
    """Give the model's container what it lacks: image, ports, probes and the variables of Seldon and MLServer."""
    graph = spec["graph"]
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
    container.setdefault("livenessProbe", {"tcpSocket": {"port": HTTP}, "initialDelaySeconds": 60, **timing})
    container.setdefault("readinessProbe", {"tcpSocket": {"port": HTTP}, "initialDelaySeconds": 20, **timing})
    container.setdefault("lifecycle", {"preStop": {"exec": {"command": ["/bin/sh", "-c", "/bin/sleep 10"]}}})
    container.setdefault("volumeMounts", []).append(dict(PODINFO))
    wanted = {
        "PREDICTIVE_UNIT_SERVICE_PORT": str(HTTP),
        "PREDICTIVE_UNIT_HTTP_SERVICE_PORT": str(HTTP),
        "MLSERVER_HTTP_PORT": str(HTTP),
        "PREDICTIVE_UNIT_GRPC_SERVICE_PORT": str(GRPC),
        "MLSERVER_GRPC_PORT": str(GRPC),
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
    set_already = {variable["name"] for variable in own}
    own += [{"name": name, "value": value} for name, value in wanted.items() if name not in set_already]


def _add_initializer(pod_spec: Object, container: Object, graph: Object) -> None:
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


def _engine(sdep: Object, spec: Object, protocol: str) -> Object:
    """The executor. It is told the predictor without traffic and replicas, whose changes must not restart pods."""
    told = json.dumps({**spec, "traffic": 0, "replicas": 0}, sort_keys=True, separators=(",", ":"))
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
            {"name": "ENGINE_PREDICTOR", "value": base64.b64encode(told.encode()).decode()},
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
