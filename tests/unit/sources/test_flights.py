from __future__ import annotations

import asyncio

import pytest

from clusterstack.sources.flights import Flights


async def test_the_same_call_at_the_same_time_is_made_once() -> None:
    flights, calls, go = Flights(), 0, asyncio.Event()

    async def call() -> int:
        nonlocal calls
        calls += 1
        await go.wait()
        return calls

    waiting = [asyncio.create_task(flights.join("key", call)) for _ in range(5)]
    await asyncio.sleep(0)
    go.set()
    assert await asyncio.gather(*waiting) == [1] * 5
    assert await flights.join("key", call) == 2


async def test_one_caller_leaving_does_not_disturb_the_others() -> None:
    flights, go = Flights(), asyncio.Event()

    async def call() -> str:
        await go.wait()
        return "done"

    leaver, stayer = (asyncio.create_task(flights.join("key", call)) for _ in range(2))
    await asyncio.sleep(0)
    leaver.cancel()
    await asyncio.wait([leaver])
    go.set()
    assert leaver.cancelled()
    assert await stayer == "done"


async def test_the_last_caller_leaving_ends_the_call_and_the_next_starts_afresh() -> None:
    flights, ended = Flights(), asyncio.Event()

    async def call() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def quick() -> str:
        return "fresh"

    only = asyncio.create_task(flights.join("key", call))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    only.cancel()
    await asyncio.wait([only])
    assert ended.is_set()
    assert await flights.join("key", quick) == "fresh"


async def test_a_failure_reaches_everyone_who_waits() -> None:
    async def call() -> None:
        await asyncio.sleep(0)
        raise ValueError("no")

    flights = Flights()
    results = await asyncio.gather(*(flights.join("key", call) for _ in range(3)), return_exceptions=True)
    assert [str(result) for result in results] == ["no"] * 3
    with pytest.raises(ValueError, match="no"):
        await flights.join("key", call)
