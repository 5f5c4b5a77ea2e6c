"""The operator's rights, as `deploy/operator/rbac.yaml` grants them; a test compares the two. Pure."""

from dataclasses import replace

from winecontract.signatures import SECRET as KEY_SECRET
from winepipelines.api.naming import ARTIFACT_SECRET, MLFLOW_SECRET
from winepipelines.doctor.backend import ObservedBackend
from winepipelines.doctor.right import Right
from winepipelines.settings import Settings

ROLE = "wine-operator"
PIPELINES = "pipelines.kubeflow.org"


def rights(settings: Settings, backend: ObservedBackend) -> tuple[Right, ...]:
    """List the rights in the order of the manifest: on all namespaces, or on each that the operator is limited to."""
    everywhere = in_namespaces(settings, backend)
    if settings.namespaces:
        there = [replace(right, namespace=namespace) for namespace in settings.namespaces for right in everywhere]
    else:
        # kopf discovers the kinds
        there = [*everywhere, Right("apiextensions.k8s.io", "customresourcedefinitions", ("list", "watch"))]
    sources = dict.fromkeys(filter(None, (*backend.source.names, settings.mlflow_secret, settings.steps_mlflow_secret)))
    if settings.namespaces and settings.platform_namespace not in settings.namespaces:
        sources[KEY_SECRET] = None  # of runs in single-user mode
    if not settings.namespaces or settings.platform_namespace in settings.namespaces:
        sources.pop(ARTIFACT_SECRET, None)  # all of its name may be read
    return (*there, *(Right("", "secrets", ("get", "list", "watch"), name, settings.platform_namespace) for name in sources))


def in_namespaces(settings: Settings, backend: ObservedBackend) -> tuple[Right, ...]:
    """List the rights on objects in users' namespaces."""
    return (
        Right("winepipelines.io", "winepipelines", ("list", "watch", "patch")),  # its own resources
        Right("winepipelines.io", "winepipelines/status", ("update",)),  # its own status
        Right("winepipelines.io", "winepredictions", ("list", "watch", "patch", "delete")),  # deleted when they expire
        Right("winepipelines.io", "winepredictions/status", ("update",)),  # its own status
        Right("events.k8s.io", "events", ("create",)),  # Events about transitions
        Right("kubeflow.org", "poddefaults", ("get", "list", "watch", "patch", "create", "delete")),  # for notebooks
        *backend.rights,  # the objects that serve models
        Right("", "secrets", ("get", "list", "watch", "patch"), name=backend.source.copy_name),  # models are copied with it
        *(
            (Right("", "secrets", ("get", "list", "watch", "patch"), name=MLFLOW_SECRET),)
            if settings.mlflow_secret_of_steps
            else ()
        ),  # for steps
        Right("", "secrets", ("get", "list", "watch", "patch"), name=KEY_SECRET),  # steps sign models with it
        Right("", "secrets", ("get", "list", "watch"), name=ARTIFACT_SECRET),  # its keys are checked and copied
        Right("", "secrets", ("create",)),  # RBAC cannot limit creation by name
        Right("", "pods", ("list",)),  # why steps and model servers do not start
        Right("argoproj.io", "workflows", ("list", "watch")),  # they announce changes of runs
        Right(PIPELINES, "runs", ("create", "list", "terminate", "delete")),  # checked by Kubeflow Pipelines
        Right(PIPELINES, "experiments", ("create", "list")),  # likewise
    )
