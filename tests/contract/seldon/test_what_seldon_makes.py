"""The objects that Seldon creates from the operator's manifest, before any pod runs."""

import json
from datetime import timedelta
from typing import Any

import pytest
from support.kubectl import Refused
from support.rollouts import one
from support.seldon import INITIALIZER, Body, Operator

from winepipelines.api.observed import Presence
from winepipelines.api.spec import Runtime
from winepipelines.api.timeouts import Timeouts
from winepipelines.serving.seldon.settings import SeldonSettings

NAME, SERVICE, DEPLOYMENT = "mlflow", "mlflow-wine-super-model", "mlflow-wine-super-model-0-classifier"
URI = "s3://mlflow/contract/2"
AUTOSCALING = {"minReplicas": 2, "maxReplicas": 5, "targetCPUUtilization": 60}
SPECS: dict[str, dict[str, Any]] = {
    "default": {},
    "protocol v2": {"protocol": "v2"},
    "Seldon's own server": {"runtime": "mlflowserver"},
    "autoscaling": {"autoscaling": AUTOSCALING},
    "replicas and resources": {
        "replicas": 2,
        "resources": {"requests": {"cpu": "100m", "memory": "1Gi"}, "limits": {"memory": "2Gi"}},
    },
}


async def _deployment(operator: Operator, uri: str = URI, executor: bool | None = None, **serving: Any) -> Body:
    """Apply a model as the operator does; return the Deployment that Seldon creates."""
    rollout = one(1, uri, serving.get("runtime", "bundled"), executor=executor)
    await operator.seldon().apply(operator.resource(**serving), rollout)
    return operator.endpoint.wait("deployments", operator.namespace, NAME, lambda item: _uri(item) == uri)


def _uri(deployment: Body) -> str:
    [initializer] = deployment["spec"]["template"]["spec"]["initContainers"]
    return str(initializer["args"][0])


def _container(deployment: Body, name: str = "classifier") -> Body:
    containers = deployment["spec"]["template"]["spec"]["containers"]
    return next(container for container in containers if container["name"] == name)


def _variables(container: Body) -> dict[str, str]:
    return {variable["name"]: variable.get("value", "") for variable in container["env"]}


def _stored(operator: Operator) -> Body:
    """Return the SeldonDeployment once Seldon has set its state."""
    return operator.endpoint.wait(
        "seldondeployments", operator.namespace, NAME, lambda item: (item.get("status") or {}).get("state")
    )


@pytest.mark.parametrize("serving", SPECS.values(), ids=list(SPECS))
async def test_applied_manifest_is_accepted_and_not_applied_again(operator: Operator, serving: dict[str, Any]) -> None:
    deployment = await _deployment(operator, **serving)
    before = _stored(operator)
    seldon, resource = operator.seldon(), operator.resource(**serving)
    rollout = one(1, URI, serving.get("runtime", "bundled"))
    view = await seldon.observe(resource, rollout)
    assert view.presence is Presence.CURRENT  # whatever Seldon, its webhook and the schema's defaults have added
    await seldon.apply(resource, rollout)
    after = _stored(operator)
    assert after["metadata"]["generation"] == before["metadata"]["generation"] == 1
    assert after["spec"] == before["spec"]
    again = operator.endpoint.get("deployments", operator.namespace, DEPLOYMENT)
    assert again is not None
    if "autoscaling" in serving:  # the autoscaler sets the number of replicas at any time
        again["spec"]["replicas"] = deployment["spec"]["replicas"]
    assert again["spec"] == deployment["spec"]
    assert deployment["metadata"]["name"] == DEPLOYMENT


async def test_initializer_copies_the_model_with_the_secret(operator: Operator) -> None:
    deployment = await _deployment(operator)
    [initializer] = deployment["spec"]["template"]["spec"]["initContainers"]
    assert initializer["name"] == INITIALIZER
    assert initializer["args"] == [URI, "/mnt/models"]
    assert initializer["envFrom"] == [{"secretRef": {"name": "seldon-init-container-secret"}}]
    [mounted] = [mount for mount in _container(deployment)["volumeMounts"] if mount["mountPath"] == "/mnt/models"]
    assert mounted["readOnly"] is True


@pytest.mark.parametrize(
    ("serving", "image"),
    [({}, "server:7"), ({"protocol": "v2"}, "server:7"), ({"runtime": "mlflowserver"}, "mlflowserver:7")],
    ids=["bundled", "v2", "mlflowserver"],
)
async def test_server_has_the_named_image(operator: Operator, serving: dict[str, Any], image: str) -> None:
    seldon = operator.seldon(server_image="server:7", mlflowserver_image="mlflowserver:7")
    await seldon.apply(operator.resource(**serving), one(1, URI, serving.get("runtime", "bundled")))
    deployment = operator.endpoint.wait("deployments", operator.namespace, NAME, lambda item: _uri(item) == URI)
    assert _container(deployment)["image"] == image


