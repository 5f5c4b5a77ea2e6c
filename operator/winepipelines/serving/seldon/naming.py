"""Names in a SeldonDeployment. They are constant: another predictor or graph name makes another Deployment."""

from winepipelines.doctor.observations import ServingKind

PREDICTOR = "wine-super-model"
CANDIDATE_PREDICTOR = "candidate"
GRAPH = "classifier"
COPY_SECRET = "seldon-init-container-secret"
DEPLOYMENT_LABEL = "seldon-deployment-id"
KIND = ServingKind("machinelearning.seldon.io", "v1", "seldondeployments", "SeldonDeployment", "sdep", "Seldon Core 1")
