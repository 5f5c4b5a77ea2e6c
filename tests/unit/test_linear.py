"""Linear models as plain numbers: what is read back, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from winecontract import linear
from winecontract.linear import Linear, LinearInvalidError

MODEL = Linear(("alcohol", "pH"), (0.1 + 0.2, -1e-17), 5.636)
GOOD: dict[str, Any] = {"columns": ["alcohol"], "coefficients": [1], "intercept": 0.5}


def test_numbers_are_read_back_as_they_are(tmp_path: Path) -> None:
    MODEL.write(tmp_path)
    assert linear.read(tmp_path) == MODEL


def test_folder_without_the_file_has_no_linear_model(tmp_path: Path) -> None:
    assert linear.read(tmp_path) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[" * 100_000,
        "[]",
        "null",
        json.dumps(GOOD | {"columns": []}),
        json.dumps(GOOD | {"columns": ["alcohol", "pH"]}),
        json.dumps(GOOD | {"columns": ["alcohol", "alcohol"], "coefficients": [1, 2]}),
        json.dumps(GOOD | {"columns": "a"}),
        json.dumps(GOOD | {"columns": [1]}),
        json.dumps(GOOD | {"coefficients": ["1"]}),
        json.dumps(GOOD | {"coefficients": [True]}),
        json.dumps(GOOD | {"coefficients": [float("nan")]}),
        json.dumps(GOOD | {"intercept": float("inf")}),
        json.dumps(GOOD | {"intercept": None}),
        json.dumps({"columns": ["alcohol"], "coefficients": [1]}),
        json.dumps(GOOD).replace("0.5", "1" * 5000),
        json.dumps(GOOD).replace("0.5", "1" * 400),
        json.dumps(GOOD) + " " * linear.MAX_BYTES,
    ],
    ids=lambda text: text[:40],
)
def test_other_content_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / linear.FILE).write_text(text)
    with pytest.raises(LinearInvalidError, match=r"linear\.json"):
        linear.read(tmp_path)


def test_folder_of_that_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / linear.FILE).mkdir()
    with pytest.raises(LinearInvalidError, match="cannot be read"):
        linear.read(tmp_path)
