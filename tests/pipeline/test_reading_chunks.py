"""Reading a table in chunks: no row is lost, none is counted twice, and a bad one costs the others nothing."""

import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from winecontract.reasons import Reason
from winesteps.failures import StepFailure
from winesteps.reading import Options, Rejection, Source, Wanted, csvfile, open_csv, open_parquet, parquetfile, text


def read(source: Source) -> tuple[pd.DataFrame, list[int], dict[str, list[int]]]:
    """All chunks together: rows, their numbers, and the numbers of the rejected ones."""
    tables: list[pa.Table] = []
    numbers: list[int] = []
    rejected: dict[str, list[int]] = {}
    for chunk in source.chunks():
        tables.append(chunk.table)
        numbers += chunk.numbers.tolist()
        for reason, rows in chunk.rejected.items():
            rejected.setdefault(str(reason), []).extend(rows)
    return pa.concat_tables(tables).to_pandas(), numbers, rejected


def csv(tmp_path: Path, content: bytes, features: list[str], separator: str = ";") -> Source:
    (tmp_path / "input").write_bytes(content)
    return open_csv(tmp_path / "input", Options(separator, section="input"), wanted(features), tmp_path)


def parquet(path: Path, features: list[str]) -> Source:
    return open_parquet(path, Options(section="input"), wanted(features), path.parent)


def wanted(features: list[str]) -> Wanted:
    return Wanted(tuple(features), ", which the model needs", frozenset(features))


def refused(reason: Reason, call: Any, *arguments: Any) -> str:
    with pytest.raises(StepFailure) as caught:
        list(call(*arguments).chunks())
    assert caught.value.reason is reason, caught.value
    return caught.value.message


def test_rows_come_with_all_their_columns_and_their_numbers(tmp_path: Path) -> None:
    content = b'\xef\xbb\xbf"Fixed acidity";Name;"pH"\r\n7.4; "a;b" ;3\r\n\r\n .5;c;-1e-3\r\n'
    frame, numbers, rejected = read(csv(tmp_path, content.replace(b' "a;b" ', b'"a;b"'), ["ph", "fixed_acidity"]))
    assert list(frame.columns) == ["fixed_acidity", "name", "ph"]
    assert frame.to_numpy().tolist() == [[7.4, "a;b", 3.0], [0.5, "c", -0.001]]
    assert numbers == [1, 2], "a blank line is no row"
    assert rejected == {}


def test_each_bad_row_is_rejected_for_its_reason_and_costs_the_others_nothing(tmp_path: Path) -> None:
    damaged = b"\xc3\xa4\xff;1"
    lines = [b"1;2", b"3;", b"4,5;6", b"nan;7", b"1e999;8", b"9", b"1;2;3", damaged, b'"1;2', b"-Infinity;3", b"10;11"]
    frame, numbers, rejected = read(csv(tmp_path, b"a;b\n" + b"\n".join(lines), ["a", "b"]))
    assert frame.to_numpy().tolist() == [[1, 2], [10, 11]]
    assert numbers == [1, 11]
    assert rejected == {
        "MissingValue": [2, 4],
        "NotANumber": [3],
        "NotFinite": [5, 10],
        "FieldCount": [6, 7],
        "Unreadable": [8, 9],
    }


def test_only_the_models_columns_are_judged(tmp_path: Path) -> None:
    frame, _, rejected = read(csv(tmp_path, b"a;note\n1;\n2;nan\n", ["a"]))
    assert rejected == {}
    assert frame["note"].tolist() == ["", "nan"]