@pytest.mark.parametrize(("executor", "port"), [(False, "8000"), (True, "9000")])
async def test_server_gets_the_path_of_the_model_and_its_port(operator: Operator, executor: bool, port: str) -> None:
    variables = _variables(_container(await _deployment(operator, executor=executor)))
    assert (variables["PREDICTIVE_UNIT_ID"], variables["PREDICTIVE_UNIT_HTTP_SERVICE_PORT"]) == ("classifier", port)
    assert json.loads(variables["PREDICTIVE_UNIT_PARAMETERS"]) == [
        {"name": "model_uri", "type": "STRING", "value": "/mnt/models"}
    ]
    assert (variables["MLSERVER_MODEL_NAME"], variables["MLSERVER_HTTP_PORT"]) == ("classifier", port)
    assert variables["MLSERVER_MODEL_URI"] == "/mnt/models"


@pytest.mark.parametrize(("executor", "port"), [(False, "8000"), (True, "9000")])
async def test_server_gets_mlservers_variables_with_protocol_v2(operator: Operator, executor: bool, port: str) -> None:
    variables = _variables(_container(await _deployment(operator, executor=executor, protocol="v2")))
    assert "PREDICTIVE_UNIT_PARAMETERS" not in variables
    assert (variables["MLSERVER_MODEL_NAME"], variables["MLSERVER_HTTP_PORT"]) == ("classifier", port)
    assert variables["MLSERVER_MODEL_URI"] == "/mnt/models"


async def test_seldons_own_server_gets_the_parameter_for_column_names(operator: Operator) -> None:
    variables = _variables(_container(await _deployment(operator, runtime="mlflowserver")))
    parameters = {item["name"]: item["value"] for item in json.loads(variables["PREDICTIVE_UNIT_PARAMETERS"])}
    assert parameters == {"model_uri": "/mnt/models", "xtype": "DataFrame"}


async def test_probes_keep_their_values(operator: Operator) -> None:
    deployment = await _deployment(operator)
    seldon = _container(deployment)
    assert seldon["readinessProbe"]["httpGet"] == {"path": "/health/status", "port": "http", "scheme": "HTTP"}
    assert seldon["livenessProbe"]["httpGet"]["path"] == "/health/ping"
    assert (seldon["startupProbe"]["httpGet"]["path"], seldon["startupProbe"]["failureThreshold"]) == ("/health/status", 180)
    # The server waits before it ends, and has time to end: Seldon's default is 20 s.
    assert seldon["lifecycle"]["preStop"]["exec"]["command"] == ["sleep", "30"]
    assert deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 60


async def test_probes_have_other_paths_with_protocol_v2(operator: Operator) -> None:
    container = _container(await _deployment(operator, protocol="v2"))
    assert container["lifecycle"]["preStop"]["exec"]["command"] == ["sleep", "30"]
    assert container["readinessProbe"]["httpGet"] == {"path": "/v2/health/ready", "port": "http", "scheme": "HTTP"}
    assert container["livenessProbe"]["httpGet"] == {"path": "/v2/health/live", "port": "http", "scheme": "HTTP"}
    assert container["startupProbe"]["httpGet"]["path"] == "/health/status"
    assert {(port["name"], port["containerPort"]) for port in container["ports"]} == {("http", 8000), ("grpc", 9500)}
    assert (container["readinessProbe"]["periodSeconds"], container["livenessProbe"]["failureThreshold"]) == (2, 6)


