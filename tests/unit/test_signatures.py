"""Signed model records: a changed record or file does not match its signature or digest."""

import os
import pickle
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from winecontract import signatures
from winecontract.signatures import Fault, FolderInvalidError, Key, KeyInvalidError, Keys, TamperedError
from winecontract.tags import PREFIX

CURRENT, OTHER = "0" * 63 + "1", "0" * 63 + "2"
KEYS = Keys.parse({"current": CURRENT})
TAGS = {
    "namespace": "admin",
    "name": "mlflow",
    "uid": "1f0c",
    "revision": "7",
    "kfp-run": "9f1e",
    "model-uri": "s3://mlflow/1/a1/artifacts/model",
    "model-version": "3",
    "digest": "sha256:" + "ab" * 32,
    "example": '{"names":["alcohol"],"ndarray":[[9.4]]}',
    "prediction": "[5.5]",
    "data-sha256": "cd" * 32,
    "fingerprint": "ef" * 32,
}


@dataclass(frozen=True)
class Record:
    run_id: str
    registered_model: str
    tags: dict[str, str]
    metrics: dict[str, float]

    @property
    def statement(self) -> signatures.Statement:
        tags = {PREFIX + name: value for name, value in self.tags.items()}
        return signatures.statement(self.run_id, self.registered_model, tags, self.metrics)

    def tagged(self, **changes: str) -> "Record":
        return replace(self, tags=self.tags | {name.replace("_", "-"): value for name, value in changes.items()})


RECORD = Record("a1", "wine-elasticnet", TAGS, {"r2": 0.1 + 0.2, "rmse": 0.7})
SIGNED = signatures.sign(RECORD.statement, KEYS)


def test_record_verifies_when_nothing_changed() -> None:
    assert signatures.verify(RECORD.statement, SIGNED, KEYS) is None


@pytest.mark.parametrize("name", [tag.short for tag in signatures.SIGNED_TAGS])
def test_record_is_tampered_when_a_tag_changed(name: str) -> None:
    changed = RECORD.tagged(**{name: RECORD.tags.get(name, "") + "0"})
    assert signatures.verify(changed.statement, SIGNED, KEYS) is Fault.TAMPERED


@pytest.mark.parametrize(
    "forged",
    [
        replace(RECORD, run_id="b2"),
        replace(RECORD, registered_model="wine-other"),
        replace(RECORD, metrics=RECORD.metrics | {"r2": 0.99}),
        replace(RECORD, metrics=RECORD.metrics | {"accuracy": 1.0}),
        replace(RECORD, metrics={"r2": 0.1 + 0.2}),
    ],
    ids=["another run", "another registered model", "metric raised", "metric added", "metric removed"],
)
def test_record_is_tampered_when_replayed_or_raised(forged: Record) -> None:
    assert signatures.verify(forged.statement, SIGNED, KEYS) is Fault.TAMPERED


def test_value_cannot_move_from_one_tag_to_another() -> None:
    moved = RECORD.tagged(namespace="adminmlflow", name="")
    assert signatures.verify(moved.statement, SIGNED, KEYS) is Fault.TAMPERED


@pytest.mark.parametrize("signature", ["x", "v2" + SIGNED[2:], SIGNED + "\n", SIGNED.upper(), SIGNED[:-1], "v1:" + SIGNED])
def test_malformed_signature_is_tampered(signature: str) -> None:
    assert signatures.verify(RECORD.statement, signature, KEYS) is Fault.TAMPERED


def test_missing_signature_is_unsigned() -> None:
    assert signatures.verify(RECORD.statement, "", KEYS) is Fault.UNSIGNED


def test_previous_key_verifies_and_current_key_signs_while_a_key_is_replaced() -> None:
    rotated = Keys.parse({"current": OTHER, "previous": CURRENT})
    assert signatures.verify(RECORD.statement, SIGNED, rotated) is None
    assert signatures.sign(RECORD.statement, rotated).split(":")[1] == Key.parse(OTHER).id
    assert signatures.verify(RECORD.statement, SIGNED, Keys.parse({"current": OTHER})) is Fault.UNSIGNED


def test_signature_under_another_keys_id_is_tampered() -> None:
    forged = signatures.sign(RECORD.statement, Keys.parse({"current": OTHER})).replace(Key.parse(OTHER).id, KEYS.current.id)
    assert signatures.verify(RECORD.statement, forged, KEYS) is Fault.TAMPERED


@pytest.mark.parametrize("stored", [(0.0, -0.0), (float("inf"), 1.7976931348623157e308), (float("nan"), float("nan")), (3.0, 3)])
def test_record_verifies_when_mlflow_returns_metrics_in_another_form(stored: tuple[float, float]) -> None:
    logged, read = (replace(RECORD, metrics={"r2": value}) for value in stored)
    assert signatures.verify(read.statement, signatures.sign(logged.statement, KEYS), KEYS) is None


