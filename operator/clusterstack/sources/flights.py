"""One fetch for everyone who asks for the same thing at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(slots=True)
class _Flight:
    task: asyncio.Task[Any]
    passengers: int = 0


class Flights:
    """Calls in flight by key. A call ends early only when the last one who waits for it has gone."""

    def __init__(self) -> None:
        self._flights: dict[Hashable, _Flight] = {}

    async def join(self, key: Hashable, call: Callable[[], Awaitable[T]]) -> T:
        """The result of `call()`, or of the call under the same key that is already under way."""
        flight = self._flights.get(key)
        if flight is None:
            flight = _Flight(asyncio.ensure_future(_run(call)))
            self._flights[key] = flight
            flight.task.add_done_callback(lambda task: self._landed(key, task))
        flight.passengers += 1
        try:
            result: T = await asyncio.shield(flight.task)
        finally:
            flight.passengers -= 1
            if not flight.passengers and not flight.task.done():
                self._flights.pop(key, None)  # whoever asks now starts afresh instead of joining a cancelled call
                flight.task.cancel()
                await asyncio.wait([flight.task])
        return result

    def _landed(self, key: Hashable, task: asyncio.Task[Any]) -> None:
        flight = self._flights.get(key)
        if flight is not None and flight.task is task:
            del self._flights[key]
        if not task.cancelled():
            task.exception()  # retrieved: everyone who waited may have been cancelled


async def _run(call: Callable[[], Awaitable[T]]) -> T:
    return await call()
