"""Writes scored rows as one object of the store, which appears complete or not at all. Called by `predict`.

Parquet or CSV goes out in parts of a multipart upload while it is written: neither the file nor a copy of it is held anywhere,
and the object changes in one step when the upload is completed. Every object carries its owner in its metadata. What another
owner wrote, or no prediction at all, is replaced only where the prediction says `overwrite`, and only if it has not changed since
the step began: each write carries the condition that what was seen is still there.
"""

import contextlib
import io
import json
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from http import HTTPStatus
from typing import Any, NoReturn

from winesteps.addresses import AddressError, S3Address, parse
from winesteps.failures import Reason, StepFailure
from winesteps.opened import CONNECT_SECONDS, READ_SECONDS

PART_BYTES = 8 * 1024 * 1024
"""Size of a part; the least that stores take is 5 MiB, and they take 10,000: 80 GB in all."""
SUFFIXES = {".parquet": "application/vnd.apache.parquet", ".csv": "text/csv; charset=utf-8"}
"""What can be written, by the end of the object's name, with the media type."""
PLATFORM_KEYS = re.compile(r"(^|/)([0-9a-f]{32}/artifacts|models/m-[0-9a-f]{32}|v2/artifacts)/")
"""Keys under which MLflow and Kubeflow Pipelines keep artifacts, in whatever bucket."""
OWNER, RESOURCE, WRITE = "winepipelines-owner", "winepipelines-resource", "winepipelines-write"
"""Metadata of every object written here: whose it is, its name for people, and by which write it came."""
UPLOAD_GONE = "NoSuchUpload"
TRIES = 3
"""How often a write whose condition did not hold is tried on what is there then."""


@dataclass(frozen=True)
class Place:
    """An object of the store."""

    bucket: str
    key: str

    @classmethod
    def of(cls, uri: str) -> "Place":
        """The place that an address names; raises `StepFailure` ParametersInvalid where that is no place for an output."""
        try:
            address = parse(uri)
        except AddressError as error:
            raise _no_place(uri, str(error)) from None
        if not isinstance(address, S3Address) or address.version_id or not address.key.endswith(tuple(SUFFIXES)):
            raise _no_place(uri, "it must be an address such as s3://bucket/folder/file.parquet, or .csv")
        if not {"", ".", ".."}.isdisjoint(address.key.split("/")):
            raise _no_place(uri, "its key must not have an empty part, '.' or '..' between slashes")
        if PLATFORM_KEYS.search(address.key):
            raise _no_place(uri, "this is where MLflow or Kubeflow Pipelines keep artifacts; choose another folder")
        return cls(address.bucket, address.key)

    @property
    def suffix(self) -> str:
        """The key of `SUFFIXES` that it ends in."""
        return next(suffix for suffix in SUFFIXES if self.key.endswith(suffix))

    @property
    def report(self) -> "Place":
        """Where the report on it goes."""
        return Place(self.bucket, f"{self.key}.report.json")

    def __str__(self) -> str:
        """As an address."""
        return f"s3://{self.bucket}/{self.key}"


def _no_place(uri: str, why: str) -> StepFailure:
    return StepFailure(Reason.PARAMETERS_INVALID, f"output cannot be {uri[:200]!r}: {why}.")


@dataclass(frozen=True)
class Owner:
    """Who writes: `identity` is the same for all attempts of one prediction, `resource` names it for people."""

    identity: str
    resource: str = ""

    def metadata(self, write: str) -> dict[str, str]:
        """What an object says about itself."""
        values = {OWNER: self.identity, RESOURCE: self.resource, WRITE: write}
        return {name: re.sub(r"[^!-~ ]", "?", value)[:256] for name, value in values.items()}


@dataclass(frozen=True)
class Found:
    """An object that is there: its entity tag, and what it says about itself."""

    etag: str
    metadata: Mapping[str, str]

    @property
    def author(self) -> str:
        """Who wrote it, for people."""
        if OWNER not in self.metadata:
            return "no WinePrediction wrote it"
        named = "".join(filter(str.isprintable, self.metadata.get(RESOURCE, ""))) or "another run"
        return f"{named[:200]} wrote it"


@dataclass(frozen=True)
class Claim:
    """That a place may be written: nothing was found there, or what may be replaced. Only in this state it is."""

    place: Place
    found: Found | None

    @property
    def condition(self) -> dict[str, str]:
        """As the store's requests have it."""
        return {"IfNoneMatch": "*"} if self.found is None else {"IfMatch": self.found.etag}


