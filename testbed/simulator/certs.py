"""Certificates that operators make for themselves and for others."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

from testbed import pki


@dataclass(frozen=True, slots=True)
class KeyPair:
    """PEM: the authority, the certificate it signed, and that one's key."""

    ca: bytes
    certificate: bytes
    key: bytes


def make(name: str, hosts: Sequence[str]) -> KeyPair:
    """A new authority and a server certificate for `hosts`."""
    authority = pki.authority(f"{name}-ca")
    certificate, key = pki.issue(authority, name[:64], hosts=hosts)
    return KeyPair(authority.pem, certificate, key)


def service_hosts(namespace: str, service: str) -> tuple[str, ...]:
    """The names under which the API server and pods call a Service."""
    short = f"{service}.{namespace}"
    return service, short, f"{short}.svc", f"{short}.svc.cluster.local"


def encode(value: bytes | str) -> str:
    """As Secrets carry it."""
    return base64.b64encode(value if isinstance(value, bytes) else value.encode()).decode()


def decode(value: str) -> bytes:
    return base64.b64decode(value)