@pytest.mark.parametrize("executor", [False, True])
async def test_pods_have_no_token_and_run_without_root_and_privileges(operator: Operator, executor: bool) -> None:
    """Seldon gives its user, 8888, to pods without a security context alone; its images name it themselves."""
    pod = (await _deployment(operator, executor=executor))["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    security = {name: value for name, value in pod["securityContext"].items() if value}
    assert security == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    [server] = (one for one in pod["containers"] if one["name"] == "classifier")
    assert server["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


async def test_pods_carry_the_annotation_of_their_template(operator: Operator) -> None:
    deployment = await _deployment(operator)
    live = operator.endpoint.get("seldondeployments", operator.namespace, NAME)
    assert live is not None
    wanted = live["spec"]["predictors"][0]["componentSpecs"][0]["metadata"]["annotations"]["winepipelines.io/template"]
    assert deployment["spec"]["template"]["metadata"]["annotations"]["winepipelines.io/template"] == wanted


async def test_deployment_has_the_operators_progress_deadline(operator: Operator) -> None:
    assert (await _deployment(operator))["spec"]["progressDeadlineSeconds"] == 900


@pytest.mark.parametrize("serving", [{}, {"protocol": "v2"}], ids=["seldon", "v2"])
async def test_service_of_the_predictor_leads_to_the_server(operator: Operator, serving: dict[str, Any]) -> None:
    deployment = await _deployment(operator, **serving)
    service = operator.endpoint.wait("services", operator.namespace, NAME, lambda item: item["metadata"]["name"] == SERVICE)
    assert {port["name"]: (port["port"], port["targetPort"]) for port in service["spec"]["ports"]} == {
        "http": (8000, 8000),
        "grpc": (9500, 9500),
    }
    template = deployment["spec"]["template"]
    assert [container["name"] for container in template["spec"]["containers"]] == ["classifier"]
    assert service["spec"]["selector"].items() <= template["metadata"]["labels"].items()
    assert template["metadata"]["annotations"]["prometheus.io/port"] == "8000"


@pytest.mark.parametrize("serving", [{}, {"runtime": "mlflowserver"}], ids=["bundled", "mlflowserver"])
async def test_service_of_the_predictor_leads_to_an_executor(operator: Operator, serving: dict[str, Any]) -> None:
    deployment = await _deployment(operator, executor=True, **serving)
    service = operator.endpoint.wait("services", operator.namespace, NAME, lambda item: item["metadata"]["name"] == SERVICE)
    assert {port["name"]: port["port"] for port in service["spec"]["ports"]} == {"http": 8000, "grpc": 5001}
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
    assert labels["seldon-deployment-id"] == deployment["metadata"]["labels"]["seldon-deployment-id"] == NAME
    assert {port["containerPort"] for port in _container(deployment, "seldon-container-engine")["ports"]} == {8000, 5001}


async def test_deployment_and_service_stay_when_the_executor_is_removed(operator: Operator) -> None:
    before = await _deployment(operator, executor=True)
    known = operator.endpoint.wait("services", operator.namespace, NAME, lambda item: item["metadata"]["name"] == SERVICE)
    after = await _deployment(operator, uri="s3://mlflow/contract/3", executor=False)
    service = operator.endpoint.get("service", operator.namespace, SERVICE)
    assert service is not None
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert (service["metadata"]["uid"], service["spec"]["clusterIP"]) == (known["metadata"]["uid"], known["spec"]["clusterIP"])
    assert service["spec"]["ports"][0] == known["spec"]["ports"][0]
    assert after["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == "10%"  # of one pod: none


async def test_changed_deadline_replaces_no_pod(operator: Operator) -> None:
    before = await _deployment(operator)
    seldon = operator.seldon(timeouts=Timeouts(progress_deadline=timedelta(hours=1)))
    resource = operator.resource()
    assert (await seldon.observe(resource, one(1, URI))).presence is Presence.CURRENT
    await seldon.apply(resource, one(1, URI))
    after = operator.endpoint.get("deployment", operator.namespace, DEPLOYMENT)
    assert after is not None
    assert after["metadata"]["generation"] == before["metadata"]["generation"]


@pytest.mark.parametrize(("protocol", "path"), [("seldon", "/api/v1.0/predictions"), ("v2", "/v2/models/classifier/infer")])
async def test_status_has_the_address_but_no_observed_generation(operator: Operator, protocol: str, path: str) -> None:
    await _deployment(operator, protocol=protocol)
    live = operator.endpoint.wait(
        "seldondeployments", operator.namespace, NAME, lambda item: "address" in (item.get("status") or {})
    )
    assert live["status"]["address"]["url"] == f"http://{SERVICE}.{operator.namespace}.svc.cluster.local:8000{path}"
    assert live["status"]["state"] in ("Creating", "Available")
    assert "observedGeneration" not in live["status"]
    seldon = operator.seldon(endpoint_template=SeldonSettings().endpoint_template)
    assert seldon.backend.endpoints(operator.resource(protocol=protocol)).stable.url == live["status"]["address"]["url"]


async def test_name_over_63_characters_is_hashed(operator: Operator) -> None:
    name = "w" * 45
    await operator.seldon().apply(operator.resource(name), one(1, URI))
    deployment = operator.endpoint.wait("deployments", operator.namespace, name, lambda _: True)
    assert deployment["metadata"]["name"].startswith("seldon-")
    assert len(deployment["metadata"]["name"]) <= 63
    service = f"{name}-wine-super-model"
    operator.endpoint.wait("services", operator.namespace, name, lambda item: item["metadata"]["name"] == service)


class TestAutoscaling:
    async def test_autoscaling_makes_an_autoscaler_of_the_deployment(self, operator: Operator) -> None:
        deployment = await _deployment(operator, autoscaling=AUTOSCALING)
        autoscaler = operator.endpoint.wait("hpa", operator.namespace, NAME, lambda _: True)
        assert autoscaler["apiVersion"] == "autoscaling/v2"
        assert autoscaler["metadata"]["name"] == DEPLOYMENT
        spec = autoscaler["spec"]
        assert spec["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": DEPLOYMENT}
        assert (spec["minReplicas"], spec["maxReplicas"]) == (2, 5)
        [metric] = spec["metrics"]
        assert metric["resource"] == {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 60}}
        for container in deployment["spec"]["template"]["spec"]["containers"]:
            assert container["resources"]["requests"]["cpu"], container["name"]

    async def test_replicas_belong_to_the_autoscaler(self, operator: Operator) -> None:
        await _deployment(operator, autoscaling=AUTOSCALING)
        operator.endpoint.wait("hpa", operator.namespace, NAME, lambda _: True)
        self._scale(operator, 4)
        again = await _deployment(operator, uri="s3://mlflow/contract/3", autoscaling=AUTOSCALING)
        assert again["spec"]["replicas"] == 4

    async def test_replicas_change_owner_without_a_jump(self, operator: Operator) -> None:
        """Turn autoscaling on with 3 replicas, then off with 2. No other number occurs in between."""
        await _deployment(operator, replicas=3)
        seen: list[int] = []
        seldon = operator.seldon()
        await seldon.apply(operator.resource(replicas=3, autoscaling={"minReplicas": 2, "maxReplicas": 5}), one(1, URI))
        operator.endpoint.wait("hpa", operator.namespace, NAME, lambda _: True)

        def has_requests(item: Body) -> bool:  # the template has the request that the autoscaler needs
            seen.append(item["spec"]["replicas"])
            return "cpu" in _container(item)["resources"]["requests"]

        operator.endpoint.wait("deployments", operator.namespace, NAME, has_requests)
        assert set(seen) == {3}
        seen.clear()
        await seldon.apply(operator.resource(replicas=2), one(1, URI))

        def has_none(item: Body) -> bool:
            seen.append(item["spec"]["replicas"])
            return "cpu" not in _container(item)["resources"]["requests"]

        operator.endpoint.wait("deployments", operator.namespace, NAME, has_none)
        assert set(seen) <= {3, 2}
        assert seen[-1] == 2
        operator.endpoint.run(
            *("-n", operator.namespace, "wait", "--for=delete", f"hpa/{DEPLOYMENT}", "--timeout=30s"),
        )

    def _scale(self, operator: Operator, replicas: int) -> None:
        patch = json.dumps({"spec": {"replicas": replicas}})
        operator.endpoint.run(
            "-n", operator.namespace, "patch", "deployment", DEPLOYMENT, "--subresource=scale", "-p", patch, "--type=merge"
        )


class TestPredictors:
    """The operator's manifest with other predictors."""

    def _manifest(self, operator: Operator, *changes: dict[str, Any]) -> Body:
        manifest = operator.seldon().backend.manifest(operator.resource(), one(1, URI))
        [predictor] = manifest["spec"]["predictors"]
        return {**manifest, "spec": {**manifest["spec"], "predictors": [{**predictor, **change} for change in changes]}}

    async def test_other_name_is_another_deployment(self, operator: Operator) -> None:
        await _deployment(operator)
        operator.endpoint.apply(self._manifest(operator, {"name": "renamed"}))
        operator.endpoint.wait(
            "deployments", operator.namespace, NAME, lambda item: item["metadata"]["name"] == "mlflow-renamed-0-classifier"
        )

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ([{"traffic": 50}, {"name": "canary", "traffic": 40}], "Traffic must sum to 100 for multiple predictors"),
            ([{"traffic": 50}], "Traffic must sum be 100 for a single predictor when set"),
            (
                [{"traffic": 100}, {"name": "b", "traffic": 0, "shadow": True}, {"name": "c", "traffic": 0, "shadow": True}],
                "Multiple shadows are not allowed",
            ),
            ([{"shadow": True}], "Shadow can not exist as only predictor"),
            ([{"traffic": 50}, {"traffic": 50}], "Duplicate predictor name"),
        ],
    )
    async def test_invalid_object_is_rejected_with_a_reason(
        self, operator: Operator, changes: list[dict[str, Any]], words: str
    ) -> None:
        with pytest.raises(Refused, match=words):
            operator.endpoint.apply(self._manifest(operator, *changes))

    async def test_shadow_and_weights_that_sum_to_100_are_accepted(self, operator: Operator) -> None:
        changes = ({"traffic": 90}, {"name": "canary", "traffic": 10}, {"name": "shadow", "traffic": 0, "shadow": True})
        operator.endpoint.apply(self._manifest(operator, *changes))


def test_every_runtime_is_covered() -> None:
    assert {serving.get("runtime", "bundled") for serving in SPECS.values()} == {runtime.value for runtime in Runtime}
