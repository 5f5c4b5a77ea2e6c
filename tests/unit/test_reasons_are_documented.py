"""A reason that a person may meet is in the document that says the way out."""

import ast
import re
from pathlib import Path

import pytest

from winepipelines.lifecycle import reasons
from winepipelines.predictions import reasons as predictions

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "reasons.md").read_text()
GOOD_NEWS = {"ChecksPassed", "Prepared", "Applying", "Superseded", "ModelLogged", "RolledOut", "Answers", "Serving", "Scored"}
SPEAKERS = {"Unavailable", "NotSent", "Refused", "StoredModel", "PredictionCheck", "Trouble", "failed", "does_not_answer"}


def _reasons() -> set[str]:
    modules = (reasons, predictions)
    constants = {value for module in modules for name, value in vars(module).items() if name.isupper() and isinstance(value, str)}
    steps = (ROOT / "pipeline/winesteps/failures.py").read_text()
    said_by_steps = set(re.findall(r'^    [A-Z_]+ = "(\w+)"', steps, re.MULTILINE))
    assert said_by_steps
    said_by_adapters = set()
    operator = ROOT / "operator/winepipelines"
    for path in [*(operator / "platform").glob("*.py"), *(operator / "doctor/checks").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in SPEAKERS:
                said = [*node.args, *(keyword.value for keyword in node.keywords if keyword.arg == "reason")]
                words = [word.value for word in said if isinstance(word, ast.Constant) and isinstance(word.value, str)]
                said_by_adapters |= {word for word in words if re.fullmatch(r"[A-Z][A-Za-z]+", word)}
    assert said_by_adapters
    return constants | said_by_steps | said_by_adapters


def test_the_adapters_reasons_are_known_as_the_platforms() -> None:
    """An outage is told once, which needs to be known as one."""
    raised = set()
    for path in (ROOT / "operator/winepipelines/platform").glob("*.py"):
        raised |= set(re.findall(r'\b(?:Unavailable|NotSent|Refused)\(\s*"(\w+)"', path.read_text()))
    assert raised
    assert raised <= reasons.PLATFORM_FAILURES


@pytest.mark.parametrize("reason", sorted(_reasons() - GOOD_NEWS))
def test_documented(reason: str) -> None:
    assert f"`{reason}`" in DOCUMENT
