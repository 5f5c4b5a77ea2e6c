"""Writes scored rows as one object of the store, which appears complete or not at all. Called by `predict`.

Parquet or CSV goes out in parts of a multipart upload while it is written: neither the file nor a copy of it is held anywhere.
"""

import contextlib
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, NoReturn, Protocol
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from winesteps.failures import Reason, StepFailure
from winesteps.sources import CONNECT_SECONDS, READ_SECONDS

PART_BYTES = 8 * 1024 * 1024
"""Size of a part; the least that stores take is 5 MiB, and they take 10,000: 80 GB in all."""
SUFFIXES = {".parquet": "application/vnd.apache.parquet", ".csv": "text/csv; charset=utf-8"}
"""What can be written, by the end of the object's name, with the media type."""


@dataclass(frozen=True)
class Place:
    """An object of the store."""

    bucket: str
    key: str

    @classmethod
    def of(cls, uri: str) -> "Place":
        """The place that an address names; raises `StepFailure` ParametersInvalid where that is no place for an output."""
        parts = urlsplit(uri)
        key = unquote(parts.path.lstrip("/"))
        if parts.scheme != "s3" or not parts.netloc or not key.endswith(tuple(SUFFIXES)):
            message = f"output must be an address such as s3://bucket/folder/file.parquet, or .csv, not {uri[:200]!r}."
            raise StepFailure(Reason.PARAMETERS_INVALID, message)
        return cls(parts.netloc, key)

    @property
    def suffix(self) -> str:
        """The key of `SUFFIXES` that it ends in."""
        return next(suffix for suffix in SUFFIXES if self.key.endswith(suffix))

    def __str__(self) -> str:
        """As an address."""
        return f"s3://{self.bucket}/{self.key}"


class Store:
    """The object store, with the AWS credentials of the environment."""

    def __init__(self, endpoint_url: str) -> None:
        import boto3
        from botocore.config import Config

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

    def put_json(self, place: Place, content: Mapping[str, Any]) -> None:
        """Write a small object."""
        body = json.dumps(content, indent=2).encode() + b"\n"
        with store_errors(place):
            self.client.put_object(Bucket=place.bucket, Key=place.key, Body=body, ContentType="application/json")


class Upload(io.RawIOBase):
    """A file to write to, once from beginning to end; `complete` makes the object appear, `abandon` leaves none."""

    def __init__(self, store: Store, place: Place) -> None:
        super().__init__()
        self._client, self._place = store.client, place
        self._buffer = bytearray()
        self._parts: list[dict[str, Any]] = []
        self._written = 0
        with store_errors(place):
            begun = self._client.create_multipart_upload(Bucket=place.bucket, Key=place.key, ContentType=SUFFIXES[place.suffix])
        self._upload = {"Bucket": place.bucket, "Key": place.key, "UploadId": begun["UploadId"]}

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
        """Make the object appear; returns its size in bytes."""
        if self._buffer:
            self._send(bytes(self._buffer))
        with store_errors(self._place):
            self._client.complete_multipart_upload(**self._upload, MultipartUpload={"Parts": self._parts})
        return self._written

    def abandon(self) -> None:
        """Leave no object and no parts, if the store can be reached: else its own rules remove them."""
        from botocore.exceptions import BotoCoreError, ClientError

        with contextlib.suppress(BotoCoreError, ClientError):
            self._client.abort_multipart_upload(**self._upload)

    def _send(self, part: bytes) -> None:
        number = len(self._parts) + 1
        with store_errors(self._place):
            sent = self._client.upload_part(**self._upload, PartNumber=number, Body=part)
        self._parts.append({"PartNumber": number, "ETag": sent["ETag"]})


class Writer(Protocol):
    """What writes tables of one schema, one after another."""

    def write_table(self, table: pa.Table) -> None:
        """Write another table."""

    def close(self) -> None:
        """Write what comes last."""


def open_writer(upload: Upload, suffix: str, schema: pa.Schema, separator: str) -> Writer:
    """What writes rows to an upload in the form that its name ends in.

    Raises:
        StepFailure: DataInvalid where CSV cannot hold one of the columns.

    """
    if suffix == ".parquet":
        writer: Writer = pq.ParquetWriter(upload, schema, compression="zstd")
        return writer
    for name, kind in zip(schema.names, schema.types, strict=True):
        if pa.types.is_nested(kind) or pa.types.is_binary(kind):
            message = f"The column {name!r} is of type {kind}, which CSV cannot hold: write parquet, or leave it out."
            raise StepFailure(Reason.DATA_INVALID, message)
    csv: Writer = pyarrow.csv.CSVWriter(upload, schema, write_options=pyarrow.csv.WriteOptions(delimiter=separator))
    return csv


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
    message = f"{place} cannot be written: the object store answered {code or status}. The bucket must be there, and the keys in "
    message += "this namespace must be allowed to write to it."
    raise StepFailure(Reason.OUTPUT_REFUSED, message) from None
