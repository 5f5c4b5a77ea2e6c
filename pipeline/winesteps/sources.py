"""Open an address for reading: http and https with `websource`, s3 with boto3.

Errors of the libraries become `StepFailure` with a message of our own: theirs quote whole addresses, which can contain a
signature or a password.
"""

import contextlib
import re
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

from winecontract.addresses import AddressError, HttpAddress, S3Address, parse
from winecontract.reasons import Reason
from winesteps.credentials import Credentials
from winesteps.failures import StepFailure, redact_url
from winesteps.opened import CHUNK_BYTES, CONNECT_SECONDS, READ_SECONDS, Opened, strong, version
from winesteps.sourceerrors import store_cause
from winesteps.websource import open_http


@contextlib.contextmanager
def open_source(
    url: str, s3_endpoint_url: str = "", known_etag: str = "", credentials: Credentials | None = None
) -> Iterator[Opened]:
    """Open `url` as a context: errors while the body is read become `StepFailure`, too.

    With `known_etag`, a body is requested only if its entity tag differs. `credentials` are for http and https.
    """
    address = address_of(url)
    known_etag = strong(known_etag)
    if isinstance(address, HttpAddress):
        opener = open_http(address, known_etag, credentials)
    elif credentials is not None:
        message = "credentialsSecret is set, but s3 addresses use the platform's keys. Remove it, or use an https address."
        raise StepFailure(Reason.PARAMETERS_INVALID, message)
    else:
        opener = _open_s3(address, s3_endpoint_url, known_etag)
    with opener as opened:
        yield opened


def address_of(url: str) -> S3Address | HttpAddress:
    """Parse an address. Raise `StepFailure` UrlInvalid if it cannot be the address of a file."""
    try:
        return parse(url)
    except AddressError as error:
        raise StepFailure(Reason.URL_INVALID, f"The address {redact_url(url)!r} cannot be used: {error}.") from None


@contextlib.contextmanager
def _open_s3(address: S3Address, endpoint_url: str, known_etag: str) -> Iterator[Opened]:
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, ParamValidationError

    shown = str(address)
    try:
        client = boto3.session.Session().client(
            "s3",
            endpoint_url=endpoint_url or None,
            config=Config(
                connect_timeout=CONNECT_SECONDS,
                read_timeout=READ_SECONDS,
                retries={"total_max_attempts": 1},  # `download` tries again
                s3={"addressing_style": "path"},  # MinIO has no DNS name per bucket
            ),
        )
        wanted: Any = {"Bucket": address.bucket, "Key": address.key}
        wanted |= {"VersionId": address.version_id} if address.version_id else {}
        wanted |= {"IfNoneMatch": known_etag} if known_etag else {}
        answer = client.get_object(**wanted)
        with contextlib.closing(answer["Body"]) as body:
            _check_version(address, answer.get("VersionId", ""), shown)
            yield Opened(
                chunks=body.iter_chunks(CHUNK_BYTES),
                size=answer.get("ContentLength"),
                etag=strong(answer.get("ETag")),
                version_id=version(answer.get("VersionId")),
                location=shown,
            )
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if known_etag and status == HTTPStatus.NOT_MODIFIED:
            yield Opened(iter(()), None, known_etag, unchanged=True, version_id=address.version_id, location=shown)
            return
        _check_s3_status(status, code, address)
    except NoCredentialsError:
        raise StepFailure(Reason.DATA_UNREACHABLE, f"{shown} cannot be read: the step has no AWS credentials.") from None
    except ParamValidationError:
        raise StepFailure(Reason.URL_INVALID, f"{shown}: a bucket cannot have that name.") from None
    except BotoCoreError as error:
        message = f"{shown} cannot be read: the object store does not answer ({type(error).__name__})."
        raise StepFailure(Reason.OBJECT_STORE_UNAVAILABLE, message) from None


def _check_version(address: S3Address, answered: str, shown: str) -> None:
    """Check the version of the answer: a store without versioning ignores `versionId` and sends the present object."""
    if address.version_id in {"", "null"} or answered == address.version_id:
        return
    found = f"version {answered}" if answered else "an object without a version"
    message = f"{shown}: the object store answered with {found}. Enable versioning of the bucket, or remove versionId."
    raise StepFailure(Reason.DATA_NOT_FOUND, message)


def _check_s3_status(status: int, code: str, address: S3Address) -> None:
    shown = str(address)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.TOO_MANY_REQUESTS or code == "SlowDown":
        raise StepFailure(Reason.OBJECT_STORE_UNAVAILABLE, f"{shown}: the object store answered {code or status}.") from None
    literal = ". Keys are not percent-decoded: write a space, not %20" if re.search("%[0-9A-Fa-f]{2}", address.key) else ""
    reason, cause = store_cause(status, code)
    raise StepFailure(reason, f"{shown}: the object store answered {code or status}: {cause}{literal}.") from None
