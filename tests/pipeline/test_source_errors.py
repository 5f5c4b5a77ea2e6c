"""Why an address cannot be read: one message for each cause, tested on real sockets if possible."""

import datetime
import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from support.website import Answer, Site

from winecontract.reasons import Reason
from winesteps.download import download
from winesteps.failures import StepFailure
from winesteps.sourceerrors import store_cause

CSV = b"a;quality\n" + b"1;5\n" * 30
DAY = datetime.timedelta(days=1)


@pytest.fixture
def refused(tmp_path: Path) -> Callable[..., tuple[Reason, str]]:
    def refused(url: str, **options: str) -> tuple[Reason, str]:
        with pytest.raises(StepFailure) as caught:
            download(url, tmp_path / "data", wait=lambda _: None, **options)  # type: ignore[arg-type]
        assert "hidden" not in caught.value.message
        return caught.value.reason, caught.value.message

    return refused


def tls(
    folder: Path, *, host: str = "127.0.0.1", begins: datetime.timedelta = -DAY, ends: datetime.timedelta = DAY
) -> ssl.SSLContext:
    """A server's context, with a self-signed certificate in certificate.pem."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a server")])
    name: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(host)) if host[0].isdigit() else x509.DNSName(host)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now + begins)
        .not_valid_after(now + ends)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([name]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "certificate.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "key.pem").write_bytes(private)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "certificate.pem", folder / "key.pem")
    return context


@pytest.fixture
def trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "certificate.pem"))


def https(site: Site) -> str:
    return site.give("/wine.csv", Answer(CSV)).replace("http:", "https:") + "?signature=hidden"


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"begins": -2 * DAY, "ends": -DAY}, "has a TLS certificate that has expired"),
        ({"begins": DAY, "ends": 2 * DAY}, "has a TLS certificate that is not valid yet"),
        ({"host": "another.example.org"}, "does not list this IP address"),
    ],
)
def test_a_certificate_that_is_trusted_and_no_good(
    serve: Callable[..., Site],
    refused: Callable[..., tuple[Reason, str]],
    tmp_path: Path,
    change: dict[str, object],
    expected: str,
) -> None:
    reason, message = refused(https(serve(tls(tmp_path, **change))))  # type: ignore[arg-type]
    assert reason is Reason.DATA_UNREACHABLE
    assert expected in message


def test_a_certificate_of_an_unknown_authority(
    serve: Callable[..., Site], refused: Callable[..., tuple[Reason, str]], tmp_path: Path
) -> None:
    assert "is self-signed, and its authority is not known here" in refused(https(serve(tls(tmp_path))))[1]


@pytest.mark.usefixtures("trusted")
def test_an_old_version_of_tls(
    serve: Callable[..., Site], refused: Callable[..., tuple[Reason, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = tls(tmp_path)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    assert "speaks only versions of TLS that are no longer accepted" in refused(https(serve(context)))[1]


@pytest.mark.usefixtures("trusted")
def test_a_server_that_wants_a_client_certificate(
    serve: Callable[..., Site], refused: Callable[..., tuple[Reason, str]], tmp_path: Path
) -> None:
    context = tls(tmp_path)
    context.verify_mode = ssl.CERT_REQUIRED
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # in 1.3 the client learns it later, with the first answer
    message = refused(https(serve(context)))[1]
    assert "requires a client certificate" in message or "no cipher of TLS in common" in message


def test_https_to_a_port_that_speaks_http(site: Site, refused: Callable[..., tuple[Reason, str]], tmp_path: Path) -> None:
    """minio/minio#10989"""
    reason, message = refused(https(site))
    assert reason is Reason.DATA_UNREACHABLE
    assert "does not speak TLS at this port: use http://" in message
    assert "certificate" not in message


def test_http_to_a_port_that_speaks_tls(
    serve: Callable[..., Site], refused: Callable[..., tuple[Reason, str]], tmp_path: Path
) -> None:
    site = serve(tls(tmp_path))
    message = refused(site.give("/wine.csv", Answer(CSV)))[1]
    assert "speaks TLS at this port: use https://" in message or "closed the connection before it answered" in message


def test_a_web_server_that_says_it_speaks_tls(site: Site, refused: Callable[..., tuple[Reason, str]]) -> None:
    body = b"<html><title>400 The plain HTTP request was sent to HTTPS port</title>"
    assert "use https://" in refused(site.give("/wine.csv", Answer(body, status=400)))[1]


