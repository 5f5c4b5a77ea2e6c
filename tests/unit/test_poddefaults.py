"""PodDefaults of others beside the operator's own: the rules of Kubeflow's webhook, and what the operator creates."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from support.backends import SOURCE
from support.settings import SETTINGS

from winepipelines.api.naming import owner_reference
from winepipelines.api.observed import Presence, Rival
from winepipelines.api.pipeline import WinePipeline
from winepipelines.api.poddefaults import STEP_VARIABLES, conflicts_of, find_refusal, find_rival, selects
from winepipelines.api.spec import Spec
from winepipelines.api.status import Status
from winepipelines.platform.manifests import Manifests
from winepipelines.platform.namespace import Namespace
from winepipelines.platform.poddefaults import pod_defaults

MANIFESTS = Manifests(SETTINGS.templates)
SPEC = Spec.model_validate({"data": {"url": "http://data/wine.csv"}})
PIPELINE = WinePipeline("admin", "mlflow", "0123456789ab", 1, "1", SPEC, Status())
MLFLOW, MINIO = pod_defaults(MANIFESTS, SETTINGS, "admin", owner_reference(PIPELINE))
KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


def of_secret(variable: str, secret: str, key: str) -> dict[str, Any]:
    return {"name": variable, "valueFrom": {"secretKeyRef": {"name": secret, "key": key, "optional": False}}}


def another(name: str, labels: dict[str, str], *env: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"selector": {"matchLabels": labels}, "env": list(env), **spec}}


CHARM = another(
    "mlflow-server-access-minio",
    {"access-minio": "true"},
    *(of_secret(key, "mlflow-server-minio-artifact", key) for key in KEYS),
    {"name": "MINIO_ENDPOINT_URL", "value": "http://minio.kubeflow:9000"},
)
"""As src/poddefaults/poddefault-minio.yaml.j2 of the MLflow charm makes it."""
PART = another("team-minio", {"access-minio": "true"}, of_secret(KEYS[0], "team", "key"))


class TestRules:
    def test_charms_poddefault_gives_all_that_ours_gives(self) -> None:
        rival = find_rival(MINIO, [CHARM])
        assert rival is not None
        assert (rival.name, rival.lacks) == ("mlflow-server-access-minio", ())
        assert set(KEYS) <= set(rival.conflicts)
        assert find_rival(MLFLOW, [CHARM]) is None

    def test_poddefault_with_a_part_of_the_variables_names_the_rest(self) -> None:
        assert find_rival(MINIO, [PART]) == Rival("team-minio", KEYS[:1], (KEYS[1], "MINIO_ENDPOINT_URL"))
        rival = find_rival(MINIO, [PART, CHARM])
        assert rival is not None
        assert rival.name == "mlflow-server-access-minio", "one that gives everything comes first"

    def test_poddefault_of_the_same_name_that_gives_the_same_is_used(self) -> None:
        same = {**MLFLOW, "metadata": {"name": "mlflow-server-minio"}}
        assert find_rival(MLFLOW, [same]) == Rival("mlflow-server-minio", ())
        assert find_rival(MLFLOW, [{**same, "spec": {**same["spec"], "selector": {"matchLabels": {"app": "x"}}}}]) is None

    def test_identical_variables_do_not_conflict(self) -> None:
        assert find_rival(MINIO, [another("copy", {"access-minio": "true"}, *MINIO["spec"]["env"])]) is None

    def test_poddefault_for_other_pods_does_not_conflict(self) -> None:
        assert find_rival(MINIO, [another("other", {"other": "true"}, *CHARM["spec"]["env"])]) is None

    @pytest.mark.parametrize(
        ("one", "other", "names"),
        [
            ({"volumes": [{"name": "a", "emptyDir": {}}]}, {"volumes": [{"name": "a", "secret": {"secretName": "s"}}]}, ("a",)),
            ({"volumes": [{"name": "a", "emptyDir": {}}]}, {"volumes": [{"name": "a", "emptyDir": {}}]}, ()),
            ({"volumeMounts": [{"name": "a", "mountPath": "/x"}]}, {"volumeMounts": [{"name": "b", "mountPath": "/x"}]}, ("/x",)),
            ({"volumeMounts": [{"name": "a", "mountPath": "/x"}]}, {"volumeMounts": [{"name": "a", "mountPath": "/y"}]}, ("a",)),
            ({"labels": {"a": "1"}}, {"labels": {"a": "2", "b": "3"}}, ("a",)),
            ({"env": [{"name": "A", "value": ""}]}, {"env": [{"name": "A"}]}, ()),
            ({"env": [{"name": "A"}]}, {"env": ["A", {"name": 1}, None]}, ()),
        ],
    )
    def test_names_with_other_content_conflict(self, one: Any, other: Any, names: tuple[str, ...]) -> None:
        assert conflicts_of(one, other) == names

    @pytest.mark.parametrize(
        ("selector", "matches"),
        [
            ({}, True),
            ({"matchLabels": {"a": "1"}}, True),
            ({"matchLabels": {"a": "1", "b": "1"}}, False),
            ({"matchExpressions": [{"key": "a", "operator": "In", "values": ["1", "2"]}]}, True),
            ({"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["1"]}]}, False),
            ({"matchExpressions": [{"key": "b", "operator": "NotIn", "values": ["1"]}]}, True),
            ({"matchExpressions": [{"key": "a", "operator": "Exists"}]}, True),
            ({"matchExpressions": [{"key": "a", "operator": "DoesNotExist"}]}, False),
            ({"matchExpressions": [{"key": "a", "operator": "Unknown"}]}, False),
        ],
    )
    def test_selectors_match_as_in_kubernetes(self, selector: Any, matches: bool) -> None:
        assert selects({"selector": selector}, {"a": "1"}) == matches


class TestSteps:
    def test_poddefault_for_all_pods_has_the_pods_of_steps_refused(self) -> None:
        assert find_refusal([another("all", {}, *CHARM["spec"]["env"])]) == Rival("all", KEYS)
        assert find_refusal([CHARM, PART]) is None, "steps have none of their labels"
        assert find_refusal([another("all", {}, *MINIO["spec"]["env"])]) is None, "from the same source"
        runs = another("runs", {"pipelines.kubeflow.org/v2_component": "true"}, {"name": KEYS[0], "value": "x"})
        assert find_refusal([runs]) == Rival("runs", KEYS[:1])

    def test_variables_of_steps_are_those_of_the_compiled_pipelines(self) -> None:
        _, platform = yaml.safe_load_all((Path(SETTINGS.templates) / "pipelines" / "wine-training.yaml").read_text())
        executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
        secrets = {"s3_secret": "mlpipeline-minio-artifact", "mlflow_secret": "wine-mlflow-credentials"}
        compiled = [
            of_secret(each["envVar"], secrets[name], each["secretKey"])
            for source in executors["exec-train"]["secretAsEnv"]
            if (name := source["secretNameParameter"].get("componentInputParameter")) in secrets
            for each in source["keyToEnv"]
        ]
        names = [(one["name"], one["valueFrom"]["secretKeyRef"]["name"]) for one in compiled]
        assert names == [(one["name"], one["valueFrom"]["secretKeyRef"]["name"]) for one in STEP_VARIABLES]


class Cluster:
    """An API server with PodDefaults. `live` has the operator's own by name."""

    def __init__(self, *others: dict[str, Any]) -> None:
        self.others = list(others)
        self.live: dict[str, dict[str, Any]] = {}
        self.deleted: list[str] = []

    async def ask(self, *_: object, **__: object) -> None:
        return None

    async def get(self, kind: Any, namespace: str, name: str) -> dict[str, Any] | None:
        named = [one for one in self.others if one["metadata"]["name"] == name] if kind.plural == "poddefaults" else []
        return self.live.get(name) or next(iter(named), None)

    async def list(self, kind: Any, namespace: str, keep: Any, most: int, **selectors: str) -> list[dict[str, Any]]:
        assert selectors == {"label_selector": "app.kubernetes.io/managed-by!=wine-operator"}
        return [keep(one) for one in self.others]

    async def apply(self, kind: Any, manifest: dict[str, Any], manager: str) -> dict[str, Any]:
        self.live[manifest["metadata"]["name"]] = {**manifest, "metadata": {**manifest["metadata"], "uid": "u"}}
        return manifest

    async def delete(self, kind: Any, namespace: str, name: str, uid: str) -> None:
        assert uid == "u"
        self.deleted.append(name)
        del self.live[name]


