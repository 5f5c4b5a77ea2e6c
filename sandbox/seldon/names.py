"""Names as in Seldon. Pure; used by `objects`.

Source: seldon-core 1.18, `operator/apis/machinelearning.seldon.io/v1/seldondeployment_types.go`.
"""

import hashlib

LONGEST = 63  # characters in a DNS label


def _hashed(name: str) -> str:
    return "seldon-" + hashlib.md5(name.encode(), usedforsecurity=False).hexdigest() if len(name) > LONGEST else name


def seldon_id(deployment: str) -> str:
    """Return the value of the label `seldon-deployment-id`."""
    return _hashed(deployment)


def service(deployment: str, predictor: str) -> str:
    """Return the name of a predictor's Service, which its executor answers."""
    return _hashed(f"{deployment}-{predictor}")


def container_service(deployment: str, predictor: str, container: str) -> str:
    """Return the name of a container's Service, which the model server answers."""
    return _hashed(f"{deployment}-{predictor}-{container}")


def workload(deployment: str, predictor: str, index: int, containers: list[str]) -> str:
    """Return the name of a predictor's Deployment. `index` is that of the componentSpec."""
    return _hashed(f"{deployment}-{predictor}-{index}-{'-'.join(containers)}")


def suffixed(container: str, suffix: str) -> str:
    """Return the name of a container's init container or volume."""
    name = f"{container}-{suffix}"
    return name if len(name) <= LONGEST else name[:LONGEST].removesuffix("-")
