"""What tests of MLflow have in common: a sandbox of nothing but MLflow and its object store, and signed records."""

from collections.abc import Mapping

from winecontract.signatures import SIGNATURE_TAG, Keys, sign, statement
from winepipelines.platform.signed import Expected
from winepipelines.resource.pipeline import GROUP

MLFLOW_ONLY = frozenset({"etcd", "apiserver", "controller-manager", "kubeflow", "seldon", "operator", "data"})
KEYS = Keys.parse({"current": "ab" * 32})
REGISTERED_MODEL = "admin.mlflow"


def expected(uid: str = "uid-1", revision: int = 7, kfp_run: str = "kfp-1", keys: Keys = KEYS) -> Expected:
    """A record that the operator looks for."""
    return Expected("admin", uid, revision, kfp_run, REGISTERED_MODEL, keys)


def signature(run_id: str, tags: Mapping[str, str], metrics: Mapping[str, float] = {}, keys: Keys = KEYS) -> dict[str, str]:
    """The tag with which a train step signs a run; `tags` are without prefix."""
    prefixed = {f"{GROUP}/{name}": value for name, value in tags.items()}
    return {SIGNATURE_TAG: sign(statement(run_id, REGISTERED_MODEL, prefixed, metrics), keys)}
