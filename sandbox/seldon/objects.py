"""The objects that Seldon's operator creates for a SeldonDeployment. Pure; used by `controller`.

Source: seldon-core 1.18, `seldondeployment_controller.go` and its neighbours, with the Helm chart's default values.
"""

import copy
import hashlib
import json
from dataclasses import dataclass
from typing import Any

from sandbox.seldon import containers, names
from sandbox.seldon.containers import ENGINE_GRPC, ENGINE_HTTP, GRPC, HTTP, PODINFO, USER

Object = dict[str, Any]

MANAGED_BY = {"app.kubernetes.io/managed-by": "seldon-core"}
APPLIED = "seldon.io/last-applied-hash"
NO_ENGINE = "seldon.io/no-engine"  # a predictor without executor: its Service has the ports of its model's container


@dataclass(frozen=True)
class Predictor:
    """One predictor's objects and address. With an autoscaler, the Deployment does not set replicas."""

    name: str
    protocol: str
    traffic: int
    deployment: Object
    services: tuple[Object, ...]
    autoscaler: Object | None

    @property
    def service(self) -> str:
        """Return the name of its Service, which its executor answers, or else its server."""
        return str(self.services[0]["metadata"]["name"])

    def port(self, name: str) -> int:
        """Return the number of its Service's port: http or grpc."""
        return int(next(port["port"] for port in self.services[0]["spec"]["ports"] if port["name"] == name))

    @property
    def executor(self) -> bool:
        """Report whether its pods have an executor."""
        return any(c["name"] == containers.ENGINE for c in self.deployment["spec"]["template"]["spec"]["containers"])


def has_engine(predictor: Object) -> bool:
    """Report whether Seldon adds its executor to a predictor's pods."""
    return str((predictor.get("annotations") or {}).get(NO_ENGINE, "")).lower() != "true"


def predictors(sdep: Object) -> list[Predictor]:
    """Build every predictor's objects. The spec must have passed `validation`."""
    return [_predictor(sdep, spec) for spec in sdep["spec"]["predictors"]]


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
    server = next(c for c in deployment["spec"]["template"]["spec"]["containers"] if c["name"] == spec["graph"]["name"])
    own = (containers.port_of(server, "http", HTTP), containers.port_of(server, "grpc", GRPC))
    outer = (ENGINE_HTTP, ENGINE_GRPC) if has_engine(spec) else own
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
            _service(sdep, service, {"seldon-app": service}, *outer, spec),
            _service(sdep, container_service, {key: container_service}, *own, spec, {"seldon.io/model": "true"}),
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
    inside = pod_spec.setdefault("containers", [])
    container = next((c for c in inside if c["name"] == graph["name"]), None)
    if container is None:
        container = {"name": graph["name"]}
        inside.append(container)
    name = names.workload(sdep["metadata"]["name"], spec["name"], index, [c["name"] for c in inside])
    containers.complete(container, sdep, spec, protocol, labels)
    if graph.get("modelUri"):
        containers.add_initializer(pod_spec, container, graph)
    if has_engine(spec):
        inside.append(containers.engine(sdep, spec, protocol))
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
    orchestrated = {"seldon-deployment-contains-svcorch": "true"} if has_engine(spec) else {}
    meta = _meta(sdep, name, {**own, **extra.get("labels", {}), **orchestrated}, annotations)
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
