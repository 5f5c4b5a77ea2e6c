"""`dev/architecture.py` draws the import graph."""

import pytest

from dev.architecture import picture, reduced


def test_edges_that_follow_from_others_are_left_out() -> None:
    assert reduced({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == {"a": {"b"}, "b": {"c"}, "c": set()}


def test_cycle_is_rejected() -> None:
    with pytest.raises(ValueError, match="in a circle"):
        reduced({"a": {"b"}, "b": {"a"}})


def test_picture_shows_deciding_packages_as_pure() -> None:
    drawn = picture()
    assert "pipelines([pipelines])" in drawn
    assert "platform[platform]" in drawn
    assert "pipelines_act --> pipelines\n" in drawn