class _Answer(Enum):
    """What a store says to a write."""

    DONE = auto()
    CHANGED = auto()  # the condition does not hold
    UNCONDITIONAL = auto()  # it knows no conditions
    UPLOAD_GONE = auto()


class Store:
    """The object store, with the AWS credentials of the environment, on behalf of an owner."""

    def __init__(self, endpoint_url: str, owner: Owner) -> None:
        import boto3
        from botocore.config import Config

        self.owner = owner
        self.client: Any = boto3.session.Session().client(
            "s3",
            endpoint_url=endpoint_url or None,
            config=Config(
                connect_timeout=CONNECT_SECONDS,
                read_timeout=READ_SECONDS,
                retries={"total_max_attempts": 5, "mode": "standard"},
                s3={"addressing_style": "path"},
            ),
        )

    def claim(self, place: Place, *, overwrite: bool = False) -> Claim:
        """Look whether a place may be written.

        Raises:
            StepFailure: OutputExists where something is there that this owner did not write, unless it may be overwritten.

        """
        found = self._find(place)
        if found is None or overwrite or self._is_own(found):
            return Claim(place, found)
        advice = "Make another WinePrediction with another output, or with spec.overwrite: true to replace it."
        raise StepFailure(Reason.OUTPUT_EXISTS, f"{place} exists, and {found.author}. {advice}")

    def put_json(self, claim: Claim, content: Mapping[str, Any]) -> None:
        """Write a small object at a claimed place; raises as `write` does."""
        mark = str(uuid.uuid4())
        target = {"Bucket": claim.place.bucket, "Key": claim.place.key, "Metadata": self.owner.metadata(mark)}
        body = json.dumps(content, indent=2).encode() + b"\n"
        self.write(
            claim,
            mark,
            lambda condition: self.client.put_object(**target, Body=body, ContentType="application/json", **condition),
        )

    def write(self, claim: Claim, mark: str, request: Callable[[Mapping[str, str]], object]) -> None:
        """Make the request that changes a claimed place, on the condition that what was claimed is still so.

        `mark` is the new object's own, by which a write is recognized whose answer was lost. A store that knows no conditions is
        asked without one, right after a look.

        Raises:
            StepFailure: OutputExists where someone else has written there meanwhile; OutputRefused, OutputUnavailable.

        """
        conditional = True
        for _ in range(TRIES):
            claim = self._renewed(claim)
            answer = self._ask(claim.place, request, claim.condition if conditional else {})
            if answer is _Answer.DONE:
                return
            found = self._find(claim.place)
            if found is not None and found.metadata.get(WRITE) == mark:
                return
            if answer is _Answer.UPLOAD_GONE:
                raise _upload_gone(claim.place)
            conditional = conditional and answer is not _Answer.UNCONDITIONAL
        raise StepFailure(Reason.OUTPUT_UNAVAILABLE, f"{claim.place} was changed again and again while it was written.")

    def abort(self, place: Place, upload_id: str) -> None:
        """Remove the parts of an upload, if it is there and the store can be reached: else its own rules remove them."""
        from botocore.exceptions import BotoCoreError, ClientError

        with contextlib.suppress(BotoCoreError, ClientError):
            self.client.abort_multipart_upload(Bucket=place.bucket, Key=place.key, UploadId=upload_id)

    def _renewed(self, claim: Claim) -> Claim:
        """Look again at a place that was claimed: what this owner's other attempts did there meanwhile may be replaced."""
        found = self._find(claim.place)
        if found is None or self._is_own(found) or (claim.found is not None and found.etag == claim.found.etag):
            return Claim(claim.place, found)
        message = (
            f"{claim.place} was written while this ran, and {found.author}. Make another WinePrediction with another output."
        )
        raise StepFailure(Reason.OUTPUT_EXISTS, message)

    def _find(self, place: Place) -> Found | None:
        """What is at a place. A GET, whose body is left alone: the answer to a HEAD has no word on what went wrong."""
        from botocore.exceptions import ClientError

        with store_errors(place):
            try:
                answer = self.client.get_object(Bucket=place.bucket, Key=place.key)
            except ClientError as error:
                if error.response.get("Error", {}).get("Code", "") != "NoSuchKey":
                    raise
                return None
        answer["Body"].close()
        return Found(answer["ETag"], answer.get("Metadata", {}))

    def _is_own(self, found: Found) -> bool:
        return bool(self.owner.identity) and found.metadata.get(OWNER) == self.owner.identity

    def _ask(self, place: Place, request: Callable[[Mapping[str, str]], object], condition: Mapping[str, str]) -> _Answer:
        from botocore.exceptions import ClientError

        with store_errors(place):
            try:
                request(condition)
            except ClientError as error:
                code = error.response.get("Error", {}).get("Code", "")
                if code in {"PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey"}:
                    return _Answer.CHANGED
                if condition and error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") == HTTPStatus.NOT_IMPLEMENTED:
                    return _Answer.UNCONDITIONAL
                if code == UPLOAD_GONE:
                    return _Answer.UPLOAD_GONE
                raise
        return _Answer.DONE


