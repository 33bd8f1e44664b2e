"""Keys and certificates of a control plane, made with the `cryptography` package."""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_LIFETIME = dt.timedelta(days=365)
_BACKDATE = dt.timedelta(hours=1)  # clocks of other machines may lag


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate authority in memory."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)


@dataclass(frozen=True, slots=True)
class Pki:
    """The files that the control plane's programs are given."""

    ca: Path
    ca_key: Path
    server: Path
    server_key: Path
    front_ca: Path
    front: Path
    front_key: Path
    service_account_key: Path


def authority(name: str) -> Authority:
    """A new self-signed certificate authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _name(name)
    usage = _key_usage(sign_certificates=True)
    builder = _builder(subject, subject, key.public_key())
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    builder = builder.add_extension(usage, critical=True)
    return Authority(key, builder.sign(key, hashes.SHA256()))


def issue(ca: Authority, name: str, *, hosts: Sequence[str] = ()) -> tuple[bytes, bytes]:
    """A certificate and its key, both PEM, for a server on `hosts` (names, addresses) and a client called `name`."""
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder(_name(name), ca.certificate.subject, key.public_key())
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_key_usage(sign_certificates=False), critical=True)
    purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
    if hosts:
        builder = builder.add_extension(x509.SubjectAlternativeName([_host(host) for host in hosts]), critical=False)
    return builder.sign(ca.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM), key_pem(key)


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    # SEC 1: out of PKCS 8 the API server would not derive the public half of an EC key.
    form = serialization.PrivateFormat.TraditionalOpenSSL
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


def create(folder: Path, *, hosts: Sequence[str]) -> Pki:
    """Writes everything a control plane needs into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    ca, front_ca = authority("clusterstack-testbed"), authority("clusterstack-testbed-front-proxy")
    server, server_key = issue(ca, "kube-apiserver", hosts=hosts)
    front, front_key = issue(front_ca, "front-proxy-client")
    service_account = key_pem(ec.generate_private_key(ec.SECP256R1()))
    return Pki(
        ca=_write(folder / "ca.crt", ca.pem),
        ca_key=_write(folder / "ca.key", key_pem(ca.key)),
        server=_write(folder / "apiserver.crt", server),
        server_key=_write(folder / "apiserver.key", server_key),
        front_ca=_write(folder / "front-proxy-ca.crt", front_ca.pem),
        front=_write(folder / "front-proxy-client.crt", front),
        front_key=_write(folder / "front-proxy-client.key", front_key),
        service_account_key=_write(folder / "sa.key", service_account),
    )


def _write(path: Path, content: bytes) -> Path:
    path.touch(mode=0o600)
    path.write_bytes(content)
    return path


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder(subject_name=subject, issuer_name=issuer, public_key=key)
    builder = builder.serial_number(x509.random_serial_number())
    return builder.not_valid_before(now - _BACKDATE).not_valid_after(now + _LIFETIME)


def _key_usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_encipherment=not sign_certificates,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        content_commitment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
