"""Write scored rows as one object of the store, which appears complete or not at all.

Parquet or CSV is sent in parts of a multipart upload while it is written, so that the step holds no copy of the file, and the
object changes in one step when the upload is completed. Every object has its owner in its metadata. An object of another owner,
or one that no prediction wrote, is replaced only with `overwrite`, and only if it has not changed since the step began: each
write is conditional on the entity tag that was found then.
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

from winecontract.addresses import AddressError, S3Address, parse
from winecontract.reasons import Reason
from winesteps.failures import StepFailure
from winesteps.opened import CONNECT_SECONDS, READ_SECONDS

PART_BYTES = 8 * 1024 * 1024
"""Size of a part. Stores accept parts of at least 5 MiB, and 10,000 of them: 80 GB in all."""
SUFFIXES = {".parquet": "application/vnd.apache.parquet", ".csv": "text/csv; charset=utf-8"}
"""Media types of the formats that can be written, by the suffix of the object's key."""
PLATFORM_KEYS = re.compile(r"(^|/)([0-9a-f]{32}/artifacts|models/m-[0-9a-f]{32}|v2/artifacts)/")
"""Keys under which MLflow and Kubeflow Pipelines keep artifacts, in any bucket."""
OWNER, RESOURCE, WRITE = "winepipelines-owner", "winepipelines-resource", "winepipelines-write"
"""Metadata of every written object: the owner's identity, its name for people, and the id of the write."""
UPLOAD_GONE = "NoSuchUpload"
DENIED = {"AccessDenied", "AllAccessDisabled"}
TRIES = 3
"""Tries of a write whose condition did not hold, each on the object that is there then."""


@dataclass(frozen=True)
class Place:
    """An object of the store."""

    bucket: str
    key: str

    @classmethod
    def of(cls, uri: str) -> "Place":
        """Parse an address. Raise `StepFailure` ParametersInvalid if an output cannot be written there."""
        try:
            address = parse(uri)
        except AddressError as error:
            raise _no_place(uri, str(error)) from None
        if not isinstance(address, S3Address) or address.version_id or not address.key.endswith(tuple(SUFFIXES)):
            raise _no_place(uri, "it must be an address such as s3://bucket/folder/file.parquet, or .csv")
        if not {"", ".", ".."}.isdisjoint(address.key.split("/")):
            raise _no_place(uri, "its key must not have an empty part, '.' or '..' between slashes")
        if PLATFORM_KEYS.search(address.key):
            raise _no_place(uri, "it is a folder where MLflow or Kubeflow Pipelines keep artifacts; set another folder")
        return cls(address.bucket, address.key)

    @property
    def suffix(self) -> str:
        """The suffix of the key, one of `SUFFIXES`."""
        return next(suffix for suffix in SUFFIXES if self.key.endswith(suffix))

    @property
    def report(self) -> "Place":
        """The place of its report."""
        return Place(self.bucket, f"{self.key}.report.json")

    def __str__(self) -> str:
        """Return it as an address."""
        return f"s3://{self.bucket}/{self.key}"


def _no_place(uri: str, why: str) -> StepFailure:
    return StepFailure(Reason.PARAMETERS_INVALID, f"output cannot be {uri[:200]!r}: {why}.")


@dataclass(frozen=True)
class Owner:
    """The writer: `identity` is the same for all attempts of one prediction, `resource` is its name for people."""

    identity: str
    resource: str = ""

    def metadata(self, write: str) -> dict[str, str]:
        """Return the metadata of an object written by this owner."""
        values = {OWNER: self.identity, RESOURCE: self.resource, WRITE: write}
        return {name: re.sub(r"[^!-~ ]", "?", value)[:256] for name, value in values.items()}


@dataclass(frozen=True)
class Found:
    """An existing object: its entity tag and metadata."""

    etag: str
    metadata: Mapping[str, str]

    @property
    def author(self) -> str:
        """Who wrote it, as part of a sentence."""
        if OWNER not in self.metadata:
            return "no WinePrediction wrote it"
        named = "".join(filter(str.isprintable, self.metadata.get(RESOURCE, ""))) or "another run"
        return f"{named[:200]} wrote it"


@dataclass(frozen=True)
class Claim:
    """A place that may be written while it stays unchanged: it was empty, or had an object that may be replaced."""

    place: Place
    found: Found | None

    @property
    def condition(self) -> dict[str, str]:
        """The condition of a write, as arguments of boto3."""
        return {"IfNoneMatch": "*"} if self.found is None else {"IfMatch": self.found.etag}


