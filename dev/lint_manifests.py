"""Check every manifest against its schema: `make lint`.

Built-in kinds against Kubernetes' own schemas, custom kinds against the CRDs in `crds/` and `sandbox/manifests/`, unknown fields
refused in both. What the operator renders is checked as it is rendered.
"""

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml

from winepipelines.api.modelrecord import ModelRecord
from winepipelines.api.pipeline import WinePipeline
from winepipelines.api.rollout import Rollout
from winepipelines.platform import crds
from winepipelines.platform.manifests import Manifests
from winepipelines.platform.namespace import Namespace
from winepipelines.serving.backends import BACKENDS
from winepipelines.settings import Settings

KUBERNETES = "1.34"
FILES = ("crds/*.yaml", "deploy/[!c]*/**/*.yaml", "sandbox/manifests/*.yaml")  # charts/ is rendered first, by lint_chart
FOREIGN = (
    "monitoring.coreos.com",
    ".toolkit.fluxcd.io",
    "serving.kserve.io",
    "security.istio.io",
)  # groups whose schemas are not in the repository
Manifest = dict[str, Any]


def main() -> int:
    """Check everything; print each finding; return the exit status."""
    manifests = [*_files(), *rendered()]
    findings = list(check(manifests))
    for finding in findings:
        print(finding, file=sys.stderr)
    print(f"{len(manifests)} manifests, {len(findings)} findings")
    return bool(findings)


def check(manifests: Sequence[tuple[str, Manifest]]) -> Iterator[str]:
    """Say what is wrong with manifests, each given with where it stands; custom kinds are known from the CRDs among them."""
    schemas = _schemas(manifest for _, manifest in manifests)
    for where, manifest in manifests:
        if not manifest["apiVersion"].partition("/")[0].endswith(FOREIGN):
            yield from (f"{where}: {finding}" for finding in _check(manifest, schemas))


def _files() -> Iterator[tuple[str, Manifest]]:
    for pattern in FILES:
        for path in sorted(Path().glob(pattern)):
            for manifest in yaml.safe_load_all(path.read_text()):
                if manifest:
                    yield str(path), manifest


def rendered(backends: Iterable[str] = tuple(BACKENDS)) -> Iterator[tuple[str, Manifest]]:
    """Render what the operator applies for an example, with each of these serving backends."""
    settings = Settings(kfp_url="http://kfp", mlflow_url="http://mlflow", s3_endpoint_url="http://minio")
    manifests = Manifests(settings.templates)
    example = yaml.safe_load(Path("deploy/examples/wine.yaml").read_text())
    example["metadata"] |= {"uid": "01234567-89ab-cdef", "resourceVersion": "1"}
    pipeline = WinePipeline.from_body(example)
    nobody: Any = None  # rendering asks no API server
    rollout = Rollout(1, ModelRecord(uri="s3://mlflow/1/model"))
    built: list[Manifest] = []
    for name in backends:
        backend = BACKENDS[name](settings)
        source = {"data": dict.fromkeys(backend.source.keys, "czM=")}
        built += Namespace(nobody, manifests, settings, backend.source).wanted(pipeline, source)
        built += backend.manifests(pipeline, rollout)
    for manifest in built:
        yield f"rendered {manifest['kind']} {manifest['metadata']['name']}", manifest


def _schemas(manifests: Iterator[Manifest]) -> dict[tuple[str, str], Manifest]:
    """Collect the CRDs' schemas by API version and kind."""
    known: dict[tuple[str, str], Manifest] = {}
    for manifest in manifests:
        if manifest["kind"] == "CustomResourceDefinition":
            known |= crds.schemas(manifest)
    return known


def _check(manifest: Manifest, schemas: dict[tuple[str, str], Manifest]) -> Iterator[str]:
    schema = schemas.get((manifest["apiVersion"], manifest["kind"]))
    if schema is not None:
        yield from crds.problems(manifest, schema)
        return
    try:
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
    except kubernetes_validate.ValidationError as error:
        yield f"{'.'.join(map(str, error.path))}: {error.message}"


if __name__ == "__main__":
    sys.exit(main())
