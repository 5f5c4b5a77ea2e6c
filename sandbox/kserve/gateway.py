"""The Services of KServe's predictors on this machine: `/kserve/<namespace>/<name>/<path>`, by the InferenceService's name."""

from sandbox.seldon.gateway import Gateway, Route


class PredictorGateway(Gateway):
    """Hands requests on to the servers of a predictor that are ready. There is nothing in front of them: paths are their own."""

    def _find(self, raw: str) -> tuple[Route, str] | None:
        match raw.split("/", 4):
            case ["", "kserve", namespace, name, path]:
                if routes := self._routes.get((namespace, name)):  # Knative's
                    return self._choose(routes), path
                deployment = (namespace, f"{name}-predictor")
                return Route(name, "v2", 100, deployment, executor=False), path
        return None
