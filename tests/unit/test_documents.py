"""Documents that quote the programs: reasons in the changelog, checks in the examples of output, the index of decisions."""

import re
from pathlib import Path

from support.survey import PLATFORM

from winecontract.reasons import Reason
from winepipelines.doctor.checks import DATA_HOST, NAMESPACE
from winepipelines.pipelines.stages.table import STAGES
from winepipelines.runs.run import CHECKS as RUN_CHECKS

ROOT = Path(__file__).resolve().parents[2]
RENAMED = re.compile(r"^\| condition, reason .*\n\|-.*\n((?:\|.*\n)+)", re.MULTILINE)
DOCTOR_LINE = re.compile(r"^(\S.*?)  +(?:ok|failed|skipped|warning)  ", re.MULTILINE)
EXPLAIN_LINE = re.compile(r"^  (?:ok|>>|--|\?\?)  ([\w/]+)  +(.+)$", re.MULTILINE)


def renamed_reasons() -> dict[str, str]:
    """Read the changelog's table of renamed reasons, the old name of each with the new one."""
    table = RENAMED.search((ROOT / "CHANGELOG.md").read_text())
    assert table is not None
    return dict(re.findall(r"^\| `(\w+)` \| `(\w+)` \|$", table[1], re.MULTILINE))


def test_changelog_renames_to_present_reasons_only() -> None:
    present = {reason.value for reason in Reason}
    names = renamed_reasons()
    assert len(names) > 30
    assert set(names.values()) <= present
    assert not set(names) & present


def test_index_of_decisions_lists_every_record_by_its_title() -> None:
    folder = ROOT / "docs/decisions"
    records = {path.name: path.read_text().partition("\n")[0] for path in folder.glob("[0-9]*.md")}
    rows = re.findall(r"^\| \[(\d{4})\]\((\S+)\) \| (.+) \|$", (folder / "README.md").read_text(), re.MULTILINE)
    assert records
    assert {name: f"# {int(number)}. {title}" for number, name, title in rows} == records


def test_example_of_doctor_shows_present_checks_only() -> None:
    page = (ROOT / "docs/how-to/diagnose-the-platform.md").read_text()
    shown = {name for name in DOCTOR_LINE.findall(page) if not name.startswith("right: ")}
    assert len(shown) > 10
    assert shown <= {check.name for check in (*PLATFORM, *NAMESPACE, *DATA_HOST)}


def test_example_of_explain_shows_present_checks_with_their_meaning() -> None:
    page = (ROOT / "docs/how-to/troubleshoot.md").read_text()
    checks = [*RUN_CHECKS, *(check for stage in STAGES for check in stage.checks)]
    meanings = {check.__name__: (check.__doc__ or "").partition("\n")[0] for check in checks}
    shown = {name.rpartition("/")[2]: meaning for name, meaning in EXPLAIN_LINE.findall(page)}
    assert len(shown) > 2
    assert shown.items() <= meanings.items()
