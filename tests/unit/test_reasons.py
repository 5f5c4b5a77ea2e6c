"""The table of reasons and the programs agree: each reason that a program spells has a row, and each row a program."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from dev import reasons as table
from winecontract.reasons import PLATFORM_FAILURES, UNCOUNTED, UNSTARTABLE, WITHOUT_EXAMPLE, Kind, Reason, Trait

ROOT = Path(__file__).parents[2]
PROGRAMS = [path for folder in ("contract", "operator", "pipeline") for path in sorted((ROOT / folder).rglob("*.py"))]
TAKES_A_REASON = {
    *("PlatformError", "Unavailable", "NotSent", "TooLarge", "Refused"),
    *("StoredModel", "PredictionCheck", "PodProblem", "StepFailure", "Failure", "Finding", "failed", "does_not_answer"),
    *("NotReady", "Done", "RunFailed", "RunWaiting", "Event", "_record_event", "record_event"),
}
REASON = re.compile(r"[A-Z][a-z]+(?:[A-Z][A-Za-z0-9]*)?")
SPEC = """
- section: Ready
  reasons:
    RunFailed: {kind: passing, meaning: A step failed., remedy: Read its log.}
    OOMKilled: {kind: permanent, traits: [uncounted, no-example], meaning: Out of memory.}
"""


def literals(text: str) -> Iterator[str]:
    """Find reasons that are spelled as text, where a reason is passed."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in TAKES_A_REASON:
            arguments = [*node.args, *(keyword.value for keyword in node.keywords if keyword.arg == "reason")]
            for argument in arguments:
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str) and REASON.fullmatch(argument.value):
                    yield argument.value


def test_literals_are_found() -> None:
    text = 'raise Refused("TemplateRejected", "text")\nfailed(reason="RunFailed")\nerrors.Unavailable(Reason.RUN_FAILED, "No")'
    assert list(literals(text)) == ["TemplateRejected", "RunFailed", "No"]


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_programs_spell_reasons_by_their_member(path: Path) -> None:
    assert not list(literals(path.read_text()))


def test_every_reason_is_used_by_a_program() -> None:
    others = [path for path in PROGRAMS if path.name != "reasons.py"]
    used = {name for path in others for name in re.findall(r"\bReason\.([A-Z0-9_]+)\b", path.read_text())}
    unused = {reason.name for reason in Reason if Trait.FOREIGN not in reason.traits} - used
    assert not unused


def test_reasons_that_adapters_raise_are_platform_failures() -> None:
    raised: set[str] = set()
    for path in (ROOT / "operator/winepipelines/platform").glob("*.py"):
        raised |= set(re.findall(r"\b(?:Unavailable|NotSent|TooLarge|Refused)\(\s*Reason\.([A-Z0-9_]+)\b", path.read_text()))
    assert "KUBEFLOW_UNAVAILABLE" in raised
    assert raised <= {reason.name for reason in PLATFORM_FAILURES}


def test_sets_of_reasons() -> None:
    platform = {"TrackingUnavailable", "ObjectStoreUnavailable", "OutputUnavailable"}
    assert platform | {"Evicted", "Preempting", "NodeLost", "NodeShutdown", "Terminated", "PodDeleted"} == UNCOUNTED
    container = {"CreateContainerConfigError", "CreateContainerError"}
    assert container | {"ErrImagePull", "InvalidImageName", "ErrImageNeverPull"} == UNSTARTABLE
    assert {"InputExampleMissing", "ModelTampered"} == WITHOUT_EXAMPLE
    assert not any(reason.permanent for reason in UNCOUNTED)


def test_table_is_read() -> None:
    (section,) = table.read(SPEC)
    assert [(entry.name, entry.constant) for entry in section.entries] == [
        ("RunFailed", "RUN_FAILED"),
        ("OOMKilled", "OOM_KILLED"),
    ]
    assert table.members([section]).splitlines() == [
        "# Ready",
        'RUN_FAILED = "RunFailed", Kind.PASSING',
        'OOM_KILLED = "OOMKilled", Kind.PERMANENT, Trait.UNCOUNTED | Trait.NO_EXAMPLE',
    ]
    assert "| `RunFailed` | passing | A step failed. | Read its log. |" in table.reference([section])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (SPEC.replace("passing", "lasting"), "unknown kind"),
        (SPEC.replace("uncounted", "counted"), "unknown kind, trait"),
        (SPEC.replace("remedy", "cure"), "trait or field"),
        (SPEC.replace("RunFailed", "runFailed"), "CamelCase"),
        (SPEC.replace("A step failed.", "A step failed"), "must be a sentence"),
        (SPEC.replace("A step failed", "A | failed"), "without"),
        (SPEC + SPEC, "two rows: OOMKilled, RunFailed"),
    ],
    ids=["kind", "trait", "field", "name", "no sentence", "table", "twice"],
)
def test_table_is_rejected_when_a_row_is_invalid(changed: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        table.read(changed)


def test_table_has_the_kinds_and_traits_of_the_programs() -> None:
    assert set(table.KINDS) == {kind.value for kind in Kind}
    assert {trait.replace("-", "_").upper() for trait in table.TRAITS} == {trait.name for trait in Trait}
