from __future__ import annotations

import datetime as dt
import ipaddress
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from clusterstack.errors import ChartError
from clusterstack.sources.credentials import Credentials
from clusterstack.sources.fetcher import ChartRef, Fetcher

from .conftest import chart_tgz


def self_signed() -> tuple[str, str]:
    """A certificate for 127.0.0.1 and its key, as PEM texts."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return certificate.public_bytes(pem).decode(), private.decode()


@pytest.fixture
async def secured(tmp_path: Path) -> AsyncIterator[tuple[str, str, str]]:
    """URL, certificate and key of a chart repository that wants a client certificate of its own."""
    certificate, key = self_signed()
    (tmp_path / "crt").write_text(certificate)
    (tmp_path / "key").write_text(key)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cadata=certificate)
    context.load_cert_chain(tmp_path / "crt", tmp_path / "key")
    context.verify_mode = ssl.CERT_OPTIONAL

    async def handle(request: web.Request) -> web.Response:
        assert request.transport is not None
        if not request.transport.get_extra_info("peercert"):
            return web.Response(status=403)
        if request.path == "/index.yaml":
            return web.Response(text="entries:\n  web:\n  - {name: web, version: 1.0.0, urls: [web.tgz]}\n")
        return web.Response(body=chart_tgz("web", "1.0.0"))

    app = web.Application()
    app.router.add_get("/{path:.*}", handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    yield f"https://127.0.0.1:{runner.addresses[0][1]}", certificate, key
    await runner.cleanup()


async def test_an_unknown_authority_is_named_as_the_cause(fetcher: Fetcher, secured: tuple[str, str, str]) -> None:
    with pytest.raises(ChartError, match="certificate is not trusted") as caught:
        await fetcher.resolve_chart(ChartRef(secured[0], "web"))
    assert "ca.crt" in caught.value.hint


async def test_authority_and_client_certificate_of_the_secret_open_it(
    fetcher: Fetcher, secured: tuple[str, str, str]
) -> None:
    url, certificate, key = secured
    with pytest.raises(ChartError, match="answered 403"):
        await fetcher.resolve_chart(ChartRef(url, "web"), Credentials(ca=certificate))
    account = Credentials(ca=certificate, client_cert=certificate, client_key=key)
    assert (await fetcher.resolve_chart(ChartRef(url, "web"), account)).version == "1.0.0"


async def test_a_broken_key_is_said_without_showing_it(fetcher: Fetcher) -> None:
    account = Credentials(client_cert="-----BEGIN nonsense", client_key="s3cr3t")
    with pytest.raises(ChartError, match="certificate or key in the Secret") as caught:
        await fetcher.resolve_chart(ChartRef("https://127.0.0.1:1", "web"), account)
    assert caught.value.reason == "InvalidCertificate"
    assert "s3cr3t" not in str(caught.value)
