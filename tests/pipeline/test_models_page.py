"""The table of docs/models.md is what the program beside it prints: every row is learned and measured again."""

from pathlib import Path

import pandas as pd
import pytest

from bench import algorithms

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "models.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def data(table: Path) -> pd.DataFrame:
    return pd.read_parquet(table)


@pytest.mark.parametrize("case", algorithms.CASES, ids=lambda case: f"{case[0]} {[*case[1], *case[2]]}")
def test_a_row_is_what_is_reached(case: algorithms.Case, data: pd.DataFrame) -> None:
    assert algorithms.row(case, data) in PAGE


def test_the_page_has_no_other_rows() -> None:
    assert algorithms.HEAD in PAGE
    rows = PAGE.partition(algorithms.HEAD)[2].split("\n\n")[0].strip().splitlines()
    assert len(rows) == len(algorithms.CASES)
