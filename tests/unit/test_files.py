"""Reading the files of running processes in tests."""

from pathlib import Path

import pytest
from support.files import contents


def test_contents_are_those_of_every_file(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"1")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "two").write_bytes(b"2")
    (tmp_path / "folder" / "two").chmod(0o600)
    found = {path.name: (content, mode & 0o777) for path, content, mode in contents(tmp_path)}
    assert found["two"] == (b"2", 0o600)
    assert found["one"][0] == b"1"


def test_contents_pass_over_a_file_that_disappears(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("gone", "kept"):
        (tmp_path / name).write_bytes(b"x")
    read = Path.read_bytes

    def disappear(path: Path) -> bytes:
        if path.name == "gone":
            path.unlink()
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", disappear)
    assert [path.name for path, _, _ in contents(tmp_path)] == ["kept"]