class TestNamespace:
    @staticmethod
    async def presences(namespace: Namespace) -> dict[str, Presence]:
        children = (await namespace.view(PIPELINE)).children
        return {child.name: child.presence for child in children if child.kind == "PodDefault"}

    async def test_ours_follows_what_others_create_and_delete(self) -> None:
        cluster: Any = Cluster(CHARM)
        namespace = Namespace(cluster, MANIFESTS, SETTINGS, SOURCE)
        assert await self.presences(namespace) == {"mlflow-server-minio": Presence.ABSENT, "access-minio": Presence.WITHHELD}
        await namespace.apply(PIPELINE)
        assert "access-minio" not in cluster.live
        cluster.others.clear()
        assert (await self.presences(namespace))["access-minio"] is Presence.ABSENT
        await namespace.apply(PIPELINE)
        assert (await self.presences(namespace))["access-minio"] is Presence.CURRENT
        cluster.others.append(PART)
        assert (await self.presences(namespace))["access-minio"] is Presence.SUPERFLUOUS
        await namespace.apply(PIPELINE)
        assert cluster.deleted == ["access-minio"]
        assert (await self.presences(namespace))["access-minio"] is Presence.WITHHELD

    async def test_equivalent_poddefault_of_the_same_name_is_neither_changed_nor_deleted(self) -> None:
        cluster: Any = Cluster({**MLFLOW, "metadata": {"name": "mlflow-server-minio"}})
        namespace = Namespace(cluster, MANIFESTS, SETTINGS, SOURCE)
        await namespace.apply(PIPELINE)
        assert set(cluster.live) & {"mlflow-server-minio", "access-minio"} == {"access-minio"}
        assert cluster.deleted == []
        assert (await self.presences(namespace))["mlflow-server-minio"] is Presence.WITHHELD

    async def test_pods_of_steps_are_reported_where_the_webhook_acts(self) -> None:
        cluster: Any = Cluster(another("all", {}, *CHARM["spec"]["env"]))
        view = await Namespace(cluster, MANIFESTS, SETTINGS, SOURCE).view(PIPELINE)
        assert view.refusal == Rival("all", KEYS)

        async def platform(_: str) -> str:
            return SETTINGS.platform_namespace

        view = await Namespace(cluster, MANIFESTS, SETTINGS, SOURCE, platform).view(PIPELINE)
        assert view.refusal is None
