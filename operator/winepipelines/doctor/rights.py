"""The operator's rights, one by one: what `deploy/operator/rbac.yaml` grants (a test holds the two together). Pure."""

from dataclasses import dataclass, replace

from winecontract.signatures import SECRET as KEY_SECRET
from winepipelines.resource.naming import ARTIFACT_SECRET, MLFLOW_SECRET, SELDON_SECRET
from winepipelines.settings import Settings

ROLE = "wine-operator"
PIPELINES = "pipelines.kubeflow.org"


@dataclass(frozen=True)
class Right:
    """Verbs on a resource of a group. `name` limits them to one object, `namespace` to one namespace; empty means all."""

    group: str
    resource: str
    verbs: tuple[str, ...]
    name: str = ""
    namespace: str = ""

    def __str__(self) -> str:
        """Name what it is on."""
        resource = f"{self.resource}.{self.group}" if self.group else self.resource
        named = f" {self.name}" if self.name else ""
        where = f" in {self.namespace}" if self.namespace else ""
        return f"{resource}{named}{where}"

    def rule(self, verbs: tuple[str, ...]) -> str:
        """Write the rule that grants some of its verbs, as YAML on one line."""
        group = self.group or '""'
        names = f", resourceNames: [{self.name}]" if self.name else ""
        return f"{{apiGroups: [{group}], resources: [{self.resource}]{names}, verbs: [{', '.join(verbs)}]}}"


def rights(settings: Settings) -> tuple[Right, ...]:
    """List them, in the order of the manifest: for all namespaces, or for each that the operator is limited to."""
    everywhere = in_namespaces(settings)
    if settings.namespaces:
        there = [replace(right, namespace=namespace) for namespace in settings.namespaces for right in everywhere]
    else:
        # kopf looks which kinds there are
        there = [*everywhere, Right("apiextensions.k8s.io", "customresourcedefinitions", ("list", "watch"))]
    sources = dict.fromkeys(filter(None, (settings.source_secret, settings.mlflow_secret, settings.steps_mlflow_secret)))
    if settings.namespaces and settings.platform_namespace not in settings.namespaces:
        sources[KEY_SECRET] = None  # of runs in single-user mode
    # what copies are made from, followed as they change
    return (*there, *(Right("", "secrets", ("get", "list", "watch"), name, settings.platform_namespace) for name in sources))


def in_namespaces(settings: Settings) -> tuple[Right, ...]:
    """List those on objects in users' namespaces."""
    return (
        Right("winepipelines.io", "winepipelines", ("list", "watch", "patch")),  # its own resources
        Right("winepipelines.io", "winepipelines/status", ("update",)),  # it tells what is
        Right("winepipelines.io", "winepredictions", ("list", "watch", "patch", "delete")),  # deleted after their time
        Right("winepipelines.io", "winepredictions/status", ("update",)),  # it tells what is
        Right("events.k8s.io", "events", ("create",)),  # transitions are told
        Right("kubeflow.org", "poddefaults", ("get", "list", "watch", "patch", "create")),  # made for notebooks
        Right(
            "machinelearning.seldon.io", "seldondeployments", ("get", "list", "watch", "patch", "create", "delete")
        ),  # what serves
        Right("", "secrets", ("get", "list", "watch", "patch"), name=SELDON_SECRET),  # made for Seldon
        *(
            (Right("", "secrets", ("get", "list", "watch", "patch"), name=MLFLOW_SECRET),)
            if settings.mlflow_secret_of_steps
            else ()
        ),  # made for steps
        Right("", "secrets", ("get", "list", "watch", "patch"), name=KEY_SECRET),  # that steps sign with
        Right("", "secrets", ("get",), name=ARTIFACT_SECRET),  # whose keys are looked at
        Right("", "secrets", ("create",)),  # cannot be limited by name
        Right("apps", "deployments", ("list",)),  # what Seldon makes of it
        Right("", "pods", ("list",)),  # and what keeps it from starting
        Right("argoproj.io", "workflows", ("list", "watch")),  # which tell that a run has moved
        Right(PIPELINES, "runs", ("create", "list", "terminate", "delete")),  # asked by Kubeflow Pipelines
        Right(PIPELINES, "experiments", ("create", "list")),  # likewise
    )
