"""The control plane's certificates and its service-account key."""

import datetime
import ipaddress
import os
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LIFE = datetime.timedelta(days=3650)
SKEW = datetime.timedelta(hours=1)
NAMES = ("localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc")
ADMINISTRATORS = "system:masters"


def write_secret(path: Path, content: bytes) -> None:
    """Write a file that only its owner may read."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)


def make(folder: Path) -> None:
    """Write ca, apiserver, admin and controller-manager `.crt` and `.key` and `service-accounts.key`, unless they exist."""
    if (folder / "admin.crt").exists():  # the file that is written last
        return
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    authority_key = ec.generate_private_key(ec.SECP256R1())
    authority = _certificate("sandbox-ca", "", authority_key, authority_key, issuer="sandbox-ca")
    _save(folder / "ca", authority_key, authority)
    write_secret(folder / "service-accounts.key", _pem(ec.generate_private_key(ec.SECP256R1())))
    for name, user, group in (
        ("apiserver", "kube-apiserver", ""),
        ("controller-manager", "system:kube-controller-manager", ADMINISTRATORS),
        ("admin", "admin", ADMINISTRATORS),
    ):
        key = ec.generate_private_key(ec.SECP256R1())
        _save(folder / name, key, _certificate(user, group, key, authority_key, issuer="sandbox-ca"))


def for_service(name: str) -> tuple[bytes, bytes, bytes]:
    """Make an authority, and a certificate and its key for a server of this DNS name; return all three as PEM."""
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority = _certificate("sandbox-ca", "", authority_key, authority_key, issuer="sandbox-ca")
    certificate = _certificate(name, "", key, authority_key, issuer="sandbox-ca", names=(name,))
    encoding = serialization.Encoding.PEM
    return authority.public_bytes(encoding), certificate.public_bytes(encoding), _pem(key)


def _certificate(
    user: str,
    group: str,
    key: ec.EllipticCurvePrivateKey,
    signer: ec.EllipticCurvePrivateKey,
    issuer: str,
    names: tuple[str, ...] = NAMES,
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    subject = [x509.NameAttribute(NameOID.COMMON_NAME, user)]
    if group:
        subject.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, group))
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name(subject))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SKEW)
        .not_valid_after(now + LIFE)
        .add_extension(x509.BasicConstraints(ca=user == issuer, path_length=None), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if user != issuer:
        alternatives: list[x509.GeneralName] = [x509.DNSName(name) for name in names]
        alternatives.append(x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    return builder.sign(signer, hashes.SHA256())


def _save(stem: Path, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
    write_secret(stem.with_suffix(".key"), _pem(key))
    stem.with_suffix(".crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
