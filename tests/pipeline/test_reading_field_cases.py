"""Files as people have them, after public bug reports: each is read, or refused with its own cause and advice that works."""

import bz2
import gzip
import io
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from winecontract.reasons import Reason
from winesteps.failures import StepFailure
from winesteps.preprocess import preprocess, summary_of
from winesteps.reading import Options, Wanted, open_csv

ROWS = 120
Expected = tuple[Reason, str]


@pytest.fixture(scope="module")
def good(red_wine: Path) -> str:
    """A good file: the first rows of the wine data."""
    return "\n".join(red_wine.read_text().splitlines()[: ROWS + 1]) + "\n"


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Any]:
    """Preprocesses a file and returns its columns, or reason and message of the refusal."""

    def run(content: str | bytes, **options: Any) -> Any:
        source, target = tmp_path / "file", tmp_path / "table"
        source.write_bytes(content.encode() if isinstance(content, str) else content)
        try:
            preprocess(source, target, **options)
        except StepFailure as failure:
            refusal = failure
        else:
            return pq.read_table(target).to_pydict()
        assert _scored(source, options) == refusal.message, "scoring says the same"
        return refusal.reason, refusal.message

    return run


def _scored(path: Path, options: dict[str, Any]) -> str | None:
    """What a scoring of the same file says, by the words of the training; None where it can be read."""
    from winesteps.reading import Columns

    read = Options(options.get("separator", ";"), options.get("decimal", "."), Columns.of(options.get("columns", {})))
    try:
        source = open_csv(path, read, Wanted(("quality",)), path.parent)
        for chunk in source.chunks():
            if chunk.problems:
                return source.explain(min(chunk.problems, key=lambda problem: problem.line))
    except StepFailure as failure:
        return failure.message
    return None


def commas(text: str) -> str:
    return text.replace(";", ",")


def rows(text: str) -> list[str]:
    return text.splitlines()[1:]


@pytest.mark.parametrize(
    "change",
    [
        lambda good: "sep=;\r\n" + good.replace("\n", "\r\n"),
        lambda good: '"sep=;"\n' + good,
        lambda good: "SEP=,\n" + commas(good),
        lambda good: "\ufeffsep=\t\n" + good.replace(";", "\t"),
        lambda good: good.replace("\n", "\r"),
        lambda good: good.encode("utf-16"),
        lambda good: good.encode("utf-16-le"),
        lambda good: good.encode("utf-16-be"),
        lambda good: good.encode("utf-32"),
        lambda good: ("\ufeff" + good).encode(),
        lambda good: gzip.compress(good.encode()),
        lambda good: gzip.compress(good[:500].encode()) + gzip.compress(good[500:].encode()),
        lambda good: lzma.compress(good.encode()),
        lambda good: lzma.compress(good[:500].encode()) + lzma.compress(good[500:].encode()),
        lambda good: zipped(**{"wine.csv": good}),
        lambda good: zipped(**{"data/": "", "data/wine.csv": good, "__MACOSX/data/._wine.csv": "x", "data/.DS_Store": "x"}),
        lambda good: gzip.compress(("\ufeff" + good.replace("\n", "\r\n")).encode("utf-16")),
        lambda good: good + "\n\n\n",
    ],
)
def test_ways_to_write_the_same_table(run: Any, good: str, change: Callable[[str], str | bytes]) -> None:
    assert run(change(good)) == run(good)


