"""Opens an address for reading: http and https by requests, s3 by boto3. Called by `download` and `check`.

Every error of the two libraries becomes a `StepFailure` here, in our words: theirs quote whole addresses, and these may
hold a signature or a password.
"""

import contextlib
import datetime
import re
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from winesteps.addresses import AddressError, HttpAddress, S3Address, parse
from winesteps.credentials import Credentials
from winesteps.failures import Reason, StepFailure, redact_url
from winesteps.sourceerrors import BODY_SHOWN, check_status, connection_problem, store_cause

if TYPE_CHECKING:
    import requests

CONNECT_SECONDS, READ_SECONDS = 10.0, 60.0
"""How long a connection, and each next piece of the body, may take."""
CHUNK_BYTES = 1024 * 1024
STRONG_ETAG = re.compile(r'"[!#-~]{1,254}"')
"""An entity tag that is the same only for the same bytes. A weak one, `W/"…"`, is no such thing."""


@dataclass(frozen=True)
class Opened:
    """A body to be read: its announced length in bytes, media type and strong entity tag, where the server gave them.

    `unchanged` is the answer to an entity tag that is known: there is no body then. `version_id` names the version of an object
    in a bucket with versioning. `location` is the address that answered, after redirects.
    """

    chunks: Iterator[bytes]
    size: int | None
    content_type: str
    etag: str = ""
    unchanged: bool = False
    version_id: str = ""
    location: str = ""


@contextlib.contextmanager
def open_source(
    url: str, s3_endpoint_url: str = "", known_etag: str = "", credentials: Credentials | None = None
) -> Iterator[Opened]:
    """The body at `url`, as a context: errors while it is read become `StepFailure` as well.

    With `known_etag` only a body that has another one is asked for. `credentials` are for http and https.
    """
    address = address_of(url)
    known_etag = _strong(known_etag)
    if isinstance(address, HttpAddress):
        opener = _open_http(address, known_etag, credentials)
    elif credentials is not None:
        message = "credentialsSecret is for http and https: the object store's keys are the platform's to give."
        raise StepFailure(Reason.PARAMETERS_INVALID, message)
    else:
        opener = _open_s3(address, s3_endpoint_url, known_etag)
    with opener as opened:
        yield opened


def address_of(url: str) -> S3Address | HttpAddress:
    """What an address names; raises `StepFailure` UrlInvalid where that is no file."""
    try:
        return parse(url)
    except AddressError as error:
        raise StepFailure(Reason.URL_INVALID, f"The address {redact_url(url)!r} cannot be used: {error}.") from None


def _strong(etag: str | None) -> str:
    return etag if etag and STRONG_ETAG.fullmatch(etag) else ""


def _origin(url: str | None) -> tuple[str, str, int | None]:
    parts = urlsplit(url or "")
    return parts.scheme, parts.hostname or "", parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def _session() -> "requests.Session":
    """A session that follows the environment's proxies and certificates, but takes no password from a netrc file."""
    import requests

    class Session(requests.Session):
        def rebuild_auth(self, prepared_request: requests.PreparedRequest, response: requests.Response) -> None:
            """Take no credential along to another place than the one that it is for, nor from https to http."""
            if _origin(prepared_request.url) != _origin(response.request.url):
                prepared_request.headers.pop("Authorization", None)

    session = Session()
    session.auth = lambda request: request
    session.max_redirects = 10
    # Not compressed on the way: the announced length and the checksum are then the file's.
    session.headers.update({"User-Agent": "winepipelines", "Accept-Encoding": "identity"})
    return session


