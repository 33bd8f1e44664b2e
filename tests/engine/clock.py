"""Time by hand: nothing passes until a test says so."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

START = datetime(2026, 1, 1, tzinfo=UTC)
MOST_STEPS = 20_000


async def settle() -> None:
    """Let everything run that can run now. Work that never pauses is a busy loop, and fails the test."""
    ready = getattr(asyncio.get_running_loop(), "_ready")  # noqa: B009 - asyncio has no public way to ask
    for _ in range(MOST_STEPS):
        await asyncio.sleep(0)
        if not ready:
            return
    raise AssertionError(f"still busy after {MOST_STEPS} rounds of the event loop: something spins")


class _Timer:
    """A call that is yet to come."""

    __slots__ = ("at", "call", "number")

    def __init__(self, at: float, number: int, call: Callable[[], None]) -> None:
        self.at, self.number = at, number
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        self.call = None

    def __lt__(self, other: _Timer) -> bool:
        return (self.at, self.number) < (other.at, other.number)


class FakeClock:
    """`engine.world.Clock`, moved by `advance` and `until` only. It starts at 2026-01-01T00:00:00Z."""

    def __init__(self) -> None:
        self.elapsed = 0.0
        self._timers: list[_Timer] = []
        self._number = 0

    def now(self) -> float:
        return self.elapsed

    def wall(self) -> datetime:
        return START + timedelta(seconds=self.elapsed)

    def text(self) -> str:
        """The time of day as Kubernetes writes it."""
        return self.wall().strftime("%Y-%m-%dT%H:%M:%SZ")

    def later(self, delay: float, call: Callable[[], None]) -> _Timer:
        self._number += 1
        timer = _Timer(self.elapsed + max(0.0, delay), self._number, call)
        heapq.heappush(self._timers, timer)
        return timer

    @property
    def pending(self) -> int:
        """Timers that are set."""
        return sum(timer.call is not None for timer in self._timers)

    async def advance(self, seconds: float) -> None:
        """Let so many seconds pass: timers fire in their order, and what they wake runs before the next one."""
        await settle()
        target = self.elapsed + seconds
        while (timer := self._next()) is not None and timer.at <= target:
            await self._fire(timer)
        self.elapsed = target
        await settle()

    async def until(self, condition: Callable[[], bool], *, limit: float = 3600.0) -> float:
        """Let time pass until the condition holds; the seconds that it took."""
        began = self.elapsed
        await settle()
        while not condition():
            timer = self._next()
            if timer is None:
                raise AssertionError("nothing is left to happen, and the condition does not hold")
            if timer.at - began > limit:
                raise AssertionError(f"the condition does not hold after {limit:.0f} s")
            await self._fire(timer)
        return self.elapsed - began

    async def step(self) -> None:
        """Let time pass until the next timer."""
        timer = self._next()
        assert timer is not None, "nothing is left to happen"
        await self._fire(timer)

    def _next(self) -> _Timer | None:
        while self._timers and self._timers[0].call is None:
            heapq.heappop(self._timers)
        return self._timers[0] if self._timers else None

    async def _fire(self, timer: _Timer) -> None:
        heapq.heappop(self._timers)
        self.elapsed = max(self.elapsed, timer.at)
        call, timer.call = timer.call, None
        assert call is not None
        call()
        await settle()
