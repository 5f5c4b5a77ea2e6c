"""Files and errors that are made to keep a step busy: what a data host or MLflow writes is read in linear time."""

import time

import pytest

from winesteps.reading.formats import recognize
from winesteps.reading.values import number
from winesteps.trackingerrors import classify

SHAPES = [
    "<!---->",
    "<!--",
    "<?xml ?>",
    "<?xml",
    " ",
    "\n",
    "outs:\n",
    "a:\n",
    "outs:" + "\n" * 100,
    "%\n",
    "1:1 ",
    "<a ",
    "[",
    "{",
    "0",
]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("end", ["", "x", "<html"])
def test_the_beginning_of_a_file_is_recognized_without_delay(shape: str, end: str) -> None:
    """Forty empty comments of XML once kept the download busy for ever."""
    head = (shape * (65_536 // len(shape)) + end).encode()
    began = time.process_time()
    recognize(head)
    assert time.process_time() - began < 1


def test_a_page_behind_comments_is_still_a_page() -> None:
    for head in (b"<!-- a --> <!-- b -->\n<!doctype html>", b'<?xml version="1.0"?><html>', b"<!-- -- > --><html>"):
        known = recognize(head)
        assert known is not None
        assert "web page" in known.name, head
    assert recognize(b"<!-- a --><wines></wines>") is not None


def test_a_field_of_digits_is_judged_without_delay() -> None:
    began = time.process_time()
    for text in ("0" * 100_000 + "x", " " * 100_000 + "x", "." * 100_000, "1e" * 50_000):
        number(text, ".")
    assert time.process_time() - began < 1


@pytest.mark.parametrize("words", ["error code 404", "Failed to upload ", "An error occurred (", "a to b", "<", "error code 4"])
def test_an_error_of_mlflow_is_classified_without_delay(words: str) -> None:
    began = time.process_time()
    classify(OSError(words * (2_000_000 // len(words))), "http://mlflow")
    assert time.process_time() - began < 1
