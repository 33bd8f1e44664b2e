"""Finding the API server and proving who we are: the only module that imports `kubernetes`.

That package knows kubeconfig files, exec plugins, OIDC and the token of a Pod. Requests do not go through it: its
client costs several times the work of the HTTP session underneath.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
from kubernetes.aio import config as kube_config
from kubernetes.aio.client import ApiClient, Configuration

from clusterstack.errors import TransportError

RENEW_AFTER = 60.0  # seconds; the kubelet replaces a Pod's token file long before the old token ends
READ_BUFFER = 2**20
LOOP_TURNS = 3

Reload = Callable[[Configuration], Awaitable[None]]


class Connection:
    """A session to one API server, and headers that authenticate.

    `options` are the arguments every request needs besides (proxy, TLS server name).
    """

    def __init__(self, configuration: Configuration, reload: Reload) -> None:
        self._configuration = configuration
        self._reload = reload
        self._api = ApiClient(configuration)
        self._loaded = asyncio.get_running_loop().time()
        self._lock = asyncio.Lock()
        self.server: str = configuration.host.rstrip("/")
        self.session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=self._api.rest_client.ssl_context),
            trust_env=False,  # looks for .netrc and proxies on every request: half the throughput
            read_bufsize=READ_BUFFER,
            auto_decompress=True,
        )
        self.options: dict[str, Any] = {}
        if configuration.proxy:
            self.options["proxy"] = configuration.proxy
        if configuration.tls_server_name:
            self.options["server_hostname"] = configuration.tls_server_name

    async def headers(self, *, renew: bool = False) -> dict[str, str]:
        """The authorization headers; read again from their origin once a minute, or now with `renew` (after a 401)."""
        now = asyncio.get_running_loop().time()
        if renew or now - self._loaded > RENEW_AFTER:
            async with self._lock:
                if self._loaded < now:
                    await self._reload(self._configuration)
                    self._loaded = asyncio.get_running_loop().time()
        token = self._configuration.api_key.get("BearerToken", "").strip()
        return {"Authorization": token} if token else {}

    async def close(self) -> None:
        await self.session.close()
        for _ in range(LOOP_TURNS):  # aborted connections tell their transports one turn later
            await asyncio.sleep(0)
        await self._api.close()  # type: ignore[no-untyped-call]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


async def connect(*, kubeconfig: str | None = None, context: str | None = None) -> Connection:
    """Connects by the given kubeconfig, else `$KUBECONFIG`, else the Pod's own account, else `~/.kube/config`.

    No request is sent yet. Raises TransportError `NoCluster` when none of these can be read.
    """
    path = kubeconfig or os.environ.get("KUBECONFIG")
    reload: Reload = _reload_pod
    origin = "the Pod's service account"
    if path or context or not os.environ.get(kube_config.incluster_config.SERVICE_HOST_ENV_NAME):
        path = path or _default_kubeconfig()
        reload, origin = _reloader(path, context), f"kubeconfig {path}"
    configuration = Configuration()
    try:
        await reload(configuration)
        return Connection(configuration, reload)
    except (kube_config.ConfigException, OSError, ValueError, KeyError, TypeError) as error:
        raise TransportError(
            f"no way to the API server: {origin}: {error}",
            reason="NoCluster",
            hint="set KUBECONFIG, pass --kubeconfig, or run in a Pod with a service account token",
        ) from error


def _default_kubeconfig() -> str:
    return str(Path("~/.kube/config").expanduser())


async def _reload_pod(configuration: Configuration) -> None:
    kube_config.load_incluster_config(configuration, try_refresh_token=False)  # type: ignore[no-untyped-call]


def _reloader(path: str, context: str | None) -> Reload:
    async def reload(configuration: Configuration) -> None:
        await kube_config.load_kube_config(  # type: ignore[no-untyped-call]
            path, context=context, client_configuration=configuration, persist_config=False
        )

    return reload
