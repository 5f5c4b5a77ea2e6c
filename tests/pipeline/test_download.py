"""Downloads from a web server on this machine: what is accepted, refused, tried again, and never shown."""

import datetime
import gzip
import hashlib
import ipaddress
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from support.website import Answer, Site

from winecontract.reasons import Reason
from winesteps.download import ATTEMPTS, Downloaded, download
from winesteps.failures import StepFailure

CSV = b"a;quality\n" + b"1;5\n" * 30
DIGEST = hashlib.sha256(CSV).hexdigest()


class Fetch:
    """Downloads into a folder of its own and remembers how long it would have waited."""

    def __init__(self, folder: Path) -> None:
        self.target = folder / "data"
        self.waited: list[float] = []

    def __call__(self, url: str, **options: Any) -> Downloaded:
        return download(url, self.target, wait=self.waited.append, **options)

    def refused(self, reason: Reason, url: str, **options: Any) -> str:
        """The message of the failure, after checks that hold for every one."""
        with pytest.raises(StepFailure) as caught:
            self(url, **options)
        assert caught.value.reason is reason, caught.value
        assert list(self.target.parent.iterdir()) == [], "nothing half done is left"
        assert caught.value.__cause__ is None
        assert len(self.waited) == (0 if reason.permanent else ATTEMPTS - 1)
        return caught.value.message


@pytest.fixture
def fetch(tmp_path: Path) -> Fetch:
    folder = tmp_path / "a folder"
    folder.mkdir()
    return Fetch(folder)


def test_download_writes_the_bytes_unchanged(site: Site, fetch: Fetch) -> None:
    assert fetch(site.give("/wine.csv", Answer(CSV))) == Downloaded(len(CSV), DIGEST)
    assert fetch.target.read_bytes() == CSV
    assert [file.name for file in fetch.target.parent.iterdir()] == ["data"]


@pytest.mark.parametrize(
    ("sent", "kept"),
    [('"5d4-a"', '"5d4-a"'), ('W/"5d4-a"', ""), ("5d4-a", ""), ('"a b"', ""), ('""', ""), (f'"{"x" * 300}"', ""), (None, "")],
)
def test_download_returns_only_strong_entity_tags(site: Site, fetch: Fetch, sent: str | None, kept: str) -> None:
    headers = {} if sent is None else {"ETag": sent}
    assert fetch(site.give("/wine.csv", Answer(CSV, headers=headers))).etag == kept


def test_download_decodes_a_body_that_the_server_compressed(site: Site, fetch: Fetch) -> None:
    url = site.give("/wine.csv", Answer(gzip.compress(CSV), headers={"Content-Encoding": "gzip"}))
    assert fetch(url, sha256=DIGEST, max_bytes=len(CSV)).size == len(CSV)
    assert "more than 99 bytes" in fetch_refused_after(fetch, url, 99)


def fetch_refused_after(fetch: Fetch, url: str, max_bytes: int) -> str:
    fetch.target.unlink()
    return fetch.refused(Reason.DATA_TOO_LARGE, url, max_bytes=max_bytes)


