"""The `render` command: every object that the operator would apply for a resource, and the run that it would submit.

For review, for GitOps and for support: it connects to no cluster and applies nothing. What only a cluster knows (the uid of the
resource, the model's address, the values of the source Secret) is left out or masked.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml
from pydantic import ValidationError

from winecontract.signatures import CURRENT, SECRET
from winepipelines.api.errors import Refused
from winepipelines.api.modelrecord import ModelRecord
from winepipelines.api.naming import HASH_ANNOTATION, MLFLOW_SECRET, run_name
from winepipelines.api.pipeline import API_VERSION, KIND, WinePipeline
from winepipelines.api.prediction import EXPERIMENT, WinePrediction, default_output
from winepipelines.api.rollout import Rollout
from winepipelines.platform import crds
from winepipelines.platform.manifests import Manifest, Manifests
from winepipelines.platform.mlflow import CREDENTIAL_KEYS
from winepipelines.platform.modelkeys import without_key
from winepipelines.platform.namespace import Namespace
from winepipelines.platform.objectstore import ObjectStore
from winepipelines.platform.runrequests import RunRequests
from winepipelines.resource_files import UNKNOWN_UID, ResourceFileError, first_error, read_bodies, read_resource
from winepipelines.serving.backends import Backends, backends_of
from winepipelines.serving.port import ServingBackend
from winepipelines.settings import Settings

MASK = "***"
UNKNOWN_VALUE = "eA=="  # of a Secret, which is not read here
UNKNOWN_MODEL = "s3://known-when-the-run-has-logged-its-model"
NOT_CHOSEN = ModelRecord(uri=UNKNOWN_MODEL, mlflow_run="(that of the model that serves then)", version="(its version)")
GUIDE = {
    "WINE_KFP_URL": "http://ml-pipeline.kubeflow.svc.cluster.local:8888",
    "WINE_MLFLOW_URL": "http://mlflow-server.kubeflow.svc.cluster.local:5000",
    "WINE_S3_ENDPOINT_URL": "http://minio.kubeflow.svc.cluster.local:9000",
}
"""Addresses of the platform in the guide, used if they are not set."""


class RenderError(Exception):
    """The input cannot be rendered; the message has one line per problem."""


@dataclass(frozen=True)
class Document:
    """A YAML document and its description."""

    about: str
    content: Mapping[str, Any]

    def __str__(self) -> str:
        """Return the YAML under a comment with the description."""
        text = yaml.safe_dump(dict(self.content), sort_keys=False, allow_unicode=True, width=120)
        return "".join(f"# {line}\n" for line in self.about.splitlines()) + text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the command's options."""
    parser.add_argument("-f", "--filename", help="file with WinePipelines and WinePredictions, - for standard input")
    parser.add_argument("-n", "--namespace", default="default", help="for resources that name none (default: %(default)s)")
    parser.add_argument("--model-uri", help="print only the objects that serve this model: the guide's deploy step")
    parser.add_argument("--name", default="mlflow", help="name of these objects, without -f (default: %(default)s)")


def run(options: argparse.Namespace, environment: Mapping[str, str]) -> int:
    """Print the documents; return the exit status."""
    for name, address in GUIDE.items():
        if not environment.get(name):
            print(f"render: {name} is not set, using {address}", file=sys.stderr)
    settings = Settings.from_environment({**GUIDE, **{name: value for name, value in environment.items() if value}})
    backends = backends_of(settings, environment)
    try:
        documents = [
            document
            for resource in _resources(options, settings)
            for document in render(resource, settings, backends, options.model_uri or "")
        ]
    except (ResourceFileError, RenderError) as error:
        print(f"render: {error}", file=sys.stderr)
        return 1
    print("---\n".join(map(str, documents)), end="")
    return 0


def render(
    resource: WinePipeline | WinePrediction, settings: Settings, backends: Backends, model_uri: str = ""
) -> Iterator[Document]:
    """Build what would be applied and submitted for a resource; with `model_uri` only what serves that model.

    Raises RenderError if the serving backend cannot copy from the address.
    """
    if isinstance(resource, WinePrediction):
        if not model_uri:
            yield _prediction(resource, settings)
        return
    backend = _backend(resource, backends)
    if model_uri:
        store = ObjectStore(settings)
        if (why := store.refusal(model_uri)) is not None:
            raise RenderError(f"--model-uri: {why}")
        stored = store.address(model_uri)
        yield from _serving(resource, backend, _model(resource, stored), f"the object that serves {stored}")
    else:
        yield from _namespace(resource, settings, backend)
        yield _run(resource, settings, backend)
        known = resource.status.candidate or resource.status.served
        model = known.model if known else _model(resource, UNKNOWN_MODEL)
        yield from _serving(resource, backend, model, "applied once there is a model")


def _backend(pipeline: WinePipeline, backends: Backends) -> ServingBackend:
    """Choose the serving backend: the one that the spec names, else the one in use, else the default."""
    served = pipeline.status.served
    try:
        return backends.get(pipeline.spec.serving.backend or (served.backend if served else backends.first()))
    except Refused as error:
        raise RenderError(f"spec.serving.backend: {error.message}. Enabled are {', '.join(backends.names)}") from None


