"""Which other resources read or write the output of a prediction.

Resources are listed from the API server, not from the operator's memory: after a start it may not know all of them yet.
"""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any

from winecontract.addresses import AddressError, S3Address, may_be_object, parse
from winepipelines.api.prediction import REPORT_SUFFIX, PredictionSpec, PredictionStage, WinePrediction, default_output
from winepipelines.api.scoring import OutputClaim, OutputUse
from winepipelines.platform.kubernetes import WINEPIPELINES, WINEPREDICTIONS, Body, Kind, Kubernetes


class OutputUses:
    """Finds the resources in the operator's namespaces that use an output."""

    def __init__(self, kubernetes: Kubernetes, folder: str, namespaces: Sequence[str] = ()) -> None:
        """List these namespaces, or all if there are none. Outputs without an address of their own are below `folder`."""
        self._kubernetes = kubernetes
        self._folder = folder
        self._namespaces = tuple(namespaces) or ("",)

    async def of(self, prediction: WinePrediction) -> OutputUse:
        """List the other resources that read or write a prediction's output or report, oldest first.

        Raises PlatformError if the resources cannot be listed.
        """
        try:
            output = parse(prediction.output)
        except AddressError:
            return OutputUse()
        if not isinstance(output, S3Address):
            return OutputUse()
        claims = [
            _claim(body)
            async for body in self._all(WINEPREDICTIONS)
            if body["metadata"]["uid"] != prediction.uid and _is_one_of(self._output(body), output.bucket, output.key)
        ]
        written = (output.key, output.key + REPORT_SUFFIX)
        trained_on = [
            f"{body['metadata']['namespace']}/{body['metadata']['name']}"
            async for body in self._all(WINEPIPELINES)
            if _is_one_of(_text(body, "data", "url"), output.bucket, *written)
        ]
        return OutputUse(tuple(sorted(claims, key=lambda claim: (claim.created_at, claim.uid))), tuple(sorted(trained_on)))

    def _output(self, body: Body) -> str:
        """Return the address of a WinePrediction's output: that of its spec, else the one that is or will be chosen."""
        chosen = _text(body, "output") or (body.get("status") or {}).get("output")
        if isinstance(chosen, str) and chosen:
            return chosen
        metadata, spec = body["metadata"], PredictionSpec.read_leniently(body.get("spec") or {})
        return default_output(self._folder, metadata["namespace"], metadata["name"], metadata["uid"], spec.input)

    async def _all(self, kind: Kind) -> AsyncIterator[Body]:
        for namespace in self._namespaces:
            async for page in self._kubernetes.listed(kind.path(namespace)):
                for body in page.get("items") or ():
                    yield body


def _text(body: Body, *path: str) -> str:
    value: Any = body.get("spec")
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, str) else ""


def _is_one_of(address: str, bucket: str, *keys: str) -> bool:
    try:
        source = parse(address)
    except AddressError:  # no step reads or writes such an address
        return False
    return any(may_be_object(source, bucket, key) for key in keys)


def _claim(body: Body) -> OutputClaim:
    metadata, status = body["metadata"], body.get("status") or {}
    stage = status.get("stage")
    return OutputClaim(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        created_at=datetime.fromisoformat(metadata["creationTimestamp"]),
        stage=PredictionStage(stage) if stage in set(PredictionStage) else None,
        begun=bool(status.get("model") or status.get("run")),
        deleting="deletionTimestamp" in metadata,
    )
