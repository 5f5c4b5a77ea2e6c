"""Train and measure every row of the table in docs/how-to/choose-an-algorithm.md again."""

from pathlib import Path

import pandas as pd
import pytest

from bench import algorithms

PAGE = (Path(__file__).resolve().parents[2] / "docs/how-to/choose-an-algorithm.md").read_text(encoding="utf-8")


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