class Upload(io.RawIOBase):
    """A file to write to, once from beginning to end; `complete` makes the object appear, `abandon` leaves none."""

    def __init__(self, store: Store, claim: Claim) -> None:
        super().__init__()
        self._store, self._claim, self._place = store, claim, claim.place
        self._mark = str(uuid.uuid4())
        self._buffer = bytearray()
        self._parts: list[dict[str, Any]] = []
        self._written = 0
        with store_errors(self._place):
            begun = store.client.create_multipart_upload(
                Bucket=self._place.bucket,
                Key=self._place.key,
                ContentType=SUFFIXES[self._place.suffix],
                Metadata=store.owner.metadata(self._mark),
            )
        self.id = str(begun["UploadId"])
        self._upload = {"Bucket": self._place.bucket, "Key": self._place.key, "UploadId": self.id}

    def writable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """How many bytes were written."""
        return self._written

    def write(self, data: Any) -> int:
        """Take bytes, and send every part that is full."""
        view = memoryview(data).cast("B")
        self._buffer += view
        self._written += len(view)
        while len(self._buffer) >= PART_BYTES:
            self._send(bytes(self._buffer[:PART_BYTES]))
            del self._buffer[:PART_BYTES]
        return len(view)

    def complete(self) -> int:
        """Make the object appear, if its place is still as it was claimed; returns its size in bytes."""
        if self._buffer:
            self._send(bytes(self._buffer))
        complete, parts = self._store.client.complete_multipart_upload, {"Parts": self._parts}
        self._store.write(self._claim, self._mark, lambda condition: complete(**self._upload, MultipartUpload=parts, **condition))
        return self._written

    def abandon(self) -> None:
        """Leave no object and no parts."""
        self._store.abort(self._place, self.id)

    def _send(self, part: bytes) -> None:
        number = len(self._parts) + 1
        with store_errors(self._place):
            sent = self._store.client.upload_part(**self._upload, PartNumber=number, Body=part)
        self._parts.append({"PartNumber": number, "ETag": sent["ETag"]})


@contextlib.contextmanager
def store_errors(place: Place) -> Iterator[None]:
    """Turn what the store's client raises into `StepFailure`: OutputRefused, or OutputUnavailable where it may pass."""
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, ParamValidationError

    try:
        yield
    except ClientError as error:
        _refuse(place, error.response)
    except NoCredentialsError:
        raise StepFailure(Reason.OUTPUT_UNAVAILABLE, f"{place} cannot be written: the step has no AWS credentials.") from None
    except ParamValidationError:
        raise StepFailure(Reason.OUTPUT_REFUSED, f"{place}: a bucket or an object cannot have that name.") from None
    except BotoCoreError as error:
        message = f"{place} cannot be written: the object store does not answer ({type(error).__name__})."
        raise StepFailure(Reason.OUTPUT_UNAVAILABLE, message) from None


def _refuse(place: Place, answer: Mapping[str, Any]) -> NoReturn:
    code = answer.get("Error", {}).get("Code", "")
    status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.TOO_MANY_REQUESTS or code == "SlowDown":
        raise StepFailure(Reason.OUTPUT_UNAVAILABLE, f"{place}: the object store answered {code or status}.") from None
    if code == UPLOAD_GONE:
        raise _upload_gone(place) from None
    message = f"{place} cannot be written: the object store answered {code or status}. The bucket must be there, and the keys in "
    message += "this namespace must be allowed to write to it."
    raise StepFailure(Reason.OUTPUT_REFUSED, message) from None


def _upload_gone(place: Place) -> StepFailure:
    return StepFailure(Reason.OUTPUT_UNAVAILABLE, f"{place}: someone removed its upload from the store while it was under way.")
