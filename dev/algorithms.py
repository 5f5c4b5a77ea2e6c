"""Generate what follows from the table of algorithms, `winecontract.algorithms`: see `dev/generate.py`."""

from collections.abc import Mapping
from typing import Any

import yaml

from winecontract.algorithms import ALGORITHMS, DEFAULT, MAX_COMBINATIONS, MAX_SEARCHED, MAX_VALUES, Algorithm, Parameter
from winecontract.algorithms import parameters as owners_of

Table = Mapping[str, Algorithm]
WIDTH = 100


class _Dumper(yaml.SafeDumper):
    """Short collections on one line, long texts folded, lists indented, no anchors."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002 - the signature is PyYAML's
        super().increase_indent(flow, False)


def _string(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=">" if len(text) > 50 else None)


_Dumper.add_representer(str, _string)


def dumped(part: object) -> str:
    """Write a part of a CRD as YAML."""
    return yaml.dump(part, Dumper=_Dumper, default_flow_style=None, sort_keys=False, allow_unicode=True, width=WIDTH)


def crd_fields(algorithms: Table = ALGORITHMS) -> str:
    """Generate `algorithm`, `parameters` and `search` of `spec.training`."""
    known = list(owners_of(algorithms))
    searchable = [parameter for parameter, _ in known if parameter.searchable]
    return dumped(
        {
            "algorithm": {
                "type": "string",
                "description": f"`algorithm` is the scikit-learn estimator: {_choice(list(algorithms))}. Defaults to {DEFAULT}.",
                "default": DEFAULT,
                "enum": list(algorithms),
            },
            "parameters": {
                "type": "object",
                "description": "`parameters` are the estimator's parameters, under scikit-learn's names. A parameter that is "
                "left out has the default of the algorithm.",
                "default": {},
                "properties": {
                    parameter.name: _number(parameter, "parameters", _described(parameter, owners, algorithms))
                    for parameter, owners in known
                },
            },
            "search": {
                "type": "object",
                "description": "`search` lists candidate values of parameters, in place of the values in `parameters`. The run "
                "trains with the combination that 5-fold cross-validation on the training rows rates best. At most "
                f"{MAX_SEARCHED} parameters, {MAX_VALUES} values for each, and {MAX_COMBINATIONS} combinations.",
                "minProperties": 1,
                "maxProperties": MAX_SEARCHED,
                "x-kubernetes-validations": [
                    {
                        "rule": " * ".join(f"(has(self.{one.name}) ? size(self.{one.name}) : 1)" for one in searchable)
                        + f" <= {MAX_COMBINATIONS}",
                        "message": f"training.search must have at most {MAX_COMBINATIONS} combinations of values; "
                        "remove values or parameters",
                    }
                ],
                "properties": {parameter.name: _candidates(parameter) for parameter in searchable},
            },
        }
    )


def crd_rules(algorithms: Table = ALGORITHMS) -> str:
    """Generate the rules of `spec.training` that keep each parameter to its algorithms."""
    groups: dict[tuple[str, ...], list[Parameter]] = {}
    for parameter, owners in owners_of(algorithms):
        if len(owners) < len(algorithms):
            groups.setdefault(owners, []).append(parameter)
    return dumped([_rule(group, owners) for owners, group in groups.items()])


def crd_runtimes(algorithms: Table = ALGORITHMS) -> str:
    """Generate the rule of `spec` that keeps the runtime mlflowserver to linear models."""
    linear = [name for name, algorithm in algorithms.items() if algorithm.linear]
    return dumped(
        [
            {
                "rule": "!has(self.serving) || !has(self.serving.runtime) || self.serving.runtime != 'mlflowserver' "
                f"|| !has(self.training) || !has(self.training.algorithm) || self.training.algorithm in {linear}",
                "message": f"serving.runtime mlflowserver serves models of {_choice(linear)} only, because its packages are "
                f"older than those that train; set training.algorithm to {_choice(linear)}, or serving.runtime to bundled",
            }
        ]
    )


def typed_models(algorithms: Table = ALGORITHMS) -> str:
    """Generate the operator's module of typed models."""
    known = [parameter for parameter, _ in owners_of(algorithms)]
    members = "\n".join(f'    {_constant(name)} = "{name}"' for name in algorithms)
    fixed = "\n".join(f"    {one.name}: {_type(one)} | None = None" for one in known)
    searched = "\n".join(f"    {one.name}: tuple[{_type(one)}, ...] | None = None" for one in known if one.searchable)
    return MODULE.format(members=members, fixed=fixed, searched=searched)


