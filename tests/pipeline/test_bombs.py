"""Files that are small and stand for very much: they are refused, in bounded memory and time."""

import gzip
import io
import lzma
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from winecontract.reasons import Reason
from winesteps.failures import StepFailure
from winesteps.preprocess import preprocess
from winesteps.reading import Options, Wanted, open_csv, open_parquet, parquetfile, records
from winesteps.reading.formats import recognize
from winesteps.reading.values import Rejection, number

MIB = 1024 * 1024


def read_parquet(path: Path, max_bytes: int = 64 * MIB) -> int:
    """How many rows a file has; raises what reading it raises."""
    source = open_parquet(path, Options(max_bytes=max_bytes), Wanted(("a",), numeric=frozenset({"a"})), path.parent)
    return sum(len(chunk.numbers) for chunk in source.chunks())


def refused(path: Path, reason: Reason = Reason.DATA_TOO_LARGE, max_bytes: int = 64 * MIB) -> None:
    with pytest.raises(StepFailure) as caught:
        read_parquet(path, max_bytes)
    assert caught.value.reason is reason, caught.value


def test_parquet_with_one_number_many_times(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": np.zeros(20_000_000)}), tmp_path / "file")
    assert (tmp_path / "file").stat().st_size < 100_000
    refused(tmp_path / "file", max_bytes=MIB)
    assert read_parquet(tmp_path / "file") == 20_000_000


def test_parquet_with_one_long_text_many_times(tmp_path: Path) -> None:
    """100,000 rows refer to a text of a megabyte: 100 GB in one batch, where it is put in their place."""
    texts = pa.DictionaryArray.from_arrays(pa.array(np.zeros(100_000, dtype=np.int32)), pa.array(["x" * MIB]))
    pq.write_table(pa.table({"a": np.zeros(100_000), "text": texts}), tmp_path / "file", compression="zstd")
    assert (tmp_path / "file").stat().st_size < 100_000
    refused(tmp_path / "file")


def test_parquet_with_texts_that_fit(tmp_path: Path) -> None:
    texts = [f"{row}{'x' * 10_000}" if row % 3 else None for row in range(3_000)]
    pq.write_table(pa.table({"a": np.zeros(3_000), "text": texts}), tmp_path / "file", compression="zstd")
    source = open_parquet(tmp_path / "file", Options(), Wanted(("a",), numeric=frozenset({"a"})), tmp_path)
    found = [text for chunk in source.chunks() for text in chunk.table["text"].to_pylist()]
    assert found == texts


def test_texts_of_a_chunk_are_of_bounded_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquetfile, "BATCH_BYTES", MIB)
    texts = ["x" * 100_000] * 100
    pq.write_table(pa.table({"a": np.zeros(100), "text": texts}), tmp_path / "file")
    source = open_parquet(tmp_path / "file", Options(), Wanted(("a",), numeric=frozenset({"a"})), tmp_path)
    chunks = list(source.chunks())
    assert max(chunk.table.nbytes for chunk in chunks) <= 2 * MIB
    assert np.concatenate([chunk.numbers for chunk in chunks]).tolist() == list(range(1, 101))


def test_parquet_with_one_text_too_long(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1.0], "text": ["x" * (9 * MIB)]}), tmp_path / "file")
    refused(tmp_path / "file")


def test_parquet_with_a_page_that_unpacks_to_very_much(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1.0], "text": ["x" * (128 * MIB)]}), tmp_path / "file", compression="zstd")
    assert (tmp_path / "file").stat().st_size < MIB
    refused(tmp_path / "file")


