"""TLS servers on the addresses of Services."""

from __future__ import annotations

import ssl
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from aiohttp import web

from testbed.simulator.certs import KeyPair


@dataclass(frozen=True, slots=True)
class Address:
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Wanted:
    make: Callable[[], web.Application]
    pair: KeyPair


@dataclass(frozen=True, slots=True)
class _Open:
    wanted: Wanted
    runner: web.AppRunner


class Listeners:
    """Opens and closes servers until they are those that are wanted."""

    def __init__(self) -> None:
        self._open: dict[Address, _Open] = {}

    async def become(self, wanted: Mapping[Address, Wanted]) -> list[tuple[Address, str]]:
        """Returns what could not be opened, and why."""
        for address in [one for one, server in self._open.items() if wanted.get(one) != server.wanted]:
            await self._open.pop(address).runner.cleanup()
        failed = []
        for address, server in wanted.items():
            if address not in self._open:
                try:
                    self._open[address] = await _serve(address, server)
                except OSError as error:
                    failed.append((address, str(error)))
        return failed

    async def close(self) -> None:
        await self.become({})


async def _serve(address: Address, wanted: Wanted) -> _Open:
    runner = web.AppRunner(wanted.make(), access_log=None, shutdown_timeout=0.2)
    await runner.setup()
    try:
        site = web.TCPSite(runner, address.host, address.port, ssl_context=_context(wanted.pair), reuse_address=True)
        await site.start()
    except OSError:
        await runner.cleanup()
        raise
    return _Open(wanted, runner)


def _context(pair: KeyPair) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile() as file:  # the ssl module loads certificates from files only
        file.write(pair.certificate + b"\n" + pair.key)
        file.flush()
        context.load_cert_chain(file.name)
    return context