def test_download_logs_progress_without_secrets(
    site: Site, fetch: Fetch, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("winesteps.download.PROGRESS_BYTES", 50)
    caplog.set_level("INFO")
    fetch(site.give("/wine.csv", Answer(CSV)) + "?token=hidden")
    assert "received=130" in caplog.text
    assert f"bytes=130 sha256={DIGEST}" in caplog.text
    assert "hidden" not in caplog.text


@pytest.mark.parametrize(
    ("length", "expected"), [(-1, f"has {len(CSV)} bytes;"), (None, "has more than")], ids=["announced", "found while it comes"]
)
def test_download_fails_when_the_file_is_too_large(site: Site, fetch: Fetch, length: int | None, expected: str) -> None:
    message = fetch.refused(Reason.DATA_TOO_LARGE, site.give("/wine.csv", Answer(CSV, length=length)), max_bytes=len(CSV) - 1)
    assert expected in message
    assert f"the limit on this platform is {len(CSV) - 1}" in message


def test_download_accepts_a_file_of_the_maximum_size(site: Site, fetch: Fetch) -> None:
    assert fetch(site.give("/wine.csv", Answer(CSV)), max_bytes=len(CSV)).size == len(CSV)


def test_download_fails_when_the_checksum_differs(site: Site, fetch: Fetch) -> None:
    url = site.give("/wine.csv", Answer(CSV))
    message = fetch.refused(Reason.CHECKSUM_MISMATCH, url, sha256="0" * 64)
    assert DIGEST in message
    assert "0" * 64 in message
    assert fetch(url, sha256=DIGEST.upper()).sha256 == DIGEST


def test_download_rejects_an_invalid_checksum(site: Site, fetch: Fetch) -> None:
    assert "64 hexadecimal" in fetch.refused(Reason.PARAMETERS_INVALID, site.give("/", Answer(CSV)), sha256="abc")
    assert site.asked == []


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Answer(b"\xef\xbb\xbf \n<!DOCTYPE html><title>"), "a web page (HTML)"),
        (Answer(b"<HTML><body>", headers={"Content-Type": "text/csv"}), "a web page (HTML)"),
        (Answer(b'<?xml version="1.0"?><Error/>'), "XML, and begins with '<?xml"),
        (Answer(b'{"message": "API rate limit exceeded"}'), 'JSON, and begins with \'{"message": "API rate limit exceeded"}\''),
        (Answer(b"%PDF-1.7\n" + b"x" * 100_000), "a PDF document"),
        (Answer(b"BZh91AY&SY\x94$|\x0e"), "a bzip2 file"),
        (Answer(b""), "empty"),
        (Answer(b"", length=None), "empty"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_download_rejects_content_that_is_not_csv(site: Site, fetch: Fetch, answer: Answer, expected: str) -> None:
    assert expected in fetch.refused(Reason.DATA_NOT_CSV, site.give("/wine.csv", answer))


@pytest.mark.parametrize("content", [CSV, gzip.compress(CSV, mtime=0), "a;quality\n1;2\n".encode("utf-16")])
def test_download_accepts_csv_of_any_media_type(site: Site, fetch: Fetch, content: bytes) -> None:
    """Servers call CSV text/html, application/json and whatever else."""
    fetch(site.give("/wine.csv", Answer(content, headers={"Content-Type": "text/html; charset=utf-8"})))
    assert fetch.target.read_bytes() == content


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 304])
def test_download_fails_when_nothing_is_found(site: Site, fetch: Fetch, status: int) -> None:
    reason = Reason.DATA_ACCESS_DENIED if status in {401, 403} else Reason.DATA_NOT_FOUND
    message = fetch.refused(reason, site.give("/wine.csv", Answer(status=status)) + "?signature=hidden")
    assert f"/wine.csv answered {status}" in message
    assert "hidden" not in message
    assert len(site.asked) == 1


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 599])
def test_download_retries_server_errors(site: Site, fetch: Fetch, status: int) -> None:
    message = fetch.refused(Reason.DATA_UNREACHABLE, site.give("/wine.csv", Answer(status=status)))
    assert f"answered {status}" in message
    assert len(site.asked) == ATTEMPTS


def test_download_succeeds_when_a_retry_does(site: Site, fetch: Fetch) -> None:
    url = site.give("/wine.csv", Answer(status=503), Answer(CSV[:9], length=len(CSV)), Answer(CSV))
    assert fetch(url).sha256 == DIGEST
    assert fetch.waited == [1, 2]


def test_download_fails_when_the_body_is_incomplete(site: Site, fetch: Fetch) -> None:
    message = fetch.refused(Reason.DATA_UNREACHABLE, site.give("/wine.csv", Answer(CSV, length=len(CSV) + 1)))
    assert "broke off" in message


def test_download_fails_when_the_connection_is_refused(fetch: Fetch) -> None:
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unheard.getsockname()[1]}/wine.csv?signature=hidden"
        message = fetch.refused(Reason.DATA_UNREACHABLE, url)
    assert "refused the connection" in message
    assert "hidden" not in message