@pytest.fixture
def closing() -> Iterator[int]:
    """The port of a server that closes every connection at once."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()

        def close() -> None:
            while True:
                try:
                    server.accept()[0].close()
                except OSError:
                    return

        threading.Thread(target=close, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


def test_connections_that_are_closed(closing: int, refused: Callable[..., tuple[Reason, str]]) -> None:
    assert "closed the connection" in refused(f"http://127.0.0.1:{closing}/wine.csv")[1]
    message = refused(f"https://127.0.0.1:{closing}/wine.csv")[1]
    assert "closed the connection" in message
    assert "certificate" not in message


def test_a_connection_that_is_refused(refused: Callable[..., tuple[Reason, str]]) -> None:
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        message = refused(f"https://127.0.0.1:{unheard.getsockname()[1]}/wine.csv")[1]
    assert "refused the connection: nothing listens at this port" in message


@pytest.mark.parametrize(
    ("status", "reason", "expected"),
    [
        (401, Reason.DATA_ACCESS_DENIED, "it requires credentials (Basic), and none or wrong ones were sent"),
        (403, Reason.DATA_ACCESS_DENIED, "access is refused: the file is not public"),
        (404, Reason.DATA_NOT_FOUND, "there is no file at this address"),
        (410, Reason.DATA_NOT_FOUND, "removed for good"),
        (204, Reason.DATA_NOT_FOUND, "there is no content"),
        (407, Reason.DATA_NOT_FOUND, "the proxy requires credentials"),
        (429, Reason.DATA_UNREACHABLE, "limits the rate of requests"),
        (503, Reason.DATA_UNREACHABLE, "not available at present"),
    ],
)
def test_each_status_has_its_cause(
    site: Site, refused: Callable[..., tuple[Reason, str]], status: int, reason: Reason, expected: str
) -> None:
    headers = {"WWW-Authenticate": 'Basic realm="hidden"'}
    found, message = refused(site.give("/wine.csv", Answer(status=status, headers=headers)))
    assert found is reason
    assert expected in message


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (
            "X-Amz-Date=20240102T030405Z&X-Amz-Expires=60&X-Amz-Signature=hidden",
            "the signature in the address expired at 2024-01-02 03:05 UTC",
        ),
        ("X-Goog-Date=20240102T030405Z&X-Goog-Expires=60&X-Goog-Signature=hidden", "expired at 2024-01-02 03:05 UTC"),
        ("AWSAccessKeyId=a&Expires=1700000000&Signature=hidden", "expired at 2023-11-14 22:13 UTC"),
        ("sv=2022&se=2024-01-02T03%3A04%3A05Z&sig=hidden", "expired at 2024-01-02 03:04 UTC"),
        ("X-Amz-Date=29990102T030405Z&X-Amz-Expires=60&X-Amz-Signature=hidden", "the signature in the address is not accepted"),
        ("sig=hidden&se=nonsense", "the signature in the address is not accepted"),
        ("token=hidden", "the file is not public"),
    ],
)
def test_expired_signature_differs_from_a_wrong_one(
    site: Site, refused: Callable[..., tuple[Reason, str]], query: str, expected: str
) -> None:
    reason, message = refused(site.give("/wine.csv", Answer(status=403)) + f"?{query}")
    assert reason is Reason.DATA_ACCESS_DENIED
    assert expected in message


def test_an_expired_signature_that_only_the_answer_tells(site: Site, refused: Callable[..., tuple[Reason, str]]) -> None:
    body = b"<Error><Code>ExpiredToken</Code><Message>hidden</Message></Error>"
    message = refused(site.give("/wine.csv", Answer(body, status=400)) + "?X-Amz-Signature=hidden")[1]
    assert "the signature in the address expired. Make a new one" in message


def test_body_must_match_its_content_encoding(site: Site, refused: Callable[..., tuple[Reason, str]]) -> None:
    url = site.give("/wine.csv", Answer(CSV, headers={"Content-Encoding": "gzip"}))
    assert "does not match its Content-Encoding" in refused(url)[1]


@pytest.mark.parametrize(
    ("status", "code", "reason", "expected"),
    [
        (404, "NoSuchKey", Reason.DATA_NOT_FOUND, "there is no such object"),
        (404, "NoSuchBucket", Reason.DATA_NOT_FOUND, "there is no such bucket"),
        (404, "NoSuchVersion", Reason.DATA_NOT_FOUND, "no such version"),
        (404, "", Reason.DATA_NOT_FOUND, "no such object or bucket"),
        (403, "AccessDenied", Reason.DATA_ACCESS_DENIED, "may not read it"),
        (403, "403", Reason.DATA_ACCESS_DENIED, "may not read it"),
        (403, "InvalidAccessKeyId", Reason.DATA_ACCESS_DENIED, "does not know the keys"),
        (403, "SignatureDoesNotMatch", Reason.DATA_ACCESS_DENIED, "the secret key is wrong"),
        (400, "ExpiredToken", Reason.DATA_ACCESS_DENIED, "have expired"),
        (403, "RequestTimeTooSkewed", Reason.DATA_ACCESS_DENIED, "clocks"),
        (301, "PermanentRedirect", Reason.DATA_NOT_FOUND, "another region"),
        (400, "AuthorizationHeaderMalformed", Reason.DATA_NOT_FOUND, "another region"),
        (418, "Teapot", Reason.DATA_NOT_FOUND, "correct the address"),
    ],
)
def test_each_error_of_a_store_has_its_cause(status: int, code: str, reason: Reason, expected: str) -> None:
    found, cause = store_cause(status, code)
    assert found is reason
    assert expected in cause


def test_error_of_a_store_is_reported(
    site: Site, refused: Callable[..., tuple[Reason, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "access-hidden")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-hidden")
    site.give("/bucket/wine.csv", Answer(b"<Error><Code>AccessDenied</Code></Error>", 403))
    reason, message = refused("s3://bucket/wine.csv", s3_endpoint_url=f"http://127.0.0.1:{site.port}")
    assert reason is Reason.DATA_ACCESS_DENIED
    assert "s3://bucket/wine.csv: the object store answered AccessDenied: the keys in this namespace's Secret" in message