def reference(algorithms: Table = ALGORITHMS) -> str:
    """Generate the table of algorithms and parameters in the docs."""
    lines = ["| `algorithm` | parameter | meaning | range | default | `search` |", "|---|---|---|---|---|---|"]
    for name, algorithm in algorithms.items():
        for parameter in algorithm.parameters:
            default = _default(parameter, algorithm)
            searched = "yes" if parameter.searchable else "no"
            lines.append(f"| `{name}` | `{parameter.name}` | {parameter.meaning} | {parameter} | {default} | {searched} |")
    linear = _choice([f"`{name}`" for name, algorithm in algorithms.items() if algorithm.linear])
    return "\n".join([*lines, "", f"`serving.runtime: mlflowserver` serves models of {linear} only.", ""])


def _number(parameter: Parameter, section: str, description: str = "") -> dict[str, Any]:
    """The schema of one value. Bounds that are fractions are a rule: the API server truncates them in its message."""
    kind: dict[str, Any] = {"type": "integer", "format": "int32"} if parameter.integer else {"type": "number"}
    if description:
        kind["description"] = description
    low, high = parameter.low, parameter.high
    if float(low).is_integer() and float(high).is_integer():
        return {**kind, "minimum": int(low), "maximum": int(high)}
    message = f"training.{section}.{parameter.name} must be between {low:g} and {high:g}"
    return {**kind, "x-kubernetes-validations": [{"rule": f"self >= {float(low)} && self <= {float(high)}", "message": message}]}


def _candidates(parameter: Parameter) -> dict[str, Any]:
    return {
        "type": "array",
        "description": f"`{parameter.name}` lists candidate values of the parameter {parameter.name}. Must be unique.",
        "minItems": 1,
        "maxItems": MAX_VALUES,
        "x-kubernetes-list-type": "set",
        "items": _number(parameter, "search"),
    }


def _rule(group: list[Parameter], owners: tuple[str, ...]) -> dict[str, str]:
    def unset(section: str, names: list[str]) -> str:
        absent = " && ".join(f"!has(self.{section}.{name})" for name in names)
        return f"(!has(self.{section}) || {absent})"

    default = "!has(self.algorithm) ||" if DEFAULT in owners else "has(self.algorithm) &&"
    sections = [unset("parameters", [parameter.name for parameter in group])]
    if searched := [parameter.name for parameter in group if parameter.searchable]:
        sections.append(unset("search", searched))
    verb, pronoun = ("is a parameter", "it") if len(group) == 1 else ("are parameters", "them")
    return {
        "rule": f"{default} self.algorithm in {list(owners)} || {' && '.join(sections)}",
        "message": f"{_all([parameter.name for parameter in group])} {verb} of training.algorithm {_all(list(owners))} only; "
        f"remove {pronoun} from training.parameters and training.search (null removes what was stored)",
    }


def _described(parameter: Parameter, owners: tuple[str, ...], algorithms: Table) -> str:
    defaults = {name: _default(parameter, algorithms[name]) for name in owners}
    if len(set(defaults.values())) == 1:
        default = defaults[owners[0]]
    else:
        default = _all([f"{value} for {name}" for name, value in defaults.items()])
    return f"`{parameter.name}` is {parameter.meaning}. A parameter of {_all(list(owners))}. Defaults to {default}."


def _default(parameter: Parameter, algorithm: Algorithm) -> str:
    values = {**algorithm.estimator_defaults, **algorithm.defaults}
    value = values[parameter.name]
    return "no limit" if value is None else f"{value:g}"


def _type(parameter: Parameter) -> str:
    return "int" if parameter.integer else "float"


def _constant(name: str) -> str:
    """Write `HistGradientBoosting` as `HIST_GRADIENT_BOOSTING`."""
    return "".join(f"_{letter}" if letter.isupper() and number else letter for number, letter in enumerate(name)).upper()


def _all(names: list[str]) -> str:
    return _joined(names, "and")


def _choice(names: list[str]) -> str:
    return _joined(names, "or")


def _joined(names: list[str], word: str) -> str:
    return f"{', '.join(names[:-1])} {word} {names[-1]}" if len(names) > 1 else names[0]


MODULE = '''"""The algorithms and their parameters, typed.

Generated from `winecontract.algorithms` by `make generate`: change that.
"""

from enum import StrEnum

from pydantic import ConfigDict

from winepipelines.api.model import Model


class Algorithm(StrEnum):
    """The scikit-learn estimators of `spec.training.algorithm`."""

{members}


class Parameters(Model):
    """Parameters of the estimator, under scikit-learn's names. None is the default of the algorithm."""

    model_config = ConfigDict(alias_generator=None)

{fixed}


class Search(Model):
    """Candidate values of parameters."""

    model_config = ConfigDict(alias_generator=None)

{searched}
'''
