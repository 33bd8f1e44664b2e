"""kopf's way to the API server: our own authentication under an aiohttp session."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from weakref import WeakSet

import aiohttp
from aiohttp import ClientHandlerType, ClientRequest, ClientResponse

from clusterstack import __version__
from clusterstack.kube.auth import Connection, connect

Answered = Callable[[str, int, bool], None]
"""Hears of every answer: path, status, and whether it opens a watch."""


class Session:
    """A client session that authenticates each request by itself. `opened` is a time of the monotonic clock."""

    def __init__(self, connection: Connection, answered: Answered) -> None:
        self.opened = time.monotonic()
        self.server = connection.server
        self._connection = connection
        self._answered = answered
        self._transports: WeakSet[asyncio.Transport] = WeakSet()
        self.client = aiohttp.ClientSession(
            connector=connection.session.connector,
            connector_owner=False,
            headers={"User-Agent": f"clusterstack/{__version__} (watcher)"},
            proxy=connection.options.get("proxy"),
            middlewares=(self._authenticate,),
        )

    async def serves(self, group: str, version: str, plural: str) -> bool:
        """Whether discovery lists this resource. Raises aiohttp's errors when the API server does not say."""
        timeout = aiohttp.ClientTimeout(total=10)
        async with self.client.get(f"{self.server}/apis/{group}/{version}", timeout=timeout) as response:
            if response.status == 404:
                return False
            response.raise_for_status()
            return any(found["name"] == plural for found in (await response.json())["resources"])

    async def close(self) -> None:
        """Returns when every socket is closed: a loop that ends right then leaves none behind."""
        for transport in list(self._transports):
            transport.abort()  # a watch that kopf closed is still saying goodbye in TLS
        await self.client.close()
        await self._connection.close()
        await asyncio.sleep(0)

    async def _authenticate(self, request: ClientRequest, send: ClientHandlerType) -> ClientResponse:
        """Tokens of Pods and exec plugins change while a session lives: each request asks for the newest."""
        request.headers.update(await self._connection.headers())
        name = self._connection.options.get("server_hostname")
        if name:
            request.server_hostname = name
        response = await send(request)
        if response.status == 401:
            response.release()
            request.headers.update(await self._connection.headers(renew=True))
            response = await send(request)
        if response.connection is not None and response.connection.transport is not None:
            self._transports.add(response.connection.transport)
        self._answered(request.url.path, response.status, "watch" in request.url.query)
        return response


async def open_session(*, kubeconfig: str | None, context: str | None, answered: Answered) -> Session:
    """Raises TransportError `NoCluster` when nothing says where the API server is. No request is sent yet."""
    return Session(await connect(kubeconfig=kubeconfig, context=context), answered)
