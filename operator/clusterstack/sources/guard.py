"""Where a fetch may connect to: no URL out of a repository may reach the node's own services.

Link-local, cloud metadata, multicast and unspecified addresses are refused always. Loopback and private addresses are
refused in the PUBLIC reach unless the URL as written names them literally; in the PRIVATE reach (a URL that the spec or
a mirror names) a DNS name may also lead to them. A redirect to another host never gets more than the PUBLIC reach.
"""

from __future__ import annotations

import enum
import ipaddress
import socket
from typing import Any
from urllib.parse import urlsplit

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

from clusterstack.errors import SourceError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# Clouds serve instance credentials at these besides 169.254.0.0/16; to the address registry some are ordinary.
_METADATA = frozenset(map(ipaddress.ip_address, ("100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254")))


class Reach(enum.Enum):
    """Which addresses a DNS name may lead to."""

    PUBLIC = "public"
    PRIVATE = "private"


class GuardedResolver(AbstractResolver):
    """Resolves a name once and hands on only addresses within reach; what it returns is what is connected to."""

    def __init__(self, reach: Reach) -> None:
        self._reach = reach
        self._inner = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await self._inner.resolve(host, port, family)
        private = self._reach is Reach.PRIVATE or is_local_name(host)
        allowed = [one for one in found if not _refused(_address(one["host"]), private=private)]
        if found and not allowed:
            raise refusal(host, str(found[0]["host"]))
        return allowed

    async def close(self) -> None:
        await self._inner.close()


def check_url(url: str, *, redirected: bool = False, private: bool = False) -> None:
    """Refuse a URL whose host is, literally, an address that may not be reached. Raises SourceError (FetchRefused)."""
    host = urlsplit(url).hostname or ""
    literal = literal_address(host)
    if literal is not None and _refused(literal, private=private or not redirected):
        raise refusal(host, str(literal))
    if redirected and not private and is_local_name(host):
        raise refusal(host, "loopback")


def literal_address(host: str) -> Address | None:
    """The address that a host is when it is no name, in any spelling a resolver takes (`0x7f.1`, `2130706433`)."""
    try:
        return ipaddress.ip_address(host.strip("[]").split("%", 1)[0])
    except ValueError:
        pass
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host)) if host[:1].isdigit() else None
    except OSError:
        return None


def is_local_name(host: str) -> bool:
    """Whether a name says literally that it is this machine."""
    name = host.rstrip(".").lower()
    return name == "localhost" or name.endswith(".localhost")


def is_loopback(host: str) -> bool:
    """Whether a host is, literally, this machine."""
    literal = literal_address(host)
    return is_local_name(host) if literal is None else _unmapped(literal).is_loopback


def refusal(host: str, address: str) -> SourceError:
    return SourceError(
        f"{host} is at {address}, which may not be fetched from",
        reason="FetchRefused",
        hint="if this is meant, name the address in the URL or in spec.mirrors; link-local ones are never fetched from",
        retryable=False,
    )


def _address(text: Any) -> Address:
    return ipaddress.ip_address(str(text).split("%", 1)[0])


def _refused(address: Address, *, private: bool) -> bool:
    address = _unmapped(address)
    if address.is_link_local or address.is_multicast or address.is_unspecified or address in _METADATA:
        return True
    return not private and (address.is_private or address.is_loopback or not address.is_global)


def _unmapped(address: Address) -> Address:
    """The IPv4 address that an IPv6 one stands for (::ffff:0:0/96, 6to4 and NAT64), or itself."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped or address.sixtofour:
            return address.ipv4_mapped or address.sixtofour or address
        if address in ipaddress.ip_network("64:ff9b::/96"):
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address