def zipped(**files: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


@pytest.mark.parametrize("separator", [",", "\t", "|", ":", " ", "¦", "§", "→", "^"])
def test_any_separator(run: Any, good: str, separator: str) -> None:
    assert run(good.replace(" ", "_").replace(";", separator), separator=separator) == run(good)


def test_names_in_windows_1252(run: Any, good: str) -> None:
    content = good.replace("fixed acidity", "Säure €").encode("cp1252")
    assert next(iter(run(content))) == "säure"


def test_names_that_are_composed_differently(run: Any, good: str) -> None:
    """As macOS writes them."""
    assert next(iter(run(good.replace("fixed acidity", "Sa\u0308ure")))) == "säure"


def test_a_decimal_comma(run: Any, good: str) -> None:
    content = good.replace(".", ",")
    reason, message = run(content)
    assert reason is Reason.DATA_INVALID
    assert message.startswith("Line 2, column 'fixed_acidity' is '7,4', with a decimal comma")
    assert message.endswith('Set data.decimal to ",".')
    assert run(content, decimal=",") == run(good)
    assert run(good, decimal=",")[1].endswith('Set data.decimal to ".".')


def test_a_single_decimal_comma_is_a_wrong_row(run: Any, good: str) -> None:
    assert run(good.replace("7.4;", "7,4;", 1))[1].endswith("Correct or remove the row.")


def test_a_decimal_comma_in_quotes_beside_comma_separators(run: Any, good: str) -> None:
    lines = [",".join(f'"{field}"' for field in line.replace('"', "").replace(".", ",").split(";")) for line in good.splitlines()]
    assert run("\n".join(lines), separator=",", decimal=",") == run(good)


def test_a_column_without_a_name(run: Any, good: str) -> None:
    """As R and pandas write their row names."""
    header, *values = good.splitlines()
    content = "\n".join([f'"";{header}', *(f'"{number}";{line}' for number, line in enumerate(values, 1))])
    assert run(content) == (
        Reason.DATA_INVALID,
        "Column 1 of the header has no name. Leave it out with data.columns.drop: [1], or name it in the file.",
    )
    assert run(content, columns={"drop": [1.0]}) == run(good), "Kubeflow hands whole numbers on as floats"


def test_a_separator_at_the_end_of_each_line(run: Any, good: str) -> None:
    content = good.replace("\n", ";\n")
    assert "data.columns.drop: [13]" in run(content)[1]
    assert run(content, columns={"drop": [13]}) == run(good)


def test_a_header_without_the_name_of_the_row_names(run: Any, good: str) -> None:
    header, *values = good.splitlines()
    content = "\n".join([header, *(f"{number};{line}" for number, line in enumerate(values, 1))])
    assert "So has every line: the header lacks a name, as R writes it." in run(content)[1]


def test_two_columns_of_one_name(run: Any, good: str) -> None:
    content = good.replace('"pH"', '"Density"')
    assert "'density': 'density' and 'Density'" in run(content)[1]
    assert "leave one out with data.columns.drop: [9]" in run(content)[1]
    kept = {name: values for name, values in run(good).items() if name != "ph"}
    assert run(content, columns={"drop": [9]}) == kept
    assert run(content, columns={"drop": ["Density"]}) == kept, "a name as it stands in the header is that one"


@pytest.mark.parametrize("names", [["pH", "Alcohol"], ["ph", 11], [9, 11], ["pH", "alcohol", "quality"]])
def test_only_some_columns(run: Any, good: str, names: list[str | int]) -> None:
    assert list(run(good, columns={"only": names})) == ["ph", "alcohol", "quality"]


@pytest.mark.parametrize(
    ("columns", "reason", "expected"),
    [
        (
            {"drop": ["Id"]},
            Reason.COLUMN_MISSING,
            "data.columns.drop lists 'Id', and there is no such column; the header has fixed_",
        ),
        ({"only": ["Id"]}, Reason.COLUMN_MISSING, "data.columns.only lists 'Id', and there is no such column"),
        ({"drop": [13]}, Reason.COLUMN_MISSING, "data.columns.drop lists column 13, and the file has 12"),
        ({"drop": ["Quality"]}, Reason.COLUMN_MISSING, "data.columns.drop leaves out 'quality', which is the column to predict."),
    ],
)
def test_columns_that_are_not_there(run: Any, good: str, columns: Any, reason: Reason, expected: str) -> None:
    assert run(good, columns=columns)[0] is reason
    assert expected in run(good, columns=columns)[1]


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"drop": ["a"], "only": ["b"]}, "not both"),
        ({"drop": [0]}, "positions from 1, not 0"),
        ({"drop": [1.5]}, "positions from 1, not 1.5"),
        ({"drop": [" "]}, "positions from 1"),
        ({"keep": ["a"]}, "has no field 'keep'"),
    ],
)
def test_columns_that_mean_nothing(tmp_path: Path, good: str, columns: Any, expected: str) -> None:
    (tmp_path / "file").write_text(good)
    with pytest.raises(StepFailure, match=expected) as caught:
        preprocess(tmp_path / "file", tmp_path / "table", columns=columns)
    assert caught.value.reason is Reason.PARAMETERS_INVALID


def test_a_column_of_text_and_missing_values(run: Any, good: str, tmp_path: Path) -> None:
    header, *values = good.splitlines()
    values = [f"{'red' if number % 2 else 'white'};{line}" for number, line in enumerate(values)]
    values[3] = values[3].replace(";11.2;", ";;", 1)
    values[7] = "red;" + ";".join(["NA", *values[7].split(";")[2:]])
    content = "\n".join([f"type;{header}", *values])
    assert run(content)[1] == (
        "Line 2, column 'type' is 'white', not a number, nor is any of the column. "
        'Leave it out with data.columns.drop: ["type"].'
    )
    _, message = run(content, columns={"drop": ["type"]})
    assert message.startswith("Line 5, column 'fixed_acidity' has no value.")
    assert "set data.missing to dropRows" in message
    read = run(content, columns={"drop": ["type"]}, missing="dropRows")
    assert len(read["quality"]) == ROWS - 2
    summary = summary_of(tmp_path / "table")
    assert (summary.rows, summary.rows_dropped, summary.columns_dropped) == (ROWS - 2, 2, ["type"])


