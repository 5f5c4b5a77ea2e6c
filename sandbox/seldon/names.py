"""Names as Seldon makes them. Pure; used by `objects`.

Source: seldon-core 1.18, `operator/apis/machinelearning.seldon.io/v1/seldondeployment_types.go`.
"""

import hashlib

LONGEST = 63  # characters in a DNS label


def _hashed(name: str) -> str:
    return "seldon-" + hashlib.md5(name.encode(), usedforsecurity=False).hexdigest() if len(name) > LONGEST else name


def seldon_id(deployment: str) -> str:
    """The value of the label `seldon-deployment-id`."""
    return _hashed(deployment)


def service(deployment: str, predictor: str) -> str:
    """A predictor's Service, which its executor answers."""
    return _hashed(f"{deployment}-{predictor}")


def container_service(deployment: str, predictor: str, container: str) -> str:
    """The Service of one container, which the model server answers."""
    return _hashed(f"{deployment}-{predictor}-{container}")


def workload(deployment: str, predictor: str, index: int, containers: list[str]) -> str:
    """A predictor's Deployment; `index` is that of the componentSpec."""
    return _hashed(f"{deployment}-{predictor}-{index}-{'-'.join(containers)}")


def suffixed(container: str, suffix: str) -> str:
    """An init container's or a volume's name after its container's."""
    name = f"{container}-{suffix}"
    return name if len(name) <= LONGEST else name[:LONGEST].removesuffix("-")
