"""The checks, in reading order: what comes first is what the rest stands on. Pure; run by `walk`.

Each function judges one thing and is named by what must hold. A check whose `needs` did not come out well is skipped.
"""

from collections.abc import Callable
from dataclasses import dataclass

from winepipelines.doctor.checks import data, images, kinds, kubeflow, kubernetes, mlflow, namespace, secrets, serving, settings
from winepipelines.doctor.finding import Finding
from winepipelines.doctor.observations import Survey

Judge = Callable[[Survey], Finding | list[Finding]]


@dataclass(frozen=True)
class Check:
    """A check, and the checks that it stands on."""

    judge: Judge
    needs: tuple[Judge, ...] = ()

    @property
    def name(self) -> str:
        """Its name: what must hold."""
        return name_of(self.judge)


def name_of(judge: Judge) -> str:
    """Read a function's name as a sentence."""
    return judge.__name__.replace("_", " ")


PLATFORM = (
    Check(settings.settings_are_complete),  # where everything is
    Check(kubernetes.kubernetes_answers),  # under an identity that it knows
    Check(kinds.winepipelines_are_served, needs=(kubernetes.kubernetes_answers,)),  # our CRD
    Check(kinds.winepipeline_schema_is_current, needs=(kinds.winepipelines_are_served,)),  # not one of an earlier release
    Check(kinds.seldondeployments_are_served, needs=(kubernetes.kubernetes_answers,)),  # Seldon Core 1 is installed
    Check(serving.seldon_controller_runs, needs=(kinds.seldondeployments_are_served,)),  # and is running
    Check(serving.seldon_webhooks_answer, needs=(kinds.seldondeployments_are_served,)),  # and lets models be deployed
    Check(kinds.poddefaults_are_served, needs=(kubernetes.kubernetes_answers,)),  # for notebooks
    Check(kinds.poddefaults_act_on_pods, needs=(kinds.poddefaults_are_served,)),  # their webhook is registered
    Check(kubernetes.rights_are_granted, needs=(kubernetes.kubernetes_answers,)),  # what deploy/operator/rbac.yaml grants
    Check(secrets.source_secret_is_complete, needs=(kubernetes.kubernetes_answers,)),  # Seldon's way to the models
    Check(secrets.mlflow_secret_is_complete, needs=(kubernetes.kubernetes_answers,)),  # and to MLflow, where it asks who comes
    Check(kubeflow.kubeflow_token_is_usable),  # a file, for the right audience, not expired
    Check(kubeflow.kubeflow_answers, needs=(kubeflow.kubeflow_token_is_usable,)),
    Check(kubeflow.kubeflow_lets_the_operator_in, needs=(kubeflow.kubeflow_answers,)),  # who we are there
    Check(
        kubeflow.kubeflow_rights_are_granted, needs=(kubernetes.kubernetes_answers, kubeflow.kubeflow_answers)
    ),  # what we may do there
    Check(
        namespace.shared_artifact_secret_is_complete, needs=(kubernetes.kubernetes_answers, kubeflow.kubeflow_answers)
    ),  # the steps' way to the store, where one namespace has all runs
    Check(mlflow.mlflow_answers),
    Check(mlflow.mlflow_lets_the_operator_in, needs=(mlflow.mlflow_answers,)),  # credentials, allowed hosts
    Check(mlflow.artifacts_are_in_the_store, needs=(mlflow.mlflow_lets_the_operator_in,)),  # where rclone can copy from
    Check(
        mlflow.seldon_can_read_artifacts, needs=(secrets.source_secret_is_complete, mlflow.artifacts_are_in_the_store)
    ),  # with the source Secret
    Check(images.images_are_well_named),
    Check(images.images_can_be_pulled, needs=(kubernetes.kubernetes_answers,)),  # as far as pods tell
)

NAMESPACE = (
    Check(namespace.namespace_is_a_profile, needs=(kubernetes.kubernetes_answers,)),  # or PodDefaults do nothing in it
    Check(namespace.service_account_is_there, needs=(kubernetes.kubernetes_answers,)),  # steps run under it
    Check(namespace.rights_reach_the_namespace, needs=(kubernetes.kubernetes_answers,)),
    Check(namespace.kubeflow_runs_may_start, needs=(kubeflow.kubeflow_lets_the_operator_in,)),  # its own word
    Check(namespace.artifact_secret_is_complete, needs=(kubernetes.kubernetes_answers,)),  # the steps' way to the store
    Check(namespace.steps_can_read_artifacts, needs=(namespace.artifact_secret_is_complete, mlflow.artifacts_are_in_the_store)),
    Check(namespace.model_key_is_usable, needs=(kubernetes.kubernetes_answers,)),  # what steps sign models with
    Check(namespace.models_are_signed, needs=(kubernetes.kubernetes_answers,)),  # or were made before that
    Check(namespace.names_are_free, needs=(kubernetes.kubernetes_answers,)),  # nobody else's objects under our names
)

DATA_HOST = (
    Check(data.data_host_resolves),  # to the same with and without a trailing dot
)