@pytest.mark.parametrize(
    "data", [{}, {"current": ""}, {"current": "ab"}, {"current": "zz" * 32}, {"current": CURRENT, "previous": "x"}]
)
def test_unusable_key_is_refused_without_quoting_it(data: dict[str, str]) -> None:
    with pytest.raises(KeyInvalidError) as error:
        Keys.parse(data)
    assert "zz" not in str(error.value)


def test_keys_are_read_from_the_environment() -> None:
    assert Keys.from_environment({}) is None
    assert Keys.from_environment({"WINE_MODEL_KEY": f"{CURRENT.upper()}\n", "WINE_MODEL_KEY_PREVIOUS": ""}) == KEYS
    both = Keys.from_environment({"WINE_MODEL_KEY": CURRENT, "WINE_MODEL_KEY_PREVIOUS": OTHER})
    assert both == Keys.parse({"current": CURRENT, "previous": OTHER})


def test_new_key_is_usable_and_never_shown() -> None:
    keys = Keys.parse({"current": signatures.new_key(), "previous": signatures.new_key()})
    assert keys.current != keys.previous
    assert keys.current.secret.hex() not in repr(keys)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model folder like those that MLflow writes."""
    model = tmp_path / "model"
    (model / "code").mkdir(parents=True)
    (model / "MLmodel").write_text("flavors: {}\n")
    (model / "model.pkl").write_bytes(pickle.dumps([1.0, 2.0]))
    (model / "code" / "loader.py").write_text("print()\n")
    return model


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def _empty(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            path.unlink()


def _swap(folder: Path) -> None:
    (folder / "MLmodel").rename(folder / "x")
    (folder / "model.pkl").rename(folder / "MLmodel")
    (folder / "x").rename(folder / "model.pkl")


CHANGES: dict[str, Callable[[Path], object]] = {
    "pickle changed": lambda folder: _flip(folder / "model.pkl"),
    "MLmodel changed": lambda folder: _flip(folder / "MLmodel"),
    "code changed": lambda folder: _flip(folder / "code" / "loader.py"),
    "file added": lambda folder: (folder / "added").write_text(""),
    "hidden file added": lambda folder: (folder / "code" / ".pth").write_text(""),
    "file removed": lambda folder: (folder / "model.pkl").unlink(),
    "file renamed": lambda folder: (folder / "model.pkl").rename(folder / "model2.pkl"),
    "file moved": lambda folder: (folder / "code" / "loader.py").rename(folder / "loader.py"),
    "files swapped": _swap,
    "file truncated": lambda folder: os.truncate(folder / "model.pkl", 3),
    "everything removed": _empty,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_changed_folder_is_tampered(folder: Path, change: Callable[[Path], object]) -> None:
    expected = signatures.digest(folder)
    signatures.check(folder, expected)
    change(folder)
    with pytest.raises(TamperedError, match="sha256:"):
        signatures.check(folder, expected)


def test_digest_ignores_what_an_object_store_does_not_keep(folder: Path) -> None:
    expected = signatures.digest(folder)
    (folder / "empty").mkdir()
    (folder / "model.pkl").chmod(0o400)
    os.utime(folder / "model.pkl", (0, 0))
    assert signatures.digest(folder) == expected


SPECIAL: dict[str, Callable[[Path], object]] = {
    "link to a file": lambda path: path.symlink_to("/etc/hostname"),
    "link to a folder": lambda path: path.symlink_to("/etc", target_is_directory=True),
    "link to nothing": lambda path: path.symlink_to("/nowhere"),
    "named pipe": os.mkfifo,
}


@pytest.mark.parametrize("make", SPECIAL.values(), ids=SPECIAL.keys())
def test_other_kinds_of_files_are_refused(folder: Path, make: Callable[[Path], object]) -> None:
    make(folder / "code" / "special")
    with pytest.raises(FolderInvalidError, match="'code/special' is neither"):
        signatures.digest(folder)


def test_too_many_files_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signatures, "MAX_FILES", 4)
    signatures.digest(folder)
    (folder / "a").mkdir()
    with pytest.raises(FolderInvalidError, match="more than 4 files"):
        signatures.digest(folder)


def test_too_many_bytes_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    monkeypatch.setattr(signatures, "MAX_BYTES", size)
    signatures.digest(folder)
    monkeypatch.setattr(signatures, "MAX_BYTES", size - 1)
    with pytest.raises(FolderInvalidError, match="bytes"):
        signatures.digest(folder)


@pytest.mark.parametrize("expected", ["", "sha256:", "md5:" + "0" * 64, "sha256:" + "A" * 64])
def test_malformed_digest_is_tampered(folder: Path, expected: str) -> None:
    with pytest.raises(TamperedError):
        signatures.check(folder, expected)


def test_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FolderInvalidError):
        signatures.digest(tmp_path / "absent")
