"""The registry of checks, in reading order: a check comes after those that it needs. Run by `runner`.

A check is an evaluating function and, unless another check has it, a coroutine that observes: see CONTRIBUTING.md. The checks of
the serving backend are in the backend's folder.
"""

from winepipelines.doctor.check import BackendChecks, Check
from winepipelines.doctor.checks import (
    data,
    images,
    kinds,
    kubeflow,
    kubernetes,
    mesh,
    mlflow,
    namespace,
    poddefaults,
    secrets,
    settings,
)

API = (kubernetes.kubernetes_answers,)
OUR_KINDS = (kinds.winepipelines_are_served,)


def platform_checks(backend: BackendChecks) -> tuple[Check, ...]:
    """List the checks of the platform as a whole, with those of the serving backend."""
    return (
        Check(settings.settings_are_complete),
        Check(kubernetes.kubernetes_answers),
        Check(kinds.winepipelines_are_served, needs=API),
        Check(kinds.winepipeline_schema_is_current, needs=OUR_KINDS, observe=kinds.observe_missing_fields),
        Check(kinds.poddefaults_are_served, needs=API),
        Check(kinds.poddefaults_act_on_pods, needs=(kinds.poddefaults_are_served,), observe=kinds.observe_webhooks),
        Check(kubernetes.rights_are_granted, needs=API),
        *backend.platform,
        Check(secrets.mlflow_secret_is_complete, needs=API),
        Check(kubeflow.kubeflow_token_is_usable),
        Check(kubeflow.kubeflow_answers, needs=(kubeflow.kubeflow_token_is_usable,)),
        Check(kubeflow.kubeflow_authorizes_the_operator, needs=(kubeflow.kubeflow_answers,)),
        Check(kubeflow.kubeflow_rights_are_granted, needs=(*API, kubeflow.kubeflow_answers)),
        Check(namespace.shared_artifact_secret_is_complete, needs=(*API, kubeflow.kubeflow_answers)),
        Check(mlflow.mlflow_answers),
        Check(mlflow.mlflow_authorizes_the_operator, needs=(mlflow.mlflow_answers,)),
        Check(mlflow.artifacts_are_in_the_store, needs=(mlflow.mlflow_authorizes_the_operator,)),
        *backend.artifacts,
        Check(images.image_names_are_valid),
        Check(images.images_can_be_pulled, needs=API, observe=images.observe_pulls),
    )


NAMESPACE = (
    Check(namespace.namespace_is_a_profile, needs=API),
    Check(namespace.service_account_exists, needs=API),
    Check(namespace.rights_apply_in_the_namespace, needs=API),
    Check(namespace.kubeflow_authorizes_runs, needs=(kubeflow.kubeflow_authorizes_the_operator,)),
    Check(namespace.artifact_secret_is_complete, needs=API),
    Check(
        namespace.steps_can_read_and_write_artifacts,
        needs=(namespace.artifact_secret_is_complete, mlflow.artifacts_are_in_the_store),
    ),
    Check(namespace.steps_can_write_outputs, needs=(namespace.artifact_secret_is_complete,)),
    Check(secrets.models_are_copied_with_known_keys, needs=API, observe=secrets.observe_keys_of_models),
    Check(namespace.model_key_is_usable, needs=API),
    Check(namespace.models_are_signed, needs=API),
    Check(
        poddefaults.poddefaults_admit_pods,
        needs=(kinds.poddefaults_are_served,),
        observe=poddefaults.observe_pod_defaults,
    ),
    Check(namespace.names_are_available, needs=API),
    Check(mesh.mesh_admits_the_operator, needs=API, observe=mesh.observe_mesh_policies),
)
"""The checks of a user's namespace."""

DATA_HOST = (Check(data.data_host_resolves),)
"""The check of the host of a data address. Nothing is fetched from it."""
