"""`render`: every object that would be applied for a resource, and the run that would be submitted. Called by `__main__`.

For review, for GitOps and for support: no cluster is asked and nothing is applied. What only a cluster knows (the resource's uid,
the model's address, the source Secret's values) is left out or masked.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from winecontract.signatures import CURRENT, SECRET
from winepipelines.lifecycle.rolling import reference
from winepipelines.platform import crds
from winepipelines.platform.kubeflow import Kubeflow
from winepipelines.platform.manifests import Manifest, Manifests
from winepipelines.platform.mlflow import CREDENTIAL_KEYS
from winepipelines.platform.modelkeys import without_key
from winepipelines.platform.namespace import SOURCE_KEYS, Namespace
from winepipelines.platform.objectstore import ObjectStore
from winepipelines.platform.seldondeployment import seldon_deployment
from winepipelines.resource.naming import HASH_ANNOTATION, MLFLOW_SECRET, run_name
from winepipelines.resource.pipeline import API_VERSION, KIND, WinePipeline
from winepipelines.resource.prediction import EXPERIMENT, PREDICTION_KIND, ChosenModel, WinePrediction
from winepipelines.resource.rollout import ModelRef, Rollout
from winepipelines.settings import Settings

MASK = "***"
UNKNOWN_VALUE = "eA=="  # of a Secret, which is not read here
UNKNOWN_UID = "(uid)"
UNKNOWN_MODEL = "s3://known-when-the-run-has-logged-its-model"
NOT_CHOSEN = ChosenModel(
    revision=0, mlflow_run="(that of the model that serves then)", version="(its version)", pipeline_uid=UNKNOWN_UID
)
KINDS: Mapping[str, type[WinePipeline] | type[WinePrediction]] = {KIND: WinePipeline, PREDICTION_KIND: WinePrediction}
GUIDE = {
    "WINE_KFP_URL": "http://ml-pipeline.kubeflow.svc.cluster.local:8888",
    "WINE_MLFLOW_URL": "http://mlflow-server.kubeflow.svc.cluster.local:5000",
    "WINE_S3_ENDPOINT_URL": "http://minio.kubeflow.svc.cluster.local:9000",
}
"""Where the guide has the platform: stands in for addresses that are not set."""


class RenderError(Exception):
    """The input cannot be rendered; the message says why, a line a problem."""


@dataclass(frozen=True)
class Document:
    """One YAML document and what it is."""

    about: str
    content: Mapping[str, Any]

    def __str__(self) -> str:
        """Write it as YAML under a comment."""
        text = yaml.safe_dump(dict(self.content), sort_keys=False, allow_unicode=True, width=120)
        return "".join(f"# {line}\n" for line in self.about.splitlines()) + text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the command's options."""
    parser.add_argument("-f", "--filename", help="file with WinePipelines and WinePredictions, - for standard input")
    parser.add_argument("-n", "--namespace", default="default", help="for resources that name none (default: %(default)s)")
    parser.add_argument("--model-uri", help="print only the SeldonDeployment that serves this model: the guide's deploy step")
    parser.add_argument("--name", default="mlflow", help="of the SeldonDeployment, without -f (default: %(default)s)")


def run(options: argparse.Namespace, environment: Mapping[str, str]) -> int:
    """Print the documents; return the exit status."""
    for name, address in GUIDE.items():
        if not environment.get(name):
            print(f"render: {name} is not set: {address} stands in", file=sys.stderr)
    settings = Settings.from_environment({**GUIDE, **{name: value for name, value in environment.items() if value}})
    try:
        documents = [
            document
            for resource in _resources(options, settings)
            for document in render(resource, settings, options.model_uri or "")
        ]
    except RenderError as error:
        print(f"render: {error}", file=sys.stderr)
        return 1
    print("---\n".join(map(str, documents)), end="")
    return 0


def render(resource: WinePipeline | WinePrediction, settings: Settings, model_uri: str = "") -> Iterator[Document]:
    """Build what would be applied and submitted for a resource; with `model_uri` a pipeline's SeldonDeployment alone.

    Raises RenderError where the address is none that the serving platform can copy.
    """
    if isinstance(resource, WinePipeline):
        yield from _pipeline(resource, settings, model_uri)
    elif not model_uri:
        yield _prediction(resource, settings)


def _pipeline(pipeline: WinePipeline, settings: Settings, model_uri: str) -> Iterator[Document]:
    manifests = Manifests(settings.templates)
    if model_uri:
        store = ObjectStore(settings)
        if (why := store.refusal(model_uri)) is not None:
            raise RenderError(f"--model-uri: {why}")
        stored = store.address(model_uri)
        about = f"The SeldonDeployment that serves {stored}"
        yield _deployment(pipeline, settings, manifests, _model(pipeline, stored), about)
        return
    source, mlflow = ({"data": dict.fromkeys(keys, UNKNOWN_VALUE)} for keys in (SOURCE_KEYS, CREDENTIAL_KEYS))
    nobody: Any = None  # building asks no API server
    for manifest in Namespace(nobody, manifests, settings).wanted(pipeline, source, mlflow):
        metadata = manifest["metadata"]
        if manifest["kind"] == "Secret":
            copied = settings.mlflow_secret_of_steps if metadata["name"] == MLFLOW_SECRET else settings.source_secret
            about = f"values copied from the Secret {settings.platform_namespace}/{copied}, masked here"
            manifest = {**manifest, "data": dict.fromkeys(manifest["data"], MASK)}
        else:
            about = "for notebooks"
        yield Document(f"{manifest['kind']} {metadata['name']}: {about}", _known_owner(pipeline, manifest))
    key = {**without_key(pipeline, pipeline.namespace), "type": "Opaque", "data": {CURRENT: MASK}}
    about = "the key that steps sign models with, made once and masked here"
    yield Document(f"Secret {SECRET}: {about}", _known_owner(pipeline, key))
    yield _run(pipeline, settings)
    model = pipeline.status.candidate or pipeline.status.served
    serving = reference(model) if model else _model(pipeline, UNKNOWN_MODEL)
    yield _deployment(pipeline, settings, manifests, serving, "The SeldonDeployment, once there is a model")