class _Answer(Enum):
    """Result of a write."""

    DONE = auto()
    CHANGED = auto()  # the condition does not hold
    UNCONDITIONAL = auto()  # the store does not support conditional writes
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
        """Check that a place may be written.

        Raises:
            StepFailure: OutputExists if this owner did not write the object that is there, unless it may be overwritten.

        """
        found = self._find(place)
        if found is None or overwrite or self._is_own(found):
            return Claim(place, found)
        advice = "Create another WinePrediction with another output, or with spec.overwrite: true to replace it."
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
        """Send the request that changes a claimed place, on condition that the place is unchanged.

        `mark` identifies this write: it recognizes a write that succeeded although its answer was lost. A store that does not
        support conditional writes gets the request without a condition, right after the place was checked.

        Raises:
            StepFailure: OutputExists if someone else wrote there meanwhile; OutputRejected, OutputUnavailable.

        """
        conditional = True
        for _ in range(TRIES):
            claim = self._renewed(claim)
            answer = self._send(claim.place, request, claim.condition if conditional else {})
            if answer is _Answer.DONE:
                return
            found = self._find(claim.place)
            if found is not None and found.metadata.get(WRITE) == mark:
                return
            if answer is _Answer.UPLOAD_GONE:
                raise _upload_gone(claim.place)
            conditional = conditional and answer is not _Answer.UNCONDITIONAL
        message = f"{claim.place} changed {TRIES} times while this was writing it. Stop the other writer, or use another output."
        raise StepFailure(Reason.OUTPUT_UNAVAILABLE, message)

    def abort(self, place: Place, upload_id: str) -> None:
        """Remove the parts of an upload, if possible; otherwise the bucket's lifecycle rules remove them."""
        from botocore.exceptions import BotoCoreError, ClientError

        with contextlib.suppress(BotoCoreError, ClientError):
            self.client.abort_multipart_upload(Bucket=place.bucket, Key=place.key, UploadId=upload_id)

    def _renewed(self, claim: Claim) -> Claim:
        """Check a claimed place again. An object that another attempt of this owner wrote meanwhile may be replaced."""
        found = self._find(claim.place)
        if found is None or self._is_own(found) or (claim.found is not None and found.etag == claim.found.etag):
            return Claim(claim.place, found)
        message = (
            f"{claim.place} was written while this ran, and {found.author}. Create another WinePrediction with another output."
        )
        raise StepFailure(Reason.OUTPUT_EXISTS, message)

    def _find(self, place: Place) -> Found | None:
        """Find the object at a place. With GET, whose body is not read: the answer to a failed HEAD has no error code."""
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

    def _send(self, place: Place, request: Callable[[Mapping[str, str]], object], condition: Mapping[str, str]) -> _Answer:
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
    """A file to write once, from beginning to end. `complete` makes the object appear, `abandon` removes the upload."""

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
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the number of bytes written."""
        return self._written

    def write(self, data: Any) -> int:
        """Buffer bytes, and send every complete part."""
        view = memoryview(data).cast("B")
        self._buffer += view
        self._written += len(view)
        while len(self._buffer) >= PART_BYTES:
            self._send(bytes(self._buffer[:PART_BYTES]))
            del self._buffer[:PART_BYTES]
        return len(view)

    def complete(self) -> int:
        """Make the object appear if its place is unchanged since the claim; return its size in bytes."""
        if self._buffer:
            self._send(bytes(self._buffer))
        complete, parts = self._store.client.complete_multipart_upload, {"Parts": self._parts}
        self._store.write(self._claim, self._mark, lambda condition: complete(**self._upload, MultipartUpload=parts, **condition))
        return self._written

    def abandon(self) -> None:
        """Remove the upload and its parts; no object appears."""
        self._store.abort(self._place, self.id)

    def _send(self, part: bytes) -> None:
        number = len(self._parts) + 1
        with store_errors(self._place):
            sent = self._store.client.upload_part(**self._upload, PartNumber=number, Body=part)
        self._parts.append({"PartNumber": number, "ETag": sent["ETag"]})


@contextlib.contextmanager
def store_errors(place: Place) -> Iterator[None]:
    """Turn errors of the store's client into `StepFailure`: OutputUnavailable if they may pass, else OutputRejected."""
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, ParamValidationError

    try:
        yield
    except ClientError as error:
        _refuse(place, error.response)
    except NoCredentialsError:
        message = f"{place} cannot be written: the step has no AWS credentials. Check the Secret mlpipeline-minio-artifact."
        raise StepFailure(Reason.OUTPUT_UNAVAILABLE, message) from None
    except ParamValidationError:
        message = f"{place}: the name of the bucket or object is invalid. Correct the output."
        raise StepFailure(Reason.OUTPUT_REJECTED, message) from None
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
    message = f"{place} cannot be written: the object store answered {code or status}. "
    if code in DENIED:
        folder = place.key.rpartition("/")[0]
        objects = "/".join(filter(None, (place.bucket, folder, "*")))
        message += (
            f"Allow the keys in the Secret mlpipeline-minio-artifact s3:GetObject and s3:PutObject on arn:aws:s3:::{objects} "
        )
        message += "(SeaweedFS: Read, Write), or create another WinePrediction whose output is where they may write."
    else:
        message += "Create the bucket if it is missing, and correct the keys in the Secret mlpipeline-minio-artifact."
    raise StepFailure(Reason.OUTPUT_REJECTED, message) from None


def _upload_gone(place: Place) -> StepFailure:
    return StepFailure(Reason.OUTPUT_UNAVAILABLE, f"{place}: someone removed its unfinished upload from the store.")
