"""Work that a cancellation must not break off."""

from __future__ import annotations

import asyncio

import pytest

from clusterstack.engine.wait import uncancelled


async def cancelled(task: asyncio.Task[None]) -> None:
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_cancellation_waits_for_work_in_flight() -> None:
    gate, stop, done = asyncio.Event(), asyncio.Event(), []

    async def work() -> None:
        await gate.wait()
        done.append("done")

    task = asyncio.create_task(uncancelled(work(), stop))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    gate.set()
    await cancelled(task)
    assert done == ["done"]


async def test_at_the_end_of_the_process_work_in_flight_is_broken_off() -> None:
    broken, stop = [], asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            broken.append("broken off")
            raise

    task = asyncio.create_task(uncancelled(work(), stop))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    assert broken == []
    stop.set()
    await cancelled(task)
    assert broken == ["broken off"]


async def test_what_the_work_raises_is_raised() -> None:
    async def work() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await uncancelled(work(), asyncio.Event())
