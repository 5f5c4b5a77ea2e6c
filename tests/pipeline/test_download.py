"""Downloads from a web server on this machine: what is accepted, refused, tried again, and never said."""

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

from winesteps.download import ATTEMPTS, Downloaded, download
from winesteps.failures import Reason, StepFailure

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


def test_bytes_arrive_as_they_are(site: Site, fetch: Fetch) -> None:
    assert fetch(site.give("/wine.csv", Answer(CSV))) == Downloaded(len(CSV), DIGEST)
    assert fetch.target.read_bytes() == CSV
    assert [file.name for file in fetch.target.parent.iterdir()] == ["data"]


@pytest.mark.parametrize(
    ("said", "kept"),
    [('"5d4-a"', '"5d4-a"'), ('W/"5d4-a"', ""), ("5d4-a", ""), ('"a b"', ""), ('""', ""), (f'"{"x" * 300}"', ""), (None, "")],
)
def test_a_strong_entity_tag_is_kept(site: Site, fetch: Fetch, said: str | None, kept: str) -> None:
    headers = {} if said is None else {"ETag": said}
    assert fetch(site.give("/wine.csv", Answer(CSV, headers=headers))).etag == kept


def test_encoded_by_the_server_all_the_same(site: Site, fetch: Fetch) -> None:
    url = site.give("/wine.csv", Answer(gzip.compress(CSV), headers={"Content-Encoding": "gzip"}))
    assert fetch(url, sha256=DIGEST, max_bytes=len(CSV)).size == len(CSV)
    assert "more than 99 bytes" in fetch_refused_after(fetch, url, 99)


def fetch_refused_after(fetch: Fetch, url: str, max_bytes: int) -> str:
    fetch.target.unlink()
    return fetch.refused(Reason.DATA_TOO_LARGE, url, max_bytes=max_bytes)


def test_progress_is_logged(site: Site, fetch: Fetch, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("winesteps.download.PROGRESS_BYTES", 50)
    caplog.set_level("INFO")
    fetch(site.give("/wine.csv", Answer(CSV)) + "?token=hidden")
    assert "130 bytes so far" in caplog.text
    assert f"downloaded 130 bytes, SHA-256 {DIGEST}" in caplog.text
    assert "hidden" not in caplog.text


@pytest.mark.parametrize(
    ("length", "said"), [(-1, f"has {len(CSV)} bytes;"), (None, "has more than")], ids=["announced", "found while it comes"]
)
def test_too_large(site: Site, fetch: Fetch, length: int | None, said: str) -> None:
    message = fetch.refused(Reason.DATA_TOO_LARGE, site.give("/wine.csv", Answer(CSV, length=length)), max_bytes=len(CSV) - 1)
    assert said in message
    assert f"the limit on this platform is {len(CSV) - 1}" in message


def test_as_large_as_allowed(site: Site, fetch: Fetch) -> None:
    assert fetch(site.give("/wine.csv", Answer(CSV)), max_bytes=len(CSV)).size == len(CSV)


def test_checksum(site: Site, fetch: Fetch) -> None:
    url = site.give("/wine.csv", Answer(CSV))
    message = fetch.refused(Reason.CHECKSUM_MISMATCH, url, sha256="0" * 64)
    assert DIGEST in message
    assert "0" * 64 in message
    assert fetch(url, sha256=DIGEST.upper()).sha256 == DIGEST


def test_checksum_that_is_none(site: Site, fetch: Fetch) -> None:
    assert "64 hexadecimal" in fetch.refused(Reason.PARAMETERS_INVALID, site.give("/", Answer(CSV)), sha256="abc")
    assert site.asked == []


@pytest.mark.parametrize(
    ("answer", "said"),
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
def test_plainly_no_csv(site: Site, fetch: Fetch, answer: Answer, said: str) -> None:
    assert said in fetch.refused(Reason.DATA_NOT_CSV, site.give("/wine.csv", answer))


@pytest.mark.parametrize("content", [CSV, gzip.compress(CSV), "a;quality\n1;2\n".encode("utf-16")])
def test_a_table_is_judged_by_its_content(site: Site, fetch: Fetch, content: bytes) -> None:
    """Servers call CSV text/html, application/json and whatever else."""
    fetch(site.give("/wine.csv", Answer(content, headers={"Content-Type": "text/html; charset=utf-8"})))
    assert fetch.target.read_bytes() == content


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 304])
def test_not_found(site: Site, fetch: Fetch, status: int) -> None:
    reason = Reason.DATA_ACCESS_DENIED if status in {401, 403} else Reason.DATA_NOT_FOUND
    message = fetch.refused(reason, site.give("/wine.csv", Answer(status=status)) + "?signature=hidden")
    assert f"/wine.csv answered {status}" in message
    assert "hidden" not in message
    assert len(site.asked) == 1


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 599])
def test_a_server_in_trouble_is_asked_again(site: Site, fetch: Fetch, status: int) -> None:
    message = fetch.refused(Reason.DATA_UNREACHABLE, site.give("/wine.csv", Answer(status=status)))
    assert f"answered {status}" in message
    assert len(site.asked) == ATTEMPTS


