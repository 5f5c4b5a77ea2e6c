"""`dev/lint_words.py` finds retired words, in prose and in names."""

import pytest
import yaml

from dev.lint_words import LIST, ROOT, Retired, find, misspelled, retired

WORDS = retired([{"words": "as it should be", "say": "as desired"}, {"words": "knocks?", "say": "connect", "except": ["notes/"]}])


@pytest.mark.parametrize(
    "text",
    [
        "Nothing is as it should be.",
        "def test_a_pod_is_as_it_should_be() -> None:",
        "# all is as it\n    # should be",
        "All is As It Should Be",
    ],
    ids=["prose", "name", "wrapped comment", "capitals"],
)
def test_retired_words_are_found(text: str) -> None:
    assert [line.rpartition(": ")[2] for line in find("main.py", text, WORDS)] == ["say as desired"]


@pytest.mark.parametrize("text", ["was it as it shouldbe", "knocksout", "un knockss"])
def test_other_words_are_not_found(text: str) -> None:
    assert list(find("main.py", text, WORDS)) == []


def test_retired_word_is_reported_with_its_line() -> None:
    assert list(find("a.py", "one\n\nit_knocks = 1\n", WORDS)) == ["a.py:3: 'knocks': say connect"]


def test_retired_word_is_accepted_where_it_is_meant() -> None:
    assert list(find("notes/a.md", "knocks", WORDS)) == []
    assert list(find("operator/a.py", "knocks", WORDS)) != []


def test_list_of_retired_words_is_valid() -> None:
    words = retired(yaml.safe_load((ROOT / LIST).read_text())["retired"])
    assert len(words) > 20
    assert all(isinstance(word, Retired) and word.say for word in words)


def test_misspelling_is_found(tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.mktemp("spelling") / "a.md"
    file.write_text("The adress of the server.\n")  # sic
    assert "`adress` should be `address`" in misspelled([str(file)])  # sic
