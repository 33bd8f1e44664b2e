"""Waiting: on gates, on what must not be cancelled, on the clock. Nothing else in the engine sleeps."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine, Hashable
from typing import Any, TypeVar

from clusterstack.core.gates import Answer, Closed, Open, Unsynced
from clusterstack.engine.world import Clock
from clusterstack.kube.facts import Bus

T = TypeVar("T")


async def opened(facts: Bus, evaluate: Callable[[], Answer], closed: Callable[[Closed | Unsynced], None]) -> None:
    """Return when the gate is open; `closed` hears every answer that is not.

    The bus is read before the gate is evaluated, so that a change in between is not lost.
    """
    while True:
        since = facts.now
        answer = evaluate()
        match answer:
            case Open():
                return
            case Closed() | Unsynced():
                closed(answer)
                await facts.wait(answer.keys, since)


async def sleep(clock: Clock, delay: float) -> None:
    """Let `delay` seconds of the engine's clock pass."""
    done = asyncio.Event()
    timer = clock.later(delay, done.set)
    try:
        await done.wait()
    finally:
        timer.cancel()


async def first_of(*works: Coroutine[Any, Any, Any]) -> None:
    """Return when one of them is done; the others are cancelled."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def changed_or_later(facts: Bus, keys: Collection[Hashable], since: int, clock: Clock, delay: float) -> None:
    """Return on the next change of a key after `since`, or when `delay` seconds have passed."""
    late = asyncio.Event()
    timer = clock.later(delay, late.set)
    try:
        await first_of(facts.wait(keys, since), late.wait())
    finally:
        timer.cancel()


async def unless_changed(facts: Bus, keys: Collection[Hashable], since: int, work: Coroutine[Any, Any, None]) -> bool:
    """Do `work` to its end (True), or give it up because one of the keys changed (False). What it raises is raised."""
    task = asyncio.ensure_future(work)
    change = asyncio.ensure_future(facts.wait(keys, since)) if keys else None
    try:
        await asyncio.wait([task, *([change] if change else [])], return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
            return True
        return False
    finally:
        for one in (task, change):
            if one is not None:
                one.cancel()
        await asyncio.gather(*(one for one in (task, change) if one is not None), return_exceptions=True)


async def uncancelled(work: Coroutine[Any, Any, T], stop: asyncio.Event) -> T:
    """Finish `work` even when cancelled meanwhile, and only then let the cancellation through; once `stop` is set, the
    whole process is about to end, and there is no time for that."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        try:
            if not task.done():
                await first_of(_done(task), stop.wait())
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        raise


async def _done(task: asyncio.Task[Any]) -> None:
    await asyncio.wait([task])
