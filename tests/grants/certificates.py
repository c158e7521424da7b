"""Certificates made for a test: an authority, this host, and clients."""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

_DAY = datetime.timedelta(days=1)


class Authority:
    """Signs certificates and writes them, with their keys, into a directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._name, self._key = _name("authority"), _new_key()
        made = _certificate(self._name, self._name, self._key, self._key, authority=True)
        self.path = directory / "authority.pem"
        self.path.write_bytes(_pem(made))

    def issue(self, name: str, *, itself: bool = False) -> Path:
        """A file with a certificate for `name` and 127.0.0.1, and its key.

        itself: signed with its own key, by no authority.
        """
        key = _new_key()
        issuer, by = (_name(name), key) if itself else (self._name, self._key)
        made = _certificate(_name(name), issuer, key, by)
        path = self._directory / f"{name}.pem"
        path.write_bytes(_pem(made) + _key_pem(key))
        return path


def split(path: Path) -> tuple[str, str]:
    """The certificate and the key of such a file in files of their own."""
    certificate, mark, key = path.read_text().partition("-----BEGIN PRIVATE KEY-----")
    one, other = path.with_suffix(".crt"), path.with_suffix(".key")
    one.write_text(certificate)
    other.write_text(mark + key)
    return str(one), str(other)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


def _new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _certificate(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    by: ec.EllipticCurvePrivateKey,
    *,
    authority: bool = False,
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.timezone.utc)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _DAY)
        .not_valid_after(now + _DAY)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        # What follows is what Python 3.13 wants of a chain by default.
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(by.public_key()), critical=False
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.KeyUsage(
                digital_signature=True,
                key_cert_sign=authority,
                crl_sign=authority,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
    )
    return builder.sign(by, hashes.SHA256())


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
