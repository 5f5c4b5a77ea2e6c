"""The command line of `explain`: read a dump, explain it, print text or JSON."""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic import TypeAdapter, ValidationError

from winepipelines.environment import SettingsError
from winepipelines.explain.core import CheckReport, Explanation, Finding, explain
from winepipelines.render import GUIDE
from winepipelines.resource_files import ResourceFileError, first_error, read_bodies, read_resource
from winepipelines.settings import Settings

MARKS = {Finding.HOLDS: "ok", Finding.DECIDES: ">>", Finding.UNKNOWN: "??", Finding.NOT_REACHED: "--"}
MOST = 160  # characters of a value in text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the command's options."""
    parser.add_argument("-f", "--filename", required=True, help="file from kubectl get -o yaml, - for standard input")
    parser.add_argument("-n", "--namespace", default="default", help="for resources that name none (default: %(default)s)")
    parser.add_argument("--name", help="explain only the resource of this name")
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text", help="format (default: %(default)s)")
    parser.add_argument("-v", "--verbose", action="store_true", help="print the facts of all checks that were evaluated")
    parser.add_argument("--at", type=_moment, help="time of the dump, such as 2026-11-27T12:00:00Z (default: now)")


def run(options: argparse.Namespace, environment: Mapping[str, str]) -> int:
    """Explain the resources of a file; return the exit status."""
    now = options.at or datetime.now(UTC)
    try:
        settings = Settings.from_environment({**GUIDE, **{name: value for name, value in environment.items() if value}})
        resources = [
            read_resource(body)
            for body in read_bodies(options.filename, options.namespace)
            if options.name in (None, body["metadata"].get("name"))
        ]
    except (ResourceFileError, SettingsError) as error:
        print(f"explain: {error}", file=sys.stderr)
        return 1
    except ValidationError as error:
        print(f"explain: {options.filename}: {first_error(error)}", file=sys.stderr)
        return 1
    if not resources:
        print(f"explain: {options.filename} has no resource of the name {options.name!r}", file=sys.stderr)
        return 1
    explanations = [explain(resource, now, settings.timeouts) for resource in resources]
    if options.output == "json":
        print(json.dumps([to_json(explanation) for explanation in explanations], indent=2))
    else:
        print("\n\n".join("\n".join(lines(explanation, verbose=options.verbose)) for explanation in explanations))
    return 0


def to_json(explanation: Explanation) -> dict[str, Any]:
    """Turn an explanation into JSON data."""
    data: dict[str, Any] = TypeAdapter(Explanation).dump_python(explanation, mode="json")
    return data


def lines(explanation: Explanation, *, verbose: bool = False) -> Iterator[str]:
    """Write an explanation as text."""
    observed, recorded = explanation.observed_generation, explanation.recorded
    yield f"{explanation.kind} {explanation.namespace}/{explanation.name}, at {explanation.at:%Y-%m-%dT%H:%M:%SZ}"
    yield f"Generation: {explanation.generation}, observed: {'none' if observed is None else observed}"
    if recorded is None:
        yield "Recorded:   no condition Ready: the operator has not reconciled this resource"
    else:
        yield f"Recorded:   Ready={recorded.status} {recorded.reason}: {recorded.message}"
    yield f"Decided by: {explanation.decided_by}"
    yield from _outcome(explanation)
    if explanation.updates:
        yield f"Updates:    the operator would first record what these found: {', '.join(explanation.updates)}"
    stage = None
    for report in explanation.checks:
        if (current := report.name.partition("/")[0]) != stage:
            stage = current
            yield f"\n{stage}"
        yield f"  {MARKS[report.finding]}  {report.name.partition('/')[2]:<46} {report.meaning}"
        if verbose or report.finding in (Finding.DECIDES, Finding.UNKNOWN):
            yield from _facts(report)
    yield "\nok: holds, >>: does not hold and decides, ??: unknown, --: not reached. Answers are those that the status records."


def _outcome(explanation: Explanation) -> Iterator[str]:
    if explanation.query:
        yield f"Unknown:    the dump has no answer to {explanation.query}. The operator would observe it next."
        return
    yield f"Result:     {explanation.reason}: {explanation.message}"
    if explanation.actions:
        yield f"Actions:    {', '.join(explanation.actions)}"
    recorded = explanation.recorded
    if recorded is not None and recorded.status == "False" and recorded.reason != explanation.reason:
        yield "Note:       the result differs from the recorded reason: the operator observed something that the dump lacks"


def _facts(report: CheckReport) -> Iterator[str]:
    for path, value in report.facts.items():
        text = json.dumps(value, default=str) if value is not None else "unset"
        yield f"        {path} = {text if len(text) <= MOST else f'{text[:MOST]}…'}"
    for query, source in report.answers.items():
        yield f"        {query}: answered from {source}"


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