def test_parquet_whose_metadata_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the metadata promises is not believed: reading a batch has a limit of its own."""
    pq.write_table(
        pa.table({"a": [1.0], "text": ["x" * (256 * MIB)]}), tmp_path / "file", compression="zstd", use_dictionary=False
    )
    monkeypatch.setattr(parquetfile, "_batch_rows", lambda _file, _max_bytes: 1)
    monkeypatch.setattr(parquetfile, "READING_BYTES", 128 * MIB)
    refused(tmp_path / "file")


def test_parquet_with_wide_values_many_times(tmp_path: Path) -> None:
    wide = pa.DictionaryArray.from_arrays(
        pa.array(np.zeros(10_000, dtype=np.int32)), pa.array([b"x" * 65_536], pa.binary(65_536))
    )
    pq.write_table(pa.table({"a": np.zeros(10_000), "wide": wide}), tmp_path / "file", compression="zstd")
    refused(tmp_path / "file")


def test_parquet_with_a_list_of_very_many(tmp_path: Path) -> None:
    lists = pa.ListArray.from_arrays([0, 50_000_000], pa.array(np.zeros(50_000_000, dtype=np.int8)))
    pq.write_table(pa.table({"a": [1.0], "list": lists}), tmp_path / "file", compression="zstd")
    refused(tmp_path / "file")


def test_parquet_with_very_many_columns(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1.0], **{f"c{at}": [1.0] for at in range(6_000)}}), tmp_path / "file")
    refused(tmp_path / "file", Reason.DATA_INVALID)


@pytest.mark.parametrize("header", [b"a;" * 6_000 + b"quality", b"a" * 2_000 + b";quality", b"a;" * 4_000_000 + b"quality"])
def test_csv_with_a_header_of_very_much(tmp_path: Path, header: bytes) -> None:
    (tmp_path / "file").write_bytes(header + b"\n" + b"1;2\n" * 30)
    began = time.monotonic()
    with pytest.raises(StepFailure) as caught:
        preprocess(tmp_path / "file", tmp_path / "table")
    assert caught.value.reason is Reason.DATA_INVALID, caught.value
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("text", ["1" * 20_000 + "x", "1" * 20_000 + ".", "." + "1" * 20_000 + "e", " " * 20_000 + "x"])
@pytest.mark.parametrize("decimal", [".", ","])
def test_a_number_of_thousands_of_digits(text: str, decimal: str) -> None:
    began = time.monotonic()
    for _ in range(20):
        number(text, decimal)
    assert time.monotonic() - began < 1


def test_a_finite_number_of_thousands_of_digits(tmp_path: Path) -> None:
    digits = "0." + "1" * 20_000
    assert number(digits, ".") == pytest.approx(1 / 9)
    assert number("1" * 20_000, ".") is Rejection.NOT_FINITE


@pytest.mark.parametrize(
    "head",
    [b"<!---->" * 9_000 + b"x", b"<!--" * 16_000, b"<?xml ?>" * 8_000 + b"x", b"\n " * 32_000 + b"x", b"<a " * 20_000,
     b"[" * 65_536, b'{"a":' * 13_000, b"a: b\n" * 13_000, b"1 1:" * 16_000, b"%\n" * 32_000],
)  # fmt: skip
def test_a_beginning_that_is_hard_to_judge(head: bytes) -> None:
    began = time.monotonic()
    recognize(head)
    assert time.monotonic() - began < 1


def zipped(method: int, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr("file.csv", content)
    return buffer.getvalue()


def many_members() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for at in range(100_000):
            archive.writestr(f"{at}.csv", b"")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (lambda: gzip.compress(bytes(200 * MIB)), Reason.DATA_TOO_LARGE),
        (lambda: lzma.compress(bytes(200 * MIB), preset=1), Reason.DATA_TOO_LARGE),
        (lambda: zipped(zipfile.ZIP_DEFLATED, bytes(200 * MIB)), Reason.DATA_TOO_LARGE),
        (lambda: zipped(zipfile.ZIP_BZIP2, bytes(200 * MIB)), Reason.DATA_NOT_CSV),  # unpacked in one go
        (lambda: zipped(zipfile.ZIP_LZMA, bytes(20 * MIB)), Reason.DATA_NOT_CSV),
        (lambda: gzip.compress(b"") * 500_000, Reason.DATA_NOT_CSV),
        (lambda: lzma.compress(b"") * 200_000, Reason.DATA_NOT_CSV),
        (many_members, Reason.DATA_NOT_CSV),
    ],
    ids=["gzip", "xz", "zip", "zip by bzip2", "zip by lzma", "gzip streams", "xz streams", "zip members"],
)
def test_a_compressed_file(tmp_path: Path, content: Callable[[], bytes], reason: Reason) -> None:
    (tmp_path / "file").write_bytes(content())
    began = time.monotonic()
    with pytest.raises(StepFailure) as caught:
        open_csv(tmp_path / "file", Options(max_bytes=20 * MIB), Wanted(("a",)), tmp_path)
    assert caught.value.reason is reason, caught.value
    assert time.monotonic() - began < 20
    assert sum(file.stat().st_size for file in tmp_path.glob("*.unpacked")) <= 20 * MIB


PEAK = """
import resource, sys
from pathlib import Path
from winesteps.failures import StepFailure
from winesteps.reading import Options, Wanted, open_parquet
path = Path(sys.argv[1])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    source = open_parquet(path, Options(), Wanted(("a",), numeric=frozenset({"a"})), path.parent)
    sum(1 for _ in source.chunks())
except StepFailure as failure:
    print(failure.reason, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_the_memory_that_a_parquet_bomb_takes(tmp_path: Path) -> None:
    """123 kB that stand for a gigabyte and more."""
    texts = pa.DictionaryArray.from_arrays(pa.array(np.zeros(60_000, dtype=np.int32)), pa.array(["x" * (7 * MIB)]))
    pq.write_table(pa.table({"a": np.zeros(60_000), "text": texts}), tmp_path / "file", compression="zstd")
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(tmp_path / "file")], capture_output=True, text=True, check=True, timeout=120
    )
    reason, mebibytes = done.stdout.split()
    assert reason == Reason.DATA_TOO_LARGE
    assert int(mebibytes) < 512


@pytest.mark.parametrize("line", [b'"\n', b'x"x;"y\n', b'"a;1\n', b'""";\n'])
def test_csv_whose_quotes_do_not_close(line: bytes) -> None:
    """Each line may begin a record of many lines: the time must not grow with the square of their number."""
    block = line * (600_000 // len(line))
    began = time.monotonic()
    records.split(block, 1, ";", fits=lambda _row: False, last=True)
    assert time.monotonic() - began < 15
