"""/metrics, /healthz and /readyz."""

from __future__ import annotations

import aiohttp
import pytest

from clusterstack.telemetry.http import Health, HttpServer
from clusterstack.telemetry.metrics import Metrics


async def get(server: HttpServer, path: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{server.port}{path}") as response:
        return response.status, await response.text()


def serving(health: Health) -> HttpServer:
    return HttpServer(registry=Metrics("1.2.3").registry, health=health, bind="127.0.0.1", port=0)


async def test_metrics_are_served() -> None:
    async with serving(Health()) as server:
        status, text = await get(server, "/metrics")
    assert status == 200
    assert 'clusterstack_info{version="1.2.3"} 1.0' in text


async def test_a_process_without_complaints_is_live_and_ready() -> None:
    health = Health()
    health.live("watcher", lambda: "")
    async with serving(health) as server:
        assert await get(server, "/healthz") == (200, "[+] watcher\nok\n")
        assert await get(server, "/readyz") == (200, "[+] watcher\nok\n")


async def test_what_is_wrong_is_named() -> None:
    health = Health()
    health.live("watcher", lambda: "")
    health.ready("stacks", lambda: "not listed yet")
    async with serving(health) as server:
        assert (await get(server, "/healthz"))[0] == 200
        assert await get(server, "/readyz") == (503, "[+] watcher\n[-] stacks: not listed yet\nfailed\n")


async def test_what_is_dead_is_not_ready_either() -> None:
    health = Health()
    health.live("watcher", lambda: "the thread has ended")
    async with serving(health) as server:
        assert (await get(server, "/healthz"))[0] == 503
        assert (await get(server, "/readyz"))[0] == 503


async def test_a_check_that_breaks_has_failed() -> None:
    health = Health()
    health.live("odd", lambda: str(1 // 0))
    async with serving(health) as server:
        status, text = await get(server, "/healthz")
    assert status == 503
    assert "division" in text


async def test_a_port_in_use_is_an_error() -> None:
    async with serving(Health()) as server:
        with pytest.raises(OSError, match="address already in use"):
            async with HttpServer(registry=Metrics("1").registry, health=Health(), bind="127.0.0.1", port=server.port):
                pass