def test_download_fails_when_the_server_sends_nothing(site: Site, fetch: Fetch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("winesteps.sources.READ_SECONDS", 0.05)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        assert "sent nothing" in fetch.refused(Reason.DATA_UNREACHABLE, f"http://127.0.0.1:{silent.getsockname()[1]}/")


@pytest.mark.parametrize("host", ["no.such.host", "no.such.host."])
def test_download_fails_when_the_host_is_unknown(fetch: Fetch, monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    def unknown(*_: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert "unknown to the DNS" in fetch.refused(Reason.DATA_UNREACHABLE, f"http://{host}/wine.csv")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "wine.csv",
        "file:///etc/passwd",
        "ftp://host/wine.csv",
        "http:///wine.csv",
        "http://host:port/wine.csv",
        "http://[::1/wine.csv",
        "http://user:hidden@host/wine.csv",
        "http://hidden@host/wine.csv",
        "s3://bucket",
        "s3://bucket/",
        "s3://no bucket/key",
        "http://" + "a" * 64 + ".b/",
        "http://host/wine.csv#hidden",
        "http://host/wi ne.csv",
        " http://host/wine.csv",
        "s3://bucket/wine.csv?X-Amz-Signature=hidden",
        "s3://bucket/wine.csv?versionid=1",
        "s3://bucket/folder/",
        "s3://hidden@bucket/wine.csv",
    ],
)
def test_download_rejects_an_invalid_address(fetch: Fetch, url: str) -> None:
    assert "hidden" not in fetch.refused(Reason.URL_INVALID, url)


def test_download_follows_redirects(site: Site, fetch: Fetch) -> None:
    site.give("/new", Answer(CSV))
    url = site.give("/old", Answer(status=302, headers={"Location": "/new"}))
    assert fetch(url).sha256 == DIGEST


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://host/", "s3://bucket/key", "/loop"])
def test_download_rejects_invalid_redirects(site: Site, fetch: Fetch, location: str) -> None:
    assert "redirects" in fetch.refused(
        Reason.URL_INVALID, site.give("/loop", Answer(status=301, headers={"Location": location}))
    )


def test_download_reads_no_netrc_file(site: Site, fetch: Fetch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "netrc").write_text("default login someone password hidden")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden")
    site.give("/new", Answer(CSV))
    fetch(site.give("/old", Answer(status=302, headers={"Location": f"http://localhost:{site.port}/new"})))
    assert len(site.asked) == 2
    assert all("Authorization" not in headers for _, headers in site.asked)


@pytest.fixture
def names_resolved_by_dns(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the resolver is asked; every name is this machine."""
    names: list[str] = []
    resolve = socket.getaddrinfo

    def local(host: str, *rest: Any, **options: Any) -> Any:
        names.append(host)
        return resolve("127.0.0.1", *rest, **options)

    monkeypatch.setattr(socket, "getaddrinfo", local)
    return names


def test_download_resolves_a_host_with_a_trailing_dot(site: Site, fetch: Fetch, names_resolved_by_dns: list[str]) -> None:
    """The dot keeps the resolver from trying the pod's search domains first; servers know the name without it."""
    assert fetch(site.give("/wine.csv", Answer(CSV), host="raw.example.org.")).sha256 == DIGEST
    assert names_resolved_by_dns == ["raw.example.org."]
    assert site.asked[0][1]["Host"] == f"raw.example.org:{site.port}"


def test_download_checks_the_certificate_of_a_host_with_a_trailing_dot(
    serve: Callable[..., Site], fetch: Fetch, names_resolved_by_dns: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = serve(_server_tls(tmp_path, "raw.example.org"))
    url = site.give("/wine.csv", Answer(CSV), host="raw.example.org.").replace("http:", "https:")
    assert "certificate" in fetch.refused(Reason.DATA_UNREACHABLE, url)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "certificate.pem"))
    assert fetch(url).sha256 == DIGEST
    assert set(names_resolved_by_dns) == {"raw.example.org."}
    assert set(site.server_names) == {"raw.example.org"}


def _server_tls(folder: Path, name: str) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName(name), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    (folder / "certificate.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "certificate.pem", folder / "key.pem")
    return context


class TestObjectStore:
    """s3 addresses, with a web server in the place of the object store."""

    @pytest.fixture(autouse=True)
    def credentials(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "access-hidden")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-hidden")

    def test_download_reads_an_object(self, site: Site, fetch: Fetch) -> None:
        site.give("/bucket/a%20folder/wine.csv", Answer(CSV))
        assert fetch("s3://bucket/a folder/wine.csv", s3_endpoint_url=f"http://127.0.0.1:{site.port}").sha256 == DIGEST
        authorization = site.asked[0][1]["Authorization"]
        assert authorization.startswith("AWS4-HMAC-SHA256 Credential=access-hidden/")

    def test_download_returns_the_entity_tag_of_an_object(self, site: Site, fetch: Fetch) -> None:
        site.give("/bucket/wine.csv", Answer(CSV, headers={"ETag": '"9bb5"'}))
        assert fetch("s3://bucket/wine.csv", s3_endpoint_url=f"http://127.0.0.1:{site.port}").etag == '"9bb5"'

    @pytest.mark.parametrize(
        ("key", "asked"), [("a%20b.csv", "a%2520b.csv"), ("100%.csv", "100%25.csv"), ("wine#1.csv", "wine%231.csv")]
    )
    def test_key_is_not_decoded(self, site: Site, fetch: Fetch, key: str, asked: str) -> None:
        site.give(f"/bucket/{asked}", Answer(CSV))
        assert fetch(f"s3://bucket/{key}", s3_endpoint_url=f"http://127.0.0.1:{site.port}").sha256 == DIGEST

    def test_message_explains_that_keys_are_not_decoded(self, site: Site, fetch: Fetch) -> None:
        endpoint = f"http://127.0.0.1:{site.port}"
        assert "not percent-decoded" in fetch.refused(Reason.DATA_NOT_FOUND, "s3://bucket/a%20b.csv", s3_endpoint_url=endpoint)

    def test_download_requests_and_returns_the_version(self, site: Site, fetch: Fetch) -> None:
        site.give("/bucket/wine.csv", Answer(CSV, headers={"x-amz-version-id": "v.1"}))
        found = fetch("S3://bucket/wine.csv?versionId=v.1", s3_endpoint_url=f"http://127.0.0.1:{site.port}")
        assert (found.sha256, found.version_id) == (DIGEST, "v.1")
        assert site.asked[0][0] == "/bucket/wine.csv?versionId=v.1"

    @pytest.mark.parametrize("headers", [{}, {"x-amz-version-id": "v.2"}], ids=["none", "another"])
    def test_download_fails_when_the_store_sends_another_version(self, site: Site, fetch: Fetch, headers: dict[str, str]) -> None:
        site.give("/bucket/wine.csv", Answer(CSV, headers=headers))
        endpoint = f"http://127.0.0.1:{site.port}"
        message = fetch.refused(Reason.DATA_NOT_FOUND, "s3://bucket/wine.csv?versionId=v.1", s3_endpoint_url=endpoint)
        assert "s3://bucket/wine.csv?versionId=v.1: the object store answered with" in message

    @pytest.mark.parametrize(("status", "code"), [(404, "NoSuchKey"), (404, "NoSuchBucket"), (403, "AccessDenied")])
    def test_download_fails_when_nothing_is_found(self, site: Site, fetch: Fetch, status: int, code: str) -> None:
        site.give("/bucket/wine.csv", Answer(f"<Error><Code>{code}</Code></Error>".encode(), status))
        reason = Reason.DATA_ACCESS_DENIED if status == 403 else Reason.DATA_NOT_FOUND
        message = fetch.refused(reason, "s3://bucket/wine.csv", s3_endpoint_url=f"http://127.0.0.1:{site.port}")
        assert f"s3://bucket/wine.csv: the object store answered {code}" in message

    @pytest.mark.parametrize("answer", [Answer(status=503), Answer(CSV, length=len(CSV) + 1)], ids=["503", "broken off"])
    def test_download_retries_errors_of_the_store(self, site: Site, fetch: Fetch, answer: Answer) -> None:
        site.give("/bucket/wine.csv", answer)
        fetch.refused(Reason.OBJECT_STORE_UNAVAILABLE, "s3://bucket/wine.csv", s3_endpoint_url=f"http://127.0.0.1:{site.port}")
        assert len(site.asked) == ATTEMPTS

    def test_download_fails_when_the_file_is_too_large(self, site: Site, fetch: Fetch) -> None:
        site.give("/bucket/wine.csv", Answer(CSV))
        endpoint = f"http://127.0.0.1:{site.port}"
        fetch.refused(Reason.DATA_TOO_LARGE, "s3://bucket/wine.csv", s3_endpoint_url=endpoint, max_bytes=9)

    def test_download_fails_without_aws_credentials(self, site: Site, fetch: Fetch, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
        monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
        message = fetch.refused(Reason.DATA_UNREACHABLE, "s3://bucket/wine.csv", s3_endpoint_url=f"http://127.0.0.1:{site.port}")
        assert "no AWS credentials" in message
