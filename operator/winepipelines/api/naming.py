"""Names of the objects that the operator makes, each a pure function of the resource."""

from winepipelines.api.pipeline import API_VERSION, GROUP, KIND, WinePipeline

PODDEFAULT_MLFLOW = "mlflow-server-minio"
PODDEFAULT_MINIO = "access-minio"
MLFLOW_SECRET = "wine-mlflow-credentials"
ARTIFACT_SECRET = "mlpipeline-minio-artifact"
CHAMPION, CHALLENGER = "champion", "challenger"
MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"
MANAGED_BY = "wine-operator"
PIPELINE_LABEL = f"{GROUP}/pipeline"
HASH_ANNOTATION = f"{GROUP}/applied"
TEMPLATE_ANNOTATION = f"{GROUP}/template"  # on pods: which of a deployment's templates they are of


def run_name(pipeline: WinePipeline, revision: int) -> str:
    """Name the run of a revision. The uid tells a resource from an earlier one of the same name."""
    return f"{pipeline.name}-{pipeline.uid[:8]}-{revision}"


def data_check_name(pipeline: WinePipeline, count: int) -> str:
    """Name a run that looks whether the data have changed."""
    return f"{pipeline.name}-{pipeline.uid[:8]}-data-{count}"


def field_manager(pipeline: WinePipeline) -> str:
    """Name the field manager under which this resource applies objects.

    One for each resource: children that are shared then have every resource's owner reference side by side, and go when
    the last owner goes.
    """
    return f"{MANAGED_BY}-{pipeline.uid[:8]}"


def owner_reference(pipeline: WinePipeline) -> dict[str, object]:
    """Name the resource as an owner."""
    return {"apiVersion": API_VERSION, "kind": KIND, "name": pipeline.name, "uid": pipeline.uid}
