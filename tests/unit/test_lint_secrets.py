"""The linter finds secrets of several forms in checked-in files."""

from pathlib import Path

import pytest

from dev.lint_secrets import Found, find, judge

KEY = "-----BEGIN " + "RSA PRIVATE KEY-----\nMIIE\n"


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("operator/a.py", "KEY = 'AKIA" + "QYLPMN5HFIQR7XYZ'\n"),
        ("operator/a.py", "URL = 'https://someone:" + "v9Kq2LmX@store.example.org/data.csv'\n"),
        ("pipeline/key.pem", KEY),
        ("tests/unit/a.py", "TOKEN = 'ghp_" + "1234567890abcdefghijklmnopqrstuvwxyzAB'\n"),
        (
            "sandbox/a.py",
            "TOKEN = 'eyJhbGciOiJIUzI1NiJ9" + ".eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U'\n",
        ),
        ("operator/a.py", "DIGEST = '9f86d081884c7d659a2f" + "eaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08'\n"),
        ("deploy/examples/values.yaml", "password: " + "correct-horse\n"),
    ],
)
def test_checked_in_secret_is_found(tmp_path: Path, path: str, text: str) -> None:
    file = tmp_path / path
    file.parent.mkdir(parents=True)
    file.write_text(text)
    [found, *_] = find(tmp_path, [path])
    assert (found.path, found.line) == (path, 1)
    [finding, *_] = judge([found], [])
    assert finding.startswith(f"{path}:1: {found.kind}. Remove it")
    assert found.value not in finding


def test_clean_files_have_no_secret(tmp_path: Path) -> None:
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements/a.txt").write_text(KEY)
    (tmp_path / "a.py").write_text("SECRET = 'wine-mlflow-credentials'\n")
    assert list(find(tmp_path, ["requirements/a.txt", "a.py"])) == []


def test_accepted_secret_needs_its_path_and_a_reason() -> None:
    found = Found("tests/a.py", 3, "Basic Auth Credentials", "word")
    entry = {"under": "tests/", "sha256": found.mark, "reason": "made up"}
    assert judge([found], [entry]) == []
    assert len(judge([found], [{**entry, "reason": ""}])) == 1
    assert len(judge([found], [{**entry, "under": "operator/"}])) == 2


def test_acceptance_without_a_finding_is_reported() -> None:
    [finding] = judge([], [{"under": "tests/", "sha256": "0" * 12, "reason": "made up"}])
    assert "is not found under tests/: remove it" in finding
