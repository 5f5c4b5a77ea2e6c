"""Signed records for tests of MLflow, and the components that a sandbox with MLflow and its object store omits."""

from collections.abc import Mapping

from winecontract.signatures import Keys, sign, statement
from winecontract.tags import Tag
from winepipelines.api.pipeline import GROUP
from winepipelines.platform.signed import Expected

MLFLOW_ONLY = frozenset({"etcd", "apiserver", "controller-manager", "kubeflow", "seldon", "operator", "data"})
KEYS = Keys.parse({"current": "ab" * 32})
REGISTERED_MODEL = "admin.mlflow"


def expected(uid: str = "uid-1", revision: int = 7, kfp_run: str = "kfp-1", keys: Keys = KEYS) -> Expected:
    """Describe the record that the operator expects."""
    return Expected("admin", uid, revision, kfp_run, REGISTERED_MODEL, keys)


def signature(run_id: str, tags: Mapping[str, str], metrics: Mapping[str, float] = {}, keys: Keys = KEYS) -> dict[str, str]:
    """Build the tag with which a train step signs a run. The names of `tags` have no prefix."""
    prefixed = {f"{GROUP}/{name}": value for name, value in tags.items()}
    return {Tag.SIGNATURE: sign(statement(run_id, REGISTERED_MODEL, prefixed, metrics), keys)}