@pytest.mark.parametrize("written", ["", " ", "NA", "n/a", "NaN", "null", "NULL", "None", "?", "\\N", "#N/A"])
def test_ways_to_write_a_missing_value(run: Any, good: str, written: str) -> None:
    content = good.replace("7.4;", f"{written};", 1)
    assert "set data.missing to dropRows" in run(content)[1]
    assert len(run(content, missing="dropRows")["quality"]) == ROWS - 1


def test_rows_with_wrong_values_are_not_dropped(run: Any, good: str) -> None:
    assert "is 'x', not a finite number" in run(good.replace("7.4;0.7;", ";x;", 1), missing="dropRows")[1]


def test_too_few_rows_are_left(tmp_path: Path, good: str) -> None:
    lines = good.splitlines()
    (tmp_path / "file").write_text("\n".join(lines[:15] + [";" * 11] * 30))
    with pytest.raises(StepFailure, match=r"has 14 rows of data \(30 with missing values were dropped\)"):
        preprocess(tmp_path / "file", tmp_path / "table", missing="dropRows")


@pytest.mark.parametrize(
    ("change", "reason", "expected"),
    [
        (
            lambda good: "Laboratory export 2024;;;;;;;;;;;\n" + good,
            Reason.DATA_INVALID,
            "Line 1, 'Laboratory export 2024', is a title",
        ),
        (
            lambda good: "Laboratory export 2024\n\n" + good,
            Reason.DATA_INVALID,
            "the names of the columns are in line 3. Remove what is above",
        ),
        (lambda good: "Lab\nDate;2024\n" + good, Reason.DATA_INVALID, "The first 2 lines, from 'Lab' on, are a title"),
        (lambda good: "#TYPE System.Object\n" + commas(good), Reason.DATA_INVALID, 'too: set data.separator to ",".'),
        (commas, Reason.COLUMN_MISSING, 'The file is separated by a comma (","): set data.separator to ",".'),
        (lambda good: good.replace(";", "\t"), Reason.COLUMN_MISSING, 'by a tab ("\\t"): set data.separator to "\\t".'),
        (lambda good: good.replace(";", "¦"), Reason.COLUMN_MISSING, 'by a broken bar ("¦"): set data.separator to "¦".'),
        (lambda good: commas("\n".join(rows(good))), Reason.DATA_INVALID, "The file has no header: line 1, '7.4,0.7,0,"),
        (
            lambda good: "\n".join(f"red;{row}" for row in rows(good)),
            Reason.DATA_INVALID,
            "Put a line with the names of the columns above",
        ),
        (
            lambda _: '{"message": "API rate limit exceeded"}\n',
            Reason.DATA_NOT_CSV,
            'JSON, and begins with \'{"message": "API rate',
        ),
        (lambda _: '[{"fixed acidity": 7.4}, ' * 9000, Reason.DATA_NOT_CSV, "The file is JSON"),
        (lambda _: '{"pH": 3.1}\n{"pH": 3.2}\n', Reason.DATA_NOT_CSV, "The file is JSON"),
        (
            lambda _: "version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 9\n",
            Reason.DATA_NOT_CSV,
            "a Git LFS pointer",
        ),
        (lambda _: "outs:\n- md5: 4d\n  path: wine.csv\n", Reason.DATA_NOT_CSV, "a DVC pointer"),
        (lambda _: "\n <!-- saved -->\n<html><body>Sign in", Reason.DATA_NOT_CSV, "a web page (HTML)"),
        (lambda _: "<Error><Code>AccessDenied</Code></Error>", Reason.DATA_NOT_CSV, "XML, and begins with '<Error>"),
        (lambda _: "@relation wine\n@attribute pH real\n@data\n", Reason.DATA_NOT_CSV, "an ARFF file"),
        (lambda _: "5 1:7.4 2:0.7\n6 1:7.8\n", Reason.DATA_NOT_CSV, "svmlight"),
        (lambda _: "%PDF-1.7\n", Reason.DATA_NOT_CSV, "a PDF document"),
        (lambda _: b"PAR1\x15\x04", Reason.DATA_NOT_CSV, "a parquet file"),
        (lambda _: b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\x00", Reason.DATA_NOT_CSV, "an Excel workbook (.xls)"),
        (
            lambda _: zipped(**{"[Content_Types].xml": "", "xl/workbook.xml": ""}),
            Reason.DATA_NOT_CSV,
            "an Excel workbook (.xlsx)",
        ),
        (
            lambda good: zipped(**{"red.csv": good, "white.csv": good}),
            Reason.DATA_NOT_CSV,
            "contains 2 files: 'red.csv', 'white.csv'.",
        ),
        (lambda _: zipped(**{"page.csv": "<html>"}), Reason.DATA_NOT_CSV, "The file in the zip file is a web page (HTML)"),
        (lambda good: gzip.compress(gzip.compress(good.encode())), Reason.DATA_NOT_CSV, "The gzip file contains a gzip file."),
        (lambda good: gzip.compress(good.encode())[:-9], Reason.DATA_NOT_CSV, "The gzip file is damaged or incomplete"),
        (lambda good: lzma.compress(good.encode())[:-9], Reason.DATA_NOT_CSV, "The xz file is damaged or incomplete"),
        (lambda good: zipped(**{"a.csv": good})[:-9], Reason.DATA_NOT_CSV, "The zip file is damaged or incomplete"),
        (lambda good: bz2.compress(good.encode()), Reason.DATA_NOT_CSV, "a bzip2 file"),
        (lambda _: "404: Not Found", Reason.DATA_NOT_CSV, "The file has a single line, '404: Not Found'."),
        (lambda _: "quality;b\n1;2\n\0", Reason.DATA_NOT_CSV, "not text: byte 14 is zero"),
        (lambda _: bytes(range(1, 32)) * 9, Reason.DATA_NOT_CSV, "control characters"),
        (lambda _: " \n \n", Reason.DATA_NOT_CSV, "no line with something in it"),
        (lambda _: "", Reason.DATA_NOT_CSV, "The file is empty"),
    ],
)
def test_what_a_file_is(run: Any, good: str, change: Any, reason: Reason, expected: str) -> None:
    found, message = run(change(good))
    assert found is reason, message
    assert expected in message


@pytest.mark.parametrize(
    "content",
    [
        "{a};quality\n" + "1;2\n2;3\n" * 10,
        "[g/l];quality\n" + "1;2\n2;3\n" * 10,
        "<pH>;quality\n" + "1;2\n2;3\n" * 10,
        "ORCID;quality\n" + "1;2\n2;3\n" * 10,
        "version;quality\n" + "1;2\n2;3\n" * 10,
    ],
)
def test_a_header_that_only_looks_like_another_format(run: Any, content: str) -> None:
    assert len(run(content)["quality"]) == 20


def test_no_separator_is_suggested_that_does_not_part_the_file(run: Any, good: str) -> None:
    """The header has commas in its names, the rows have none."""
    content = "\n".join(['"a, b"', *(row.split(";")[0] for row in rows(good))])
    assert "separator" not in run(content)[1]


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress, lambda data: zipped(**{"a.csv": data.decode()})])
def test_a_file_that_unpacks_to_more_than_is_allowed(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    (tmp_path / "file").write_bytes(pack(b"quality;b\n" + b"1;2\n" * 3_000_000))
    with pytest.raises(StepFailure, match="unpacks to more than 5,000,000 bytes") as caught:
        preprocess(tmp_path / "file", tmp_path / "table", max_bytes=5_000_000)
    assert caught.value.reason is Reason.DATA_TOO_LARGE


def test_text_with_line_breaks_in_a_column_that_is_dropped(run: Any, good: str) -> None:
    header, *values = good.splitlines()
    noted = [f'"a note,\nof ""two"" lines";{line}' for line in values]
    assert run("\n".join([f"note;{header}", *noted]), columns={"drop": ["note"]}) == run(good)


@pytest.mark.parametrize(
    ("values", "name", "warned"),
    [
        (range(ROWS), "x y", True),
        (range(2 * ROWS, 0, -2), "x", True),
        ([number * number for number in range(ROWS)], "Id", True),
        ([(number * 37) % 1009 for number in range(ROWS)], "Sample ID", True),
        ([number * number for number in range(ROWS)], "alcohol 2", False),
        ([number // 2 for number in range(ROWS)], "id", False),
        ([number + 0.5 for number in range(ROWS)], "id", False),
    ],
)
def test_a_column_that_numbers_the_rows(run: Any, good: str, tmp_path: Path, values: Any, name: str, warned: bool) -> None:
    header, *lines = good.splitlines()
    content = "\n".join([f"{name};{header}", *(f"{value};{line}" for value, line in zip(values, lines, strict=True))])
    run(content)
    warnings = [warning for warning in summary_of(tmp_path / "table").warnings if "numbers the rows" in warning]
    assert bool(warnings) is warned
    assert not warned or f'data.columns.drop: ["{name}"]' in warnings[0]
