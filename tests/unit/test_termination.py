"""Termination messages are read as written, also with text around them."""

import json
from pathlib import Path

import pytest

from winecontract.reasons import Reason
from winecontract.termination import MAX_BYTES, VARIABLE, Failure, read, write

FAILURE = Failure("train", Reason.DATA_INVALID, "Line 3 is invalid.", permanent=True)


def test_failure_is_read_as_written(tmp_path: Path) -> None:
    path = tmp_path / "termination-log"
    path.write_text("earlier and longer than the message: " + "x" * 500)
    write(FAILURE, {VARIABLE: str(path)})
    assert read(path.read_text()) == FAILURE


def test_file_is_not_created_when_the_kubelet_has_not(tmp_path: Path) -> None:
    write(FAILURE, {VARIABLE: str(tmp_path / "absent")})
    assert list(tmp_path.iterdir()) == []


def test_failure_is_found_after_argo_adds_the_exit_code() -> None:
    text = "main: Error (exit code 1): " + FAILURE.encode().decode() + " (and more)"
    assert read(text) == FAILURE


@pytest.mark.parametrize("letter", ["x", "é", "\U0001f377", '"', "\udc80"])
def test_long_message_is_shortened_to_what_the_kubelet_reads(letter: str) -> None:
    encoded = Failure("train", Reason.UNEXPECTED_ERROR, letter * 5000).encode()
    assert MAX_BYTES // 2 < len(encoded) <= MAX_BYTES
    found = json.loads(encoded)["failure"]
    assert (found["reason"], found["permanent"]) == ("UnexpectedError", False)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "exit code 1",
        '{"failure":',
        '{"failure": 3}',
        '{"failure": []}',
        '{"failure": {"reason": "X"}}',
        '{"failure": {"reason": "X", "message": "y"}}',
    ],
)
def test_other_text_is_no_failure(text: str) -> None:
    assert read(text) is None