@contextlib.contextmanager
def _open_http(address: HttpAddress, known_etag: str, credentials: Credentials | None) -> Iterator[Opened]:
    import requests
    from urllib3.exceptions import HTTPError, LocationValueError

    url, shown = address.url, redact_url(address.url)
    try:
        headers = {"If-None-Match": known_etag} if known_etag else {}
        if credentials is not None:
            if not credentials.may_go_to(url):
                message = f"{shown} would get the credentials over plain http: use https, or set credentialsOverHTTP."
                raise StepFailure(Reason.PARAMETERS_INVALID, message)
            headers["Authorization"] = credentials.authorization
        with (
            _session() as session,
            session.get(url, stream=True, timeout=(CONNECT_SECONDS, READ_SECONDS), headers=headers) as response,
        ):
            if known_etag and response.status_code == HTTPStatus.NOT_MODIFIED:
                yield Opened(iter(()), None, "", known_etag, unchanged=True)
                return
            if response.status_code != HTTPStatus.OK:
                body = next(response.iter_content(BODY_SHOWN), b"")
                now = datetime.datetime.now(datetime.UTC)
                check_status(response.status_code, response.headers, body, response.url, shown, now)
            length = response.headers.get("Content-Length", "")
            encoded = response.headers.get("Content-Encoding", "identity") != "identity"
            yield Opened(
                chunks=response.iter_content(CHUNK_BYTES),
                size=int(length) if length.isdigit() and not encoded else None,
                content_type=response.headers.get("Content-Type", "").partition(";")[0].strip().lower(),
                etag=_strong(response.headers.get("ETag")),
                location=response.url,
            )
    except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema, LocationValueError):
        raise StepFailure(Reason.URL_INVALID, f"{shown} is, or redirects to, an address that http cannot be spoken to.") from None
    except requests.exceptions.TooManyRedirects:
        raise StepFailure(Reason.URL_INVALID, f"{shown} redirects more than {session.max_redirects} times.") from None
    except (requests.RequestException, HTTPError, UnicodeError) as error:
        raise StepFailure(
            Reason.DATA_UNREACHABLE, f"{shown} {connection_problem(error, CONNECT_SECONDS, READ_SECONDS)}."
        ) from None


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
                s3={"addressing_style": "path"},  # MinIO has no DNS name a bucket
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
                content_type=answer.get("ContentType", "").partition(";")[0].strip().lower(),
                etag=_strong(answer.get("ETag")),
                version_id=answer.get("VersionId", ""),
                location=shown,
            )
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if known_etag and status == HTTPStatus.NOT_MODIFIED:
            yield Opened(iter(()), None, "", known_etag, unchanged=True, version_id=address.version_id, location=shown)
            return
        _check_s3_status(status, code, address)
    except NoCredentialsError:
        raise StepFailure(Reason.DATA_UNREACHABLE, f"{shown} cannot be read: the step has no AWS credentials.") from None
    except ParamValidationError:
        raise StepFailure(Reason.URL_INVALID, f"{shown}: a bucket cannot have that name.") from None
    except BotoCoreError as error:
        message = f"{shown} cannot be read: the object store does not answer ({type(error).__name__})."
        raise StepFailure(Reason.STORE_UNAVAILABLE, message) from None


def _check_version(address: S3Address, answered: str, shown: str) -> None:
    """A store without versions answers with what is there now, whatever version it is asked for."""
    if address.version_id in {"", "null"} or answered == address.version_id:
        return
    found = f"version {answered}" if answered else "an object without a version"
    raise StepFailure(Reason.DATA_NOT_FOUND, f"{shown}: the object store answered with {found}. Does its bucket keep versions?")


def _check_s3_status(status: int, code: str, address: S3Address) -> None:
    shown = str(address)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.TOO_MANY_REQUESTS or code == "SlowDown":
        raise StepFailure(Reason.STORE_UNAVAILABLE, f"{shown}: the object store answered {code or status}.") from None
    literal = ". A key is taken literally: write a space for %20" if re.search("%[0-9A-Fa-f]{2}", address.key) else ""
    reason, cause = store_cause(status, code)
    raise StepFailure(reason, f"{shown}: the object store answered {code or status}: {cause}{literal}.") from None
