"""Pipeline specifications: reads a run's inline document, and checks its parameters.

`kfp` is imported late, so that the server answers sooner.
Source: backend/src/apiserver/template/v2_template.go.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .errors import ApiError, internal, invalid

if TYPE_CHECKING:
    from kfp.pipeline_spec.pipeline_spec_pb2 import PipelineSpec

_FETCHING = "Failed to create a run due to error fetching manifest"
_JSON_TYPES: dict[str, tuple[tuple[type, ...], str]] = {
    "NUMBER_DOUBLE": ((int, float), "double or integer, but the parameter value is not of number value type"),
    "NUMBER_INTEGER": ((int, float), "double or integer, but the parameter value is not of number value type"),
    "STRING": ((str,), "string, but the input parameter is not of string value type"),
    "BOOLEAN": ((bool,), "bool, but the input parameter is not of bool value type"),
    "LIST": ((list,), "list, but the input parameter is not of list value type"),
    "STRUCT": ((dict,), "struct, but the input parameter is not of struct value type"),
}


@dataclass(frozen=True)
class Specification:
    """A compiled pipeline: the pipeline, and the additions for each step in Kubernetes."""

    pipeline: PipelineSpec
    #: executor label -> its Kubernetes configuration (secretAsEnv and so on), as compiled
    kubernetes: Mapping[str, Mapping[str, Any]]

    @property
    def name(self) -> str:
        """Return the pipeline's name."""
        return str(self.pipeline.pipeline_info.name)


def warm_up() -> None:
    """Import the packages for reading a specification, which takes half a second."""
    import kfp.pipeline_spec.pipeline_spec_pb2  # noqa: F401


def read(document: Mapping[str, Any]) -> Specification:
    """Read `pipeline_spec`: a pipeline, or `{"pipeline_spec": …, "platform_spec": …}`.

    Raises:
        ApiError: 500 where it is not a pipeline, as on the real server.

    """
    from google.protobuf import json_format
    from kfp.pipeline_spec.pipeline_spec_pb2 import PipelineSpec, PlatformSpec

    if not document:
        raise internal(_FETCHING, "Failed to fetch a template with an empty pipeline spec manifest")
    try:
        pipeline = json_format.ParseDict(document.get("pipeline_spec", document), PipelineSpec())
        platform = PlatformSpec()
        if "pipeline_spec" in document and "platform_spec" in document:
            json_format.ParseDict(document["platform_spec"], platform)
    except json_format.ParseError as error:
        raise internal(_FETCHING, f"InvalidInputError: unknown template format: {error}") from None
    if not pipeline.pipeline_info.name or not pipeline.HasField("root"):
        raise internal(_FETCHING, "InvalidInputError: unknown template format: invalid pipeline spec")
    if pipeline.schema_version != "2.1.0":
        version = pipeline.schema_version
        raise internal(
            _FETCHING,
            f"KFP only supports schema version 2.1.0, but the pipeline spec has version {version}: invalid pipeline spec",
        )
    deployment = json_format.MessageToDict(platform.platforms["kubernetes"].deployment_spec)
    return Specification(pipeline, deployment.get("executors", {}))


def check_parameters(spec: Specification, given: Mapping[str, Any]) -> None:
    """Refuse parameters that are missing, of the wrong type or unknown.

    Raises:
        ApiError: 400 naming the parameter.

    """
    try:
        _check_parameters(spec, given)
    except ApiError as error:
        error.internal = f"Failed to generate the ExecutionSpec: invalid pipeline job inputs: {error.internal}"
        raise


def _check_parameters(spec: Specification, given: Mapping[str, Any]) -> None:
    from kfp.pipeline_spec.pipeline_spec_pb2 import ParameterType

    declared = spec.pipeline.root.input_definitions.parameters
    for name, parameter in declared.items():
        if name not in given:
            if not parameter.is_optional and not parameter.HasField("default_value"):
                raise invalid(f"parameter {name} is not optional, yet has neither default value nor user provided value")
            continue
        kind = ParameterType.ParameterTypeEnum.Name(parameter.parameter_type)
        if kind not in _JSON_TYPES:
            raise invalid(f"input parameter {name} requires type unknown")
        types, wording = _JSON_TYPES[kind]
        value = given[name]
        if not isinstance(value, types) or (isinstance(value, bool) and kind != "BOOLEAN"):
            raise invalid(f"input parameter {name} requires type {wording}")
    if extra := [name for name in given if name not in declared]:
        raise invalid(f"parameter(s) provided are not required by pipeline: {', '.join(extra)}")