def test_trouble_that_passes(site: Site, fetch: Fetch) -> None:
    url = site.give("/wine.csv", Answer(status=503), Answer(CSV[:9], length=len(CSV)), Answer(CSV))
    assert fetch(url).sha256 == DIGEST
    assert fetch.waited == [1, 2]


def test_broken_off(site: Site, fetch: Fetch) -> None:
    message = fetch.refused(Reason.DATA_UNREACHABLE, site.give("/wine.csv", Answer(CSV, length=len(CSV) + 1)))
    assert "broke off" in message


def test_nobody_listens(fetch: Fetch) -> None:
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unheard.getsockname()[1]}/wine.csv?signature=hidden"
        message = fetch.refused(Reason.DATA_UNREACHABLE, url)
    assert "refused the connection" in message
    assert "hidden" not in message


def test_silence(site: Site, fetch: Fetch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("winesteps.sources.READ_SECONDS", 0.05)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        assert "sent nothing" in fetch.refused(Reason.DATA_UNREACHABLE, f"http://127.0.0.1:{silent.getsockname()[1]}/")


@pytest.mark.parametrize("host", ["no.such.host", "no.such.host."])
def test_host_unknown(fetch: Fetch, monkeypatch: pytest.MonkeyPatch, host: str) -> None:
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
def test_address_that_is_none(fetch: Fetch, url: str) -> None:
    assert "hidden" not in fetch.refused(Reason.URL_INVALID, url)


def test_redirects_are_followed(site: Site, fetch: Fetch) -> None:
    site.give("/new", Answer(CSV))
    url = site.give("/old", Answer(status=302, headers={"Location": "/new"}))
    assert fetch(url).sha256 == DIGEST


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://host/", "s3://bucket/key", "/loop"])
def test_redirects_that_are_not(site: Site, fetch: Fetch, location: str) -> None:
    assert "redirects" in fetch.refused(
        Reason.URL_INVALID, site.give("/loop", Answer(status=301, headers={"Location": location}))
    )


def test_no_password_from_this_machine(site: Site, fetch: Fetch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "netrc").write_text("default login someone password hidden")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden")
    site.give("/new", Answer(CSV))
    fetch(site.give("/old", Answer(status=302, headers={"Location": f"http://localhost:{site.port}/new"})))
    assert len(site.asked) == 2
    assert all("Authorization" not in headers for _, headers in site.asked)


@pytest.fixture
def asked_of_dns(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the resolver is asked; every name is this machine."""
    names: list[str] = []
    resolve = socket.getaddrinfo

    def local(host: str, *rest: Any, **options: Any) -> Any:
        names.append(host)
        return resolve("127.0.0.1", *rest, **options)

    monkeypatch.setattr(socket, "getaddrinfo", local)
    return names


def test_a_host_that_ends_in_a_dot(site: Site, fetch: Fetch, asked_of_dns: list[str]) -> None:
    """The dot keeps the resolver from trying the pod's search domains first; servers know the name without it."""
    assert fetch(site.give("/wine.csv", Answer(CSV), host="raw.example.org.")).sha256 == DIGEST
    assert asked_of_dns == ["raw.example.org."]
    assert site.asked[0][1]["Host"] == f"raw.example.org:{site.port}"


def test_a_host_that_ends_in_a_dot_with_tls(
    serve: Callable[..., Site], fetch: Fetch, asked_of_dns: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = serve(_server_tls(tmp_path, "raw.example.org"))
    url = site.give("/wine.csv", Answer(CSV), host="raw.example.org.").replace("http:", "https:")
    assert "certificate" in fetch.refused(Reason.DATA_UNREACHABLE, url)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "certificate.pem"))
    assert fetch(url).sha256 == DIGEST
    assert set(asked_of_dns) == {"raw.example.org."}
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

    def test_read(self, site: Site, fetch: Fetch) -> None:
        site.give("/bucket/a%20folder/wine.csv", Answer(CSV))
        assert fetch("s3://bucket/a folder/wine.csv", s3_endpoint_url=f"http://127.0.0.1:{site.port}").sha256 == DIGEST
        authorization = site.asked[0][1]["Authorization"]
        assert authorization.startswith("AWS4-HMAC-SHA256 Credential=access-hidden/")

    def test_its_entity_tag(self, site: Site, fetch: Fetch) -> None:
        site.give("/bucket/wine.csv", Answer(CSV, headers={"ETag": '"9bb5"'}))
        assert fetch("s3://bucket/wine.csv", s3_endpoint_url=f"http://127.0.0.1:{site.port}").etag == '"9bb5"'

    @pytest.mark.parametrize(
        ("key", "asked"), [("a%20b.csv", "a%2520b.csv"), ("100%.csv", "100%25.csv"), ("wine#1.csv", "wine%231.csv")]
    )
    def test_a_key_is_taken_literally(self, site: Site, fetch: Fetch, key: str, asked: str) -> None:
        site.give(f"/bucket/{asked}", Answer(CSV))
        assert fetch(f"s3://bucket/{key}", s3_endpoint_url=f"http://127.0.0.1:{site.port}").sha256 == DIGEST

    def test_a_key_that_was_encoded_is_told_to_be_literal(self, site: Site, fetch: Fetch) -> None:
        endpoint = f"http://127.0.0.1:{site.port}"
        assert "taken literally" in fetch.refused(Reason.DATA_NOT_FOUND, "s3://bucket/a%20b.csv", s3_endpoint_url=endpoint)

    def test_a_version_is_asked_for_and_kept(self, site: Site, fetch: Fetch) -> None:
        site.give("/bucket/wine.csv", Answer(CSV, headers={"x-amz-version-id": "v.1"}))
        found = fetch("S3://bucket/wine.csv?versionId=v.1", s3_endpoint_url=f"http://127.0.0.1:{site.port}")
        assert (found.sha256, found.version_id) == (DIGEST, "v.1")
        assert site.asked[0][0] == "/bucket/wine.csv?versionId=v.1"

    @pytest.mark.parametrize("headers", [{}, {"x-amz-version-id": "v.2"}], ids=["none", "another"])
    def test_a_store_that_answers_with_another_version_is_not_believed(
        self, site: Site, fetch: Fetch, headers: dict[str, str]
    ) -> None:
        site.give("/bucket/wine.csv", Answer(CSV, headers=headers))
        endpoint = f"http://127.0.0.1:{site.port}"
        message = fetch.refused(Reason.DATA_NOT_FOUND, "s3://bucket/wine.csv?versionId=v.1", s3_endpoint_url=endpoint)
        assert "s3://bucket/wine.csv?versionId=v.1: the object store answered with" in message

    @pytest.mark.parametrize(("status", "code"), [(404, "NoSuchKey"), (404, "NoSuchBucket"), (403, "AccessDenied")])
    def test_not_found(self, site: Site, fetch: Fetch, status: int, code: str) -> None:
        site.give("/bucket/wine.csv", Answer(f"<Error><Code>{code}</Code></Error>".encode(), status))
        reason = Reason.DATA_ACCESS_DENIED if status == 403 else Reason.DATA_NOT_FOUND
        message = fetch.refused(reason, "s3://bucket/wine.csv", s3_endpoint_url=f"http://127.0.0.1:{site.port}")
        assert f"s3://bucket/wine.csv: the object store answered {code}" in message

    @pytest.mark.parametrize("answer", [Answer(status=503), Answer(CSV, length=len(CSV) + 1)], ids=["503", "broken off"])
    def test_in_trouble(self, site: Site, fetch: Fetch, answer: Answer) -> None:
        site.give("/bucket/wine.csv", answer)
        fetch.refused(Reason.STORE_UNAVAILABLE, "s3://bucket/wine.csv", s3_endpoint_url=f"http://127.0.0.1:{site.port}")
        assert len(site.asked) == ATTEMPTS

    def test_too_large(self, site: Site, fetch: Fetch) -> None:
        site.give("/bucket/wine.csv", Answer(CSV))
        endpoint = f"http://127.0.0.1:{site.port}"
        fetch.refused(Reason.DATA_TOO_LARGE, "s3://bucket/wine.csv", s3_endpoint_url=endpoint, max_bytes=9)

    def test_without_credentials(self, site: Site, fetch: Fetch, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
        monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
        message = fetch.refused(Reason.DATA_UNREACHABLE, "s3://bucket/wine.csv", s3_endpoint_url=f"http://127.0.0.1:{site.port}")
        assert "no AWS credentials" in message
