"""The S3 API of an object store, one signed request at a time: what a client library would hide stays visible."""

import re
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import Message
from hashlib import sha256
from http.client import HTTPConnection, HTTPSConnection
from typing import Any
from urllib.parse import SplitResult, quote, urlencode, urlsplit
from xml.etree import ElementTree

from minio.credentials.credentials import Credentials
from minio.helpers import DictType
from minio.signer import presign_v4, sign_v4_s3

CODE = re.compile(r"<Code>(\w+)</Code>")


@dataclass(frozen=True)
class Answer:
    """The status, headers and body of an answer."""

    status: int
    headers: Message
    body: bytes

    @property
    def error(self) -> tuple[int, str]:
        """The status and the error code, or an empty code."""
        found = CODE.search(self.body.decode(errors="replace"))
        return self.status, found[1] if found else ""

    @property
    def etag(self) -> str:
        return self.headers["ETag"]

    @property
    def version(self) -> str:
        return self.headers.get("x-amz-version-id", "")

    def texts(self, *names: str) -> list[str]:
        """Return the texts of all elements below a path of names, without namespaces."""
        path = "/".join(f"{{*}}{name}" for name in names)
        return [element.text or "" for element in ElementTree.fromstring(self.body).findall(f".//{path}")]  # noqa: S314 - our store


@dataclass(frozen=True)
class Store:
    """An object store and keys for it."""

    url: str
    access_key: str
    secret_key: str
    bucket: str = ""
    region: str = "us-east-1"

    def request(
        self,
        method: str,
        key: str = "",
        query: dict[str, str] | None = None,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        at: datetime | None = None,
    ) -> Answer:
        """Send a signed request about the bucket or an object of it."""
        address = self.address(key, query)
        digest = sha256(body).hexdigest()
        now = at or datetime.now(UTC)
        signed: DictType = {"Host": address.netloc, "x-amz-content-sha256": digest, "x-amz-date": now.strftime("%Y%m%dT%H%M%SZ")}
        signed |= headers or {}
        signed = sign_v4_s3(
            method=method,
            url=address,
            region=self.region,
            headers=signed,
            credentials=self.credentials,
            content_sha256=digest,
            date=now,
        )
        return self.send(method, address.geturl(), body, signed)

    def send(self, method: str, url: str, body: bytes = b"", headers: Mapping[str, Any] | None = None) -> Answer:
        """Send a request as it is: with the standard library, as the operator bounds urllib3 in its own process."""
        address = urlsplit(url)
        kind = HTTPSConnection if address.scheme == "https" else HTTPConnection
        with closing(kind(address.netloc, timeout=30)) as connection:
            connection.request(method, url.removeprefix(f"{address.scheme}://{address.netloc}"), body, dict(headers or {}))
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read())

    def presigned(self, method: str, key: str, seconds: int, at: datetime | None = None) -> str:
        """Return an address that may be used without keys for some seconds."""
        moment = at or datetime.now(UTC)
        return presign_v4(
            method=method,
            url=self.address(key, None),
            region=self.region,
            credentials=self.credentials,
            date=moment,
            expires=seconds,
        ).geturl()

    def put(self, key: str, body: bytes = b"body", headers: Mapping[str, str] | None = None) -> Answer:
        """Write an object."""
        answer = self.request("PUT", key, body=body, headers=headers)
        assert answer.status == 200, answer
        return answer

    def listed(self, **query: str) -> Answer:
        """List objects."""
        answer = self.request("GET", query={"list-type": "2"} | {name.replace("_", "-"): value for name, value in query.items()})
        assert answer.status == 200, answer
        return answer

    def address(self, key: str, query: dict[str, str] | None) -> SplitResult:
        """Return the address of an object, percent-encoded as S3 signs it."""
        path = quote("/" + "/".join(filter(None, (self.bucket, key))), safe="/-_.~")
        encoded = urlencode(sorted((query or {}).items()), quote_via=quote, safe="-_.~")
        return urlsplit(f"{self.url}{path}" + (f"?{encoded}" if encoded else ""))

    @property
    def credentials(self) -> Credentials:
        return Credentials(self.access_key, self.secret_key)
