"""Signed model records: who trained a model, and which bytes it consists of.

A model is a pickle: who changes its files, or points the operator at other files, runs code where it is loaded. MLflow and the
object store are shared, so nothing that they say is believed unless the train step has signed it:

1. The operator keeps a key per namespace in the Secret `SECRET`. Only the train step gets it, as `KEY_VARIABLE` (and
   `PREVIOUS_KEY_VARIABLE` while a key is replaced).
2. The train step hashes the model's folder before the upload (`digest`), and writes the digest and a signature of everything that
   the operator relies on (`statement`) as tags of its MLflow run.
3. The operator verifies the signature with the key (`verify`), and hands the digest on: as `DIGEST_VARIABLE` to the model server,
   as a parameter to the steps that load a model. They hash what they have downloaded (`check`) before they read any of it.

So a server or step that loads a model needs no key, and a key that is lost costs a training, not a served model.
"""

import hashlib
import hmac
import json
import math
import os
import re
import secrets
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Self

from winecontract.reasons import Reason
from winecontract.tags import Tag

SECRET = "wine-model-key"
"""Name of the Secret in each namespace where runs run."""
CURRENT, PREVIOUS = "current", "previous"
"""Its keys: the key that signs, and one that still verifies. Each is 64 hexadecimal digits."""
KEY_VARIABLE, PREVIOUS_KEY_VARIABLE = "WINE_MODEL_KEY", "WINE_MODEL_KEY_PREVIOUS"
"""The variables of the train step's container that hold them."""
DIGEST_VARIABLE = "MODEL_DIGEST"
"""The variable of the model server's container that holds the digest of the folder that it may load."""

SIGNED_TAGS = (
    Tag.NAMESPACE,
    Tag.NAME,
    Tag.UID,
    Tag.REVISION,
    Tag.KFP_RUN,
    Tag.MODEL_URI,
    Tag.MODEL_VERSION,
    Tag.DIGEST,
    Tag.EXAMPLE,
    Tag.PREDICTION,
    Tag.DATA,
    Tag.DATA_SHA256,
    Tag.DATA_ETAG,
    Tag.DATA_VERSION,
    Tag.SERVED_PROBLEM,
    Tag.REUSED_RUN,
    Tag.FINGERPRINT,
)
"""Tags that a signature covers. An absent one is signed as the empty string."""

MAX_FILES = 1000
"""Most files and folders in a model's folder; MLflow writes about ten."""
MAX_BYTES = 16 * 1024**3
"""Most bytes in a model's folder."""

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_KEY = re.compile(r"[0-9a-f]{64}")
_SIGNATURE = re.compile(r"v1:(?P<key>[0-9a-f]{8}):(?P<mac>[0-9a-f]{64})")
_DOMAIN = b"winepipelines.io/model-record/v1\n"
_LARGEST = 1.7976931348623157e308
_CHUNK = 1024 * 1024

Statement = Mapping[str, object]


class KeyInvalidError(ValueError):
    """The Secret holds no usable key. The message never quotes it."""


class FolderInvalidError(ValueError):
    """A folder that cannot be a model's; the message says which entry, relative to the folder."""


class TamperedError(ValueError):
    """A folder holds other bytes than were signed; the message says which digest was expected and which found."""


class Fault(StrEnum):
    """Why a record is not believed. The values are the reasons that status shows."""

    UNSIGNED = str(Reason.MODEL_UNSIGNED)
    """There is no signature, or it is of a key that is not known here: the model was trained before, or the key was replaced."""
    TAMPERED = str(Reason.MODEL_TAMPERED)
    """The key is known, and it did not sign this record."""


@dataclass(frozen=True)
class Key:
    """One signing key. It is in no representation."""

    secret: bytes = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read 64 hexadecimal digits; white space around them is ignored. Raises KeyInvalidError."""
        if not _KEY.fullmatch(digits := text.strip().lower()):
            raise KeyInvalidError(f"a model key is 64 hexadecimal digits (32 random bytes), not {len(digits)} characters")
        return cls(bytes.fromhex(digits))

    @property
    def id(self) -> str:
        """Name the key without telling it: the first 8 hexadecimal digits of its SHA-256."""
        return hashlib.sha256(self.secret).hexdigest()[:8]

    def mac(self, statement: Statement) -> str:
        """HMAC-SHA-256 of a statement's canonical form, in hexadecimal."""
        return hmac.new(self.secret, _DOMAIN + _canonical(statement), hashlib.sha256).hexdigest()


@dataclass(frozen=True)
class Keys:
    """The key that signs, and one that still verifies while it is replaced."""

    current: Key
    previous: Key | None = None

    @classmethod
    def parse(cls, data: Mapping[str, str]) -> Self:
        """Read a Secret's decoded data. Raises KeyInvalidError where `current` is absent, or one of the two is not a key."""
        if not data.get(CURRENT):
            raise KeyInvalidError(f"the Secret {SECRET} has no key {CURRENT!r}")
        previous = data.get(PREVIOUS)
        return cls(Key.parse(data[CURRENT]), Key.parse(previous) if previous else None)

    @classmethod
    def from_environment(cls, variables: Mapping[str, str] = os.environ) -> Self | None:
        """Read the train step's variables; None where there is no key. Raises KeyInvalidError."""
        if not variables.get(KEY_VARIABLE):
            return None
        return cls.parse({CURRENT: variables[KEY_VARIABLE], PREVIOUS: variables.get(PREVIOUS_KEY_VARIABLE, "")})

    def find(self, key_id: str) -> Key | None:
        """The key of this id, if it is one of these."""
        return next((key for key in (self.current, self.previous) if key is not None and key.id == key_id), None)


