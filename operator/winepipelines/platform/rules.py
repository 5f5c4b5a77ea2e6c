"""Evaluate the CEL rules of the CRDs without an API server.

A rule is converted to a Python expression, and its syntax tree is evaluated; no code is executed. Rules with macros (`filter`),
`oldSelf` or the ternary operator are not supported: only the API server checks them.
"""

import ast
import re
from collections.abc import Callable, Iterator
from typing import Any

from winepipelines.api.spec import parse_duration

TOKEN = re.compile(r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|&&|\|\||!(?!=)|\btrue\b|\bfalse\b|\bin\b|[?]""")
PYTHON = {"&&": " and ", "||": " or ", "!": " not ", "true": "True", "false": "False"}
COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: lambda a, b: a == b,
    ast.NotEq: lambda a, b: a != b,
    ast.GtE: lambda a, b: a >= b,
    ast.LtE: lambda a, b: a <= b,
    ast.Gt: lambda a, b: a > b,
    ast.Lt: lambda a, b: a < b,
    ast.In: lambda a, b: a in b,
}
METHODS: dict[str, Callable[..., Any]] = {
    "matches": lambda text, pattern: re.search(pattern, text) is not None,
    "contains": lambda text, part: part in text,
    "startsWith": str.startswith,
    "endsWith": str.endswith,
    "split": str.split,
    "trim": str.strip,
    "substring": lambda text, start: text[start:],
}
FUNCTIONS: dict[str, Callable[..., Any]] = {"size": len, "duration": parse_duration, "type": type}
TYPES = {"int": int, "string": str}


class UncheckedError(Exception):
    """Only the API server can check the rule."""


def broken(value: object, schema: dict[str, Any]) -> Iterator[str]:
    """List the messages of a schema's rules that a value violates."""
    for rule in schema.get("x-kubernetes-validations", ()):
        try:
            holds = _evaluate(_parsed(rule["rule"]), value)
        except (UncheckedError, TypeError, ValueError, AttributeError, IndexError):
            continue  # also if the value has another type, which the schema rejects
        if not holds:
            yield rule["message"]


def _parsed(rule: str) -> ast.expr:
    if "?" in TOKEN.findall(rule):
        raise UncheckedError
    try:
        return ast.parse(
            TOKEN.sub(lambda token: PYTHON.get(token[0], token[0]), " ".join(rule.split())).strip(), mode="eval"
        ).body
    except SyntaxError:
        raise UncheckedError from None


def _evaluate(node: ast.expr, value: object) -> Any:
    match node:
        case ast.Constant():
            return node.value
        case ast.Name(id="self"):
            return value
        case ast.Name(id=name) if name in TYPES:
            return TYPES[name]
        case ast.List():
            return [_evaluate(item, value) for item in node.elts]
        case ast.BoolOp():
            wanted = isinstance(node.op, ast.Or)
            return next((wanted for item in node.values if bool(_evaluate(item, value)) is wanted), not wanted)
        case ast.UnaryOp(op=ast.Not()):
            return not _evaluate(node.operand, value)
        case ast.BinOp(op=ast.Add()):
            return _evaluate(node.left, value) + _evaluate(node.right, value)
        case ast.Compare(ops=[operator], comparators=[right]) if type(operator) in COMPARISONS:
            return COMPARISONS[type(operator)](_evaluate(node.left, value), _evaluate(right, value))
        case ast.Subscript():
            return _evaluate(node.value, value)[_evaluate(node.slice, value)]
        case ast.Attribute():
            return _field(node, value)
        case ast.Call(func=ast.Name(id="has"), args=[ast.Attribute() as field]):
            return field.attr in _evaluate(field.value, value)
        case ast.Call(func=ast.Name(id=name)) if name in FUNCTIONS:
            return FUNCTIONS[name](*(_evaluate(argument, value) for argument in node.args))
        case ast.Call(func=ast.Attribute(attr=name) as method) if name in METHODS:
            return METHODS[name](_evaluate(method.value, value), *(_evaluate(argument, value) for argument in node.args))
    raise UncheckedError


def _field(node: ast.Attribute, value: object) -> Any:
    fields = _evaluate(node.value, value)
    if not isinstance(fields, dict) or node.attr not in fields:  # only the API server sets the defaults of missing fields
        raise UncheckedError
    return fields[node.attr]