def _namespace(pipeline: WinePipeline, settings: Settings, backend: ServingBackend) -> Iterator[Document]:
    """Build the objects in the resource's namespace that the resources of a namespace share."""
    source, mlflow = ({"data": dict.fromkeys(keys, UNKNOWN_VALUE)} for keys in (backend.source.keys, CREDENTIAL_KEYS))
    no_cluster: Any = None  # building needs none
    namespace = Namespace(no_cluster, Manifests(settings.templates), settings, backend.source)
    for manifest in namespace.wanted(pipeline, source, mlflow):
        metadata = manifest["metadata"]
        if manifest["kind"] == "Secret":
            copied = settings.mlflow_secret_of_steps if metadata["name"] == MLFLOW_SECRET else " or ".join(backend.source.names)
            about = f"values copied from the Secret {settings.platform_namespace}/{copied}, masked here"
            manifest = {**manifest, "data": dict.fromkeys(manifest["data"], MASK)}
        else:
            about = "for notebooks"
        yield Document(f"{manifest['kind']} {metadata['name']}: {about}", _known_owner(pipeline, manifest))
    key = {**without_key(pipeline, pipeline.namespace), "type": "Opaque", "data": {CURRENT: MASK}}
    about = "the key that steps sign models with, made once and masked here"
    yield Document(f"Secret {SECRET}: {about}", _known_owner(pipeline, key))


def _serving(pipeline: WinePipeline, backend: ServingBackend, model: ModelRecord, about: str) -> Iterator[Document]:
    rollout = Rollout(max(pipeline.status.revision, 1), model)
    for manifest in backend.manifests(pipeline, rollout):
        yield Document(f"{manifest['kind']} {manifest['metadata']['name']}: {about}", _known_owner(pipeline, manifest))


def _run(pipeline: WinePipeline, settings: Settings, backend: ServingBackend) -> Document:
    revision, experiment = max(pipeline.status.revision, 1), pipeline.spec.training.experiment
    requests = RunRequests(settings, lambda runtime: backend.server(runtime).version)
    request = requests.training(pipeline, run_name(pipeline, revision), revision, f"(id of experiment {experiment})")
    return _submitted(f"The run of revision {revision}", pipeline, experiment, request, settings)


def _prediction(prediction: WinePrediction, settings: Settings) -> Document:
    if prediction.status.model is None:
        prediction = prediction.with_status(prediction.status.with_(model=NOT_CHOSEN, pipeline_uid=UNKNOWN_UID))
    if not prediction.output:
        named = prediction.namespace, prediction.name, prediction.uid
        output = default_output(settings.prediction_output_folder, *named, prediction.spec.input)
        prediction = prediction.with_status(prediction.status.with_(output=output))
    request = RunRequests(settings).prediction(prediction, prediction.run_name, f"(id of experiment {EXPERIMENT})")
    return _submitted("The run that scores the file", prediction, EXPERIMENT, request, settings)


def _submitted(
    title: str, resource: WinePipeline | WinePrediction, experiment: str, request: dict[str, Any], settings: Settings
) -> Document:
    about = (
        f"{title}, not an object of the cluster: POST {settings.kfp_url}/apis/v2beta1/runs\n"
        f"The operator first looks up or creates the experiment {experiment!r} in namespace {resource.namespace}"
    )
    return Document(about, request)


def _model(pipeline: WinePipeline, uri: str) -> ModelRecord:
    return ModelRecord(uri=uri, runtime=pipeline.spec.serving.runtime)


def _known_owner(pipeline: WinePipeline, manifest: Manifest) -> Manifest:
    """Leave out an owner whose uid is unknown: the garbage collector would delete the object."""
    if pipeline.uid != UNKNOWN_UID:
        return manifest
    metadata = {key: value for key, value in manifest["metadata"].items() if key != "ownerReferences"}
    if "annotations" in metadata:
        metadata["annotations"] = {key: value for key, value in metadata["annotations"].items() if key != HASH_ANNOTATION}
    return {**manifest, "metadata": metadata}


def _resources(options: argparse.Namespace, settings: Settings) -> Iterator[WinePipeline | WinePrediction]:
    """Read the resources to render. Raises RenderError."""
    if options.filename is None:
        if not options.model_uri:
            raise RenderError("name a file: -f wine.yaml, or - for standard input")
        metadata = {"name": options.name, "namespace": options.namespace}
        yield read_resource({"kind": KIND, "metadata": metadata, "spec": {"data": {"url": "s3://unknown/"}}})
        return
    schemas = crds.read(settings.crds)
    for body in read_bodies(options.filename, options.namespace):
        metadata = body["metadata"]
        where = f"{options.filename}: {metadata['namespace']}/{metadata.get('name', 'without a name')}"
        wrong = [] if metadata.get("name") else ["metadata.name: is missing"]
        wrong += [
            problem for problem in crds.problems(body, schemas[API_VERSION, body["kind"]]) if not problem.startswith("status")
        ]
        if wrong:
            raise RenderError("\n".join(f"{where}: {problem}" for problem in wrong))
        try:
            yield read_resource(body)
        except ValidationError as error:
            raise RenderError(f"{where}: {first_error(error)}") from None