def test_a_line_break_within_quotes_is_part_of_the_row(tmp_path: Path) -> None:
    frame, numbers, rejected = read(csv(tmp_path, b'a;note\n1;"x\ny"\n2;z\n', ["a"]))
    assert (numbers, rejected) == ([1, 2], {})
    assert frame["note"].tolist() == ["x\ny", "z"]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_in_many_blocks_every_row_is_what_it_is_in_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, end: bytes
) -> None:
    """Blocks of any size part the file at line ends, and bad rows are found wherever they are."""
    dice = random.Random(seed)
    monkeypatch.setattr(text, "BLOCK_BYTES", dice.choice([64, 1000, 4096]))
    monkeypatch.setattr(csvfile, "PIECE_RECORDS", dice.choice([1, 3, 50]))
    expected: dict[int, list[float]] = {}
    bad: dict[str, list[int]] = {}
    lines: list[bytes] = []
    for number in range(1, 2001):
        if dice.random() < 0.02:
            lines.append(b"")  # blank
        if dice.random() < 0.03:
            bad_line, reason = dice.choice(
                [(b"x;1", "NotANumber"), (b";1", "MissingValue"), (b"1", "FieldCount"), (b"inf;1", "NotFinite")]
            )
            lines.append(bad_line)
            bad.setdefault(reason, []).append(number)
        else:
            expected[number] = [dice.random(), float(number)]
            lines.append(f"{expected[number][0]!r};{number}".encode())
    frame, numbers, rejected = read(csv(tmp_path, b"a;b" + end + end.join(lines) + end * dice.choice([0, 1, 2]), ["a", "b"]))
    assert dict(zip(numbers, frame.to_numpy().tolist(), strict=True)) == expected
    assert rejected == bad


def test_what_the_file_lacks_is_named(tmp_path: Path) -> None:
    message = refused(Reason.COLUMN_MISSING, csv, tmp_path, b"a;c\n1;2\n", ["a", "b"])
    assert message == "There is no column 'b', which the model needs; the header has a, c."


def test_another_separator_is_suggested(tmp_path: Path) -> None:
    message = refused(Reason.COLUMN_MISSING, csv, tmp_path, b"a,b\n1,2\n", ["a", "b"])
    assert 'The file is separated by a comma (","): set input.separator to ",".' in message


def test_names_that_collide_are_refused(tmp_path: Path) -> None:
    assert "'pH' and 'ph'" in refused(Reason.DATA_INVALID, csv, tmp_path, b"pH;ph\n1;2\n", ["ph"])


def test_a_line_without_end_is_refused_in_bounded_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "BLOCK_BYTES", 100)
    assert "no line ends" in refused(Reason.DATA_INVALID, csv, tmp_path, b"a" * 1000, ["a"])
    assert "no line ends" in refused(Reason.DATA_INVALID, csv, tmp_path, b"a\n1\n" + b"1" * 1000, ["a"])


class TestParquet:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return tmp_path / "input.parquet"

    def test_rows_come_in_batches_without_the_bad_ones(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(parquetfile, "BATCH_ROWS", 100)
        values = np.arange(1.0, 1001.0)
        values[[99, 100, 500]] = [math.nan, math.inf, -math.inf]
        table = pa.table(
            {"Some Value": values, "count": pa.array(range(1000)).cast(pa.int32()), "id": list(map(str, range(1000)))}
        )
        pq.write_table(table.set_column(1, "count", pa.array([None if n == 7 else n for n in range(1000)])), path)
        frame, numbers, rejected = read(parquet(path, ["count", "some_value"]))
        assert rejected == {"MissingValue": [8, 100], "NotFinite": [101, 501]}
        assert numbers == [number for number in range(1, 1001) if number not in {8, 100, 101, 501}]
        assert frame["some_value"].tolist() == [values[number - 1] for number in numbers]
        assert frame["id"].tolist() == [str(number - 1) for number in numbers]
        assert frame["count"].dtype == np.float64

    def test_a_column_of_text_is_refused(self, path: Path) -> None:
        pq.write_table(pa.table({"a": ["1"]}), path)
        assert "'a' is of type string" in refused(Reason.DATA_INVALID, parquet, path, ["a"])

    def test_what_is_no_parquet_is_refused(self, path: Path) -> None:
        path.write_bytes(b"a;b\n1;2\n")
        assert "set input.format" in refused(Reason.DATA_NOT_PARQUET, parquet, path, ["a"])

    def test_what_breaks_off_is_refused(self, path: Path) -> None:
        pq.write_table(pa.table({"a": np.arange(10_000.0)}), path)
        path.write_bytes(path.read_bytes()[:-100])
        refused(Reason.DATA_NOT_PARQUET, parquet, path, ["a"])


def test_reasons_are_words_that_a_status_takes() -> None:
    assert all(str(reason).isalpha() for reason in Rejection)