def _run(pipeline: WinePipeline, settings: Settings) -> Document:
    revision, experiment = max(pipeline.status.revision, 1), pipeline.spec.training.experiment
    request = Kubeflow(settings).request(pipeline, run_name(pipeline, revision), revision, f"(id of experiment {experiment})")
    return _submitted(f"The run of revision {revision}", pipeline, experiment, request, settings)


def _prediction(prediction: WinePrediction, settings: Settings) -> Document:
    if prediction.status.model is None:
        prediction = prediction.with_status(prediction.status.with_(model=NOT_CHOSEN))
    request = Kubeflow(settings).prediction_request(prediction, prediction.run_name, f"(id of experiment {EXPERIMENT})")
    return _submitted("The run that scores the file", prediction, EXPERIMENT, request, settings)


def _submitted(
    what: str, resource: WinePipeline | WinePrediction, experiment: str, request: dict[str, Any], settings: Settings
) -> Document:
    about = (
        f"{what}, no object of the cluster: POST {settings.kfp_url}/apis/v2beta1/runs\n"
        f"The experiment {experiment!r} is found or made in namespace {resource.namespace} first"
    )
    return Document(about, request)


def _model(pipeline: WinePipeline, uri: str) -> ModelRef:
    return ModelRef(max(pipeline.status.revision, 1), uri, "", pipeline.spec.serving.runtime)


def _deployment(pipeline: WinePipeline, settings: Settings, manifests: Manifests, model: ModelRef, about: str) -> Document:
    manifest = seldon_deployment(manifests, settings, pipeline, Rollout(model))
    return Document(about, _known_owner(pipeline, manifest))


def _known_owner(pipeline: WinePipeline, manifest: Manifest) -> Manifest:
    """Leave out the owner where its uid is not known: applied so, the garbage collector would take the object away."""
    if pipeline.uid != UNKNOWN_UID:
        return manifest
    metadata = {key: value for key, value in manifest["metadata"].items() if key != "ownerReferences"}
    if "annotations" in metadata:
        metadata["annotations"] = {key: value for key, value in metadata["annotations"].items() if key != HASH_ANNOTATION}
    return {**manifest, "metadata": metadata}


def _resources(options: argparse.Namespace, settings: Settings) -> Iterator[WinePipeline | WinePrediction]:
    """Read the resources that are asked for. Raises RenderError."""
    if options.filename is None:
        if not options.model_uri:
            raise RenderError("name a file: -f wine.yaml, or - for standard input")
        metadata = {"name": options.name, "namespace": options.namespace}
        yield _resource({"kind": KIND, "metadata": metadata, "spec": {"data": {"url": "s3://unknown/"}}})
        return
    schemas = crds.read(settings.crds)
    found = False
    for body in _bodies(options.filename):
        if body.get("apiVersion") != API_VERSION or body.get("kind") not in KINDS:
            continue
        found = True
        metadata = body.setdefault("metadata", {})
        metadata.setdefault("namespace", options.namespace)
        where = f"{options.filename}: {metadata['namespace']}/{metadata.get('name', 'without a name')}"
        wrong = [] if metadata.get("name") else ["metadata.name: is missing"]
        wrong += [
            problem for problem in crds.problems(body, schemas[API_VERSION, body["kind"]]) if not problem.startswith("status")
        ]
        if wrong:
            raise RenderError("\n".join(f"{where}: {problem}" for problem in wrong))
        try:
            yield _resource(body)
        except ValidationError as error:
            first = error.errors()[0]
            raise RenderError(f"{where}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    if not found:
        raise RenderError(f"{options.filename}: there is no {' and no '.join(KINDS)} of {API_VERSION} in it")


def _resource(body: dict[str, Any]) -> WinePipeline | WinePrediction:
    metadata = {"uid": UNKNOWN_UID, "resourceVersion": "", **body["metadata"]}
    kind = KINDS[body["kind"]]
    asked = kind.from_body({**body, "metadata": metadata, "status": {}})
    try:
        return kind.from_body({**body, "metadata": metadata})
    except ValidationError:  # a status of another version: what is asked for can be shown all the same
        return asked


def _bodies(filename: str) -> Iterator[dict[str, Any]]:
    try:
        text = sys.stdin.read() if filename == "-" else Path(filename).read_text(encoding="utf-8")
        documents = [document for document in yaml.safe_load_all(text) if document is not None]
    except (OSError, UnicodeError) as error:
        raise RenderError(f"{filename}: cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise RenderError(f"{filename}: is not YAML: {error}") from None
    for document in documents:
        if not isinstance(document, dict):
            raise RenderError(f"{filename}: holds a {type(document).__name__}, not an object")
        items = document.get("items")
        yield from items if isinstance(items, list) else [document]
