"""The HTTP server: /metrics, /healthz and /readyz on one port."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Self

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

Check = Callable[[], str]
"""Answers "" when all is well, else what is wrong, in a few words."""


class Health:
    """Whether the process lives (else it should be restarted) and whether it is at work (else another one is)."""

    def __init__(self) -> None:
        self._live: dict[str, Check] = {}
        self._ready: dict[str, Check] = {}

    def live(self, name: str, check: Check) -> None:
        """The process must be restarted when this check has something to say."""
        self._live[name] = check

    def ready(self, name: str, check: Check) -> None:
        """The process does not do its work, for now, when this check has something to say."""
        self._ready[name] = check

    def liveness(self) -> dict[str, str]:
        """Name of each check to what it says."""
        return _answers(self._live)

    def readiness(self) -> dict[str, str]:
        """Name of each check to what it says; what is not alive is not ready."""
        return _answers({**self._live, **self._ready})


class HttpServer:
    """Serves while it is entered. A stuck event loop answers nothing at all, which a probe takes for a failure too.

    `bind` "" means every interface; `port` 0 any free one, which `port` then tells. Raises OSError when the port is
    taken.
    """

    def __init__(self, *, registry: CollectorRegistry, health: Health, bind: str = "", port: int = 8080) -> None:
        self.port = port
        self._bind = bind
        self._registry = registry
        application = web.Application()
        application.router.add_get("/metrics", self._metrics)
        application.router.add_get("/healthz", _probe(health.liveness))
        application.router.add_get("/readyz", _probe(health.readiness))
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._bind or None, self.port).start()
        except BaseException:
            await self._runner.cleanup()
            raise
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    async def _metrics(self, request: web.Request) -> web.Response:
        """With 1,000 layers a scrape writes 20,000 lines: in a thread, so that the event loop goes on."""
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        body = await asyncio.to_thread(encode, self._registry)
        return web.Response(body=body, headers={"Content-Type": content_type})


def _probe(answers: Callable[[], Mapping[str, str]]) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(_: web.Request) -> web.Response:
        found = answers()
        failed = any(found.values())
        lines = [f"[-] {name}: {text}" if text else f"[+] {name}" for name, text in found.items()]
        text = "\n".join([*lines, "failed" if failed else "ok", ""])
        return web.Response(text=text, status=503 if failed else 200)

    return handle


def _answers(checks: Mapping[str, Check]) -> dict[str, str]:
    answers: dict[str, str] = {}
    for name, check in checks.items():
        try:
            answers[name] = check()
        except Exception as error:
            answers[name] = f"the check itself failed: {error}"
    return answers