def new_key() -> str:
    """Make a key as the Secret holds it."""
    return secrets.token_hex(32)


def statement(run_id: str, registered_model: str, tags: Mapping[str, str], metrics: Mapping[str, float]) -> Statement:
    """Gather everything about a model that the operator relies on, from its MLflow run.

    Args:
        run_id: id of the MLflow run.
        registered_model: name in the model registry that `model-version` belongs to.
        tags: the run's tags, with prefix; others than `SIGNED_TAGS` are ignored.
        metrics: all of the run's metrics, the latest value of each.

    """
    return {
        "run": run_id,
        "registered-model": registered_model,
        "tags": {tag.short: str(tags.get(tag, "")) for tag in SIGNED_TAGS},
        "metrics": {name: _number(value) for name, value in metrics.items()},
    }


def sign(what: Statement, keys: Keys) -> str:
    """Sign a statement with the current key: `v1:<key id>:<hexadecimal HMAC>`."""
    return f"v1:{keys.current.id}:{keys.current.mac(what)}"


def verify(what: Statement, signature: str, keys: Keys) -> Fault | None:
    """Compare a statement with its signature; None where they fit."""
    if not signature:
        return Fault.UNSIGNED
    if (parts := _SIGNATURE.fullmatch(signature)) is None:
        return Fault.TAMPERED
    if (key := keys.find(parts["key"])) is None:
        return Fault.UNSIGNED
    return None if hmac.compare_digest(key.mac(what), parts["mac"]) else Fault.TAMPERED


def digest(folder: Path) -> str:
    """Hash a model's folder: `sha256:` and the SHA-256 of the canonical JSON of {relative path: SHA-256 of the file}.

    Empty folders do not count: an object store has none. Raises FolderInvalidError where an entry is neither a file nor a folder
    (a symbolic link, a device), or where there is more than `MAX_FILES` and `MAX_BYTES` allow.
    """
    files: dict[str, str] = {}
    left = MAX_BYTES
    for path in _files(folder):
        name = path.relative_to(folder).as_posix()
        files[name], size = _hash_of(path, name, left)
        left -= size
    return f"sha256:{hashlib.sha256(_canonical(files)).hexdigest()}"


def check(folder: Path, expected: str) -> None:
    """Raise TamperedError or FolderInvalidError unless a folder has the expected digest. Nothing in it is interpreted."""
    if not DIGEST.fullmatch(expected):
        raise TamperedError(f"the expected digest is {expected[:100]!r}, which is not of the form sha256:<64 hexadecimal digits>")
    if not hmac.compare_digest(found := digest(folder), expected):
        raise TamperedError(f"the files have the digest {found}, but {expected} was signed")


def _files(folder: Path) -> Iterator[Path]:
    """Every regular file below a folder. Links are not followed."""
    entries = 0
    waiting = [folder]
    while waiting:
        below = waiting.pop()
        for entry in _entries(below, folder):
            entries += 1
            if entries > MAX_FILES:
                raise FolderInvalidError(f"there are more than {MAX_FILES} files")
            if entry.is_dir(follow_symlinks=False):
                waiting.append(Path(entry.path))
            elif entry.is_file(follow_symlinks=False):
                yield Path(entry.path)
            else:
                name = Path(entry.path).relative_to(folder).as_posix()
                raise FolderInvalidError(f"{name[:200]!r} is neither a regular file nor a folder")


def _entries(below: Path, folder: Path) -> Iterable["os.DirEntry[str]"]:
    try:
        with os.scandir(below) as found:
            yield from found
    except OSError as error:
        raise FolderInvalidError(f"{below.relative_to(folder).as_posix()[:200]!r} cannot be listed: {error.strerror}") from error


def _hash_of(path: Path, name: str, limit: int) -> tuple[str, int]:
    """SHA-256 and size of a file. Raises FolderInvalidError where it is longer than `limit`, or no regular file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise FolderInvalidError(f"{name[:200]!r} is not a regular file")
            hashed, size = hashlib.sha256(), 0
            while chunk := file.read(_CHUNK):
                size += len(chunk)
                if size > limit:
                    raise FolderInvalidError(f"the files have more than {MAX_BYTES} bytes")
                hashed.update(chunk)
    except OSError as error:
        raise FolderInvalidError(f"{name[:200]!r} cannot be read: {error.strerror}") from error
    return hashed.hexdigest(), size


def _canonical(value: object) -> bytes:
    """JSON with sorted keys, no spaces, ASCII only; numbers by `repr`, the shortest form that is read back as the same float."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode("ascii")


def _number(value: float) -> float | str:
    """A metric as MLflow gives it back: infinity is stored as the largest number, and zero has no sign."""
    number = float(value)
    if math.isnan(number):
        return "nan"
    return min(max(number, -_LARGEST), _LARGEST) + 0.0
