"""The pool: limits, deaths, cancellation, and that no caller sees another one's trouble."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from clusterstack.errors import RenderError
from clusterstack.render.pool import RendererPool
from clusterstack.render.protocol import BuildFields, HelmRequest, KustomizeRequest, LookupAnswer


class Paused:
    """A lookup that waits until it is released."""

    def __init__(self) -> None:
        self.started = asyncio.Semaphore(0)
        self.release = asyncio.Event()
        self.waiting = 0

    async def __call__(self, api_version: str, kind: str, namespace: str, name: str) -> LookupAnswer:
        self.waiting += 1
        self.started.release()
        await self.release.wait()
        self.waiting -= 1
        return LookupAnswer()


def chart(path: Path, template: str) -> HelmRequest:
    (path / "templates").mkdir(parents=True, exist_ok=True)
    (path / "Chart.yaml").write_text("apiVersion: v2\nname: c\nversion: 1.0.0\n")
    (path / "templates/t.yaml").write_text(template)
    return HelmRequest(path, "demo", "space")


ENDLESS = "{{ range $i := until 1000000 }}{{ range $j := until 1000000 }}{{ end }}{{ end }}"


async def pid_of(pool: RendererPool, request: HelmRequest) -> int:
    await pool.helm(request, lookup=Paused())
    [process] = pool._idle
    return process.pid


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - a process's end has no event here
            await asyncio.sleep(0.001)


def running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_a_process_serves_many_requests(pool: RendererPool, tmp_path: Path) -> None:
    request = chart(tmp_path, "")
    assert await pid_of(pool, request) == await pid_of(pool, request)


async def test_a_render_past_its_time_is_ended_and_the_next_one_works(renderer: Path, tmp_path: Path) -> None:
    pool = RendererPool(renderer, size=1, timeout=0.3)
    with pytest.raises(RenderError, match=r"took longer than 0\.3 s") as caught:
        await pool.helm(chart(tmp_path / "endless", ENDLESS), lookup=Paused())
    assert (caught.value.reason, caught.value.retryable) == ("RenderTimeout", True)
    assert (await pool.helm(chart(tmp_path / "good", ""), lookup=Paused())).name == "c"
    await pool.close()


async def test_a_render_past_its_memory_is_ended_and_the_next_one_works(renderer: Path, tmp_path: Path) -> None:
    pool = RendererPool(renderer, size=1, memory_mib=128)
    greedy = '{{ $x := repeat 150000000 "x" }}' + ENDLESS
    with pytest.raises(RenderError, match="more than 128 MiB") as caught:
        await pool.helm(chart(tmp_path / "greedy", greedy), lookup=Paused())
    assert caught.value.reason == "RenderMemoryExceeded"
    assert (await pool.helm(chart(tmp_path / "good", ""), lookup=Paused())).name == "c"
    await pool.close()


async def test_endless_recursion_ends_one_render_only(pool: RendererPool, tmp_path: Path) -> None:
    recursive = '{{ define "r" }}{{ include "r" . }}{{ end }}{{ include "r" . }}'
    with pytest.raises(RenderError, match="nested reference"):
        await pool.helm(chart(tmp_path / "recursive", recursive), lookup=Paused())
    assert (await pool.helm(chart(tmp_path / "good", ""), lookup=Paused())).name == "c"


async def test_input_that_overflows_the_stack_is_named_as_such(pool: RendererPool, tmp_path: Path) -> None:
    cyclic = "apiVersion: v1\nkind: X\nmetadata: {name: x}\nspec: &s {self: *s}\n"
    (tmp_path / "x.yaml").write_text(cyclic)
    with pytest.raises(RenderError, match="fatal error: stack overflow") as caught:
        await pool.kustomize(KustomizeRequest(tmp_path, tmp_path, fields=BuildFields()))
    assert caught.value.reason == "RendererDied"


async def test_a_result_past_the_line_limit_is_refused_and_the_next_one_works(
    pool: RendererPool, tmp_path: Path
) -> None:
    large = chart(tmp_path / "large", "")
    (tmp_path / "large/templates/NOTES.txt").write_text('{{ repeat 70000000 "x" }}')
    with pytest.raises(RenderError, match=r"66 MiB; the limit is 64") as caught:
        await pool.helm(large, lookup=Paused())
    assert caught.value.reason == "RenderTooLarge"
    assert (await pool.helm(chart(tmp_path / "good", ""), lookup=Paused())).name == "c"


async def test_a_process_that_dies_in_a_request_fails_that_request_only(pool: RendererPool, tmp_path: Path) -> None:
    pid = await pid_of(pool, chart(tmp_path / "good", ""))
    call = asyncio.create_task(pool.helm(chart(tmp_path / "endless", ENDLESS), lookup=Paused()))
    await until(lambda: not pool._idle)
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(RenderError, match="renderer died") as caught:
        await call
    assert (caught.value.reason, caught.value.retryable) == ("RendererDied", True)
    assert await pid_of(pool, chart(tmp_path / "good", "")) != pid


async def test_a_process_that_died_while_idle_is_replaced(pool: RendererPool, tmp_path: Path) -> None:
    request = chart(tmp_path, "")
    pid = await pid_of(pool, request)
    process = pool._idle[0]
    os.kill(pid, signal.SIGKILL)
    await until(lambda: not process.alive)
    assert await pid_of(pool, request) != pid


async def test_a_cancelled_call_leaves_no_process_and_no_half_conversation(pool: RendererPool, tmp_path: Path) -> None:
    pid = await pid_of(pool, chart(tmp_path / "good", ""))
    paused = Paused()
    asking = chart(tmp_path / "asking", '{{ lookup "v1" "Secret" "" "x" }}')
    call = asyncio.create_task(pool.helm(asking, lookup=paused))
    await paused.started.acquire()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert not running(pid)
    assert (await pool.helm(chart(tmp_path / "good", ""), lookup=paused)).objects == ()


async def test_a_caller_cancelled_in_line_takes_nothing_from_the_pool(pool: RendererPool, tmp_path: Path) -> None:
    paused = Paused()
    asking = chart(tmp_path / "asking", '{{ $x := lookup "v1" "Secret" "" "x" }}')
    first = asyncio.create_task(pool.helm(asking, lookup=paused))
    await paused.started.acquire()
    second = asyncio.create_task(pool.helm(asking, lookup=paused))
    await asyncio.sleep(0)
    second.cancel()
    paused.release.set()
    assert (await first).lookups == (("v1", "Secret", "", "x"),)
    assert (await pool.helm(asking, lookup=paused)).name == "c"


@pytest.mark.parametrize("size", [1, 2])
async def test_at_most_size_requests_run_at_once(renderer: Path, tmp_path: Path, size: int) -> None:
    pool = RendererPool(renderer, size=size)
    paused = Paused()
    asking = chart(tmp_path, '{{ $x := lookup "v1" "Secret" "" "x" }}')
    calls = [asyncio.create_task(pool.helm(asking, lookup=paused)) for _ in range(4)]
    for _ in range(size):
        await paused.started.acquire()
    assert (paused.waiting, pool._slots.locked()) == (size, True)
    paused.release.set()
    assert len(await asyncio.gather(*calls)) == 4
    assert len(pool._idle) == size
    await pool.close()


async def test_waiting_for_a_lookup_does_not_count_as_rendering(renderer: Path, tmp_path: Path) -> None:
    pool = RendererPool(renderer, size=1, timeout=0.5)

    async def slow(*key: str) -> LookupAnswer:
        await asyncio.sleep(0.6)
        return LookupAnswer()

    asking = chart(tmp_path, '{{ $x := lookup "v1" "Secret" "" "x" }}')
    assert (await pool.helm(asking, lookup=slow)).name == "c"
    await pool.close()


async def test_a_lookup_that_raises_reaches_the_caller_and_spares_the_next(pool: RendererPool, tmp_path: Path) -> None:
    async def broken(*key: str) -> LookupAnswer:
        raise TimeoutError("the API server did not answer")

    asking = chart(tmp_path, '{{ $x := lookup "v1" "Secret" "" "x" }}')
    with pytest.raises(TimeoutError, match="API server"):
        await pool.helm(asking, lookup=broken)
    paused = Paused()
    paused.release.set()
    assert (await pool.helm(asking, lookup=paused)).name == "c"


async def test_a_worn_process_is_replaced(renderer: Path, tmp_path: Path) -> None:
    pool = RendererPool(renderer, size=1, max_requests=2)
    request = chart(tmp_path, "")
    first = await pid_of(pool, request)
    await pool.helm(request, lookup=Paused())
    assert not running(first)
    assert await pid_of(pool, request) != first
    await pool.close()


async def test_idle_processes_stop(renderer: Path, tmp_path: Path) -> None:
    pool = RendererPool(renderer, size=1, idle=0.05)
    pid = await pid_of(pool, chart(tmp_path, ""))
    await until(lambda: not running(pid))
    assert pool._idle == []
    await pool.close()


async def test_closing_ends_every_process(renderer: Path, tmp_path: Path) -> None:
    pool = RendererPool(renderer, size=1)
    pid = await pid_of(pool, chart(tmp_path, ""))
    await pool.close()
    assert not running(pid)
    with pytest.raises(RenderError, match="closed"):
        await pool.helm(chart(tmp_path, ""), lookup=Paused())


async def test_a_missing_program_is_named(tmp_path: Path) -> None:
    pool = RendererPool(tmp_path / "absent", size=1)
    with pytest.raises(RenderError, match=r"absent cannot be started") as caught:
        await pool.helm(chart(tmp_path, ""), lookup=Paused())
    assert caught.value.reason == "RendererDied"
    await pool.close()


async def test_a_program_that_is_no_renderer_fails_the_call(tmp_path: Path) -> None:
    fake = tmp_path / "fake"
    for script, message in (
        ("echo oops; cat", "not JSON"),
        ("echo broken pipe >&2; exit 3", r"exit status 3.*: broken"),
    ):
        fake.write_text(f"#!/bin/sh\n{script}\n")
        fake.chmod(0o755)
        pool = RendererPool(fake, size=1)
        with pytest.raises(RenderError, match=message):
            await pool.helm(chart(tmp_path, ""), lookup=Paused())
        await pool.close()


async def test_a_renderer_can_open_no_socket_and_start_no_program(pool: RendererPool, tmp_path: Path) -> None:
    pid = await pid_of(pool, chart(tmp_path, ""))
    process = Path("/proc") / str(pid)
    status = process.joinpath("status").read_text()
    assert re.search(r"^Seccomp:\t2$", status, re.MULTILINE)
    assert re.search(r"^NoNewPrivs:\t1$", status, re.MULTILINE)
    assert b"PATH=" not in process.joinpath("environ").read_bytes()
