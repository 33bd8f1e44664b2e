"""The real clock: the event loop's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime


class LoopClock:
    """Monotonic time and timers of the running event loop."""

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    def wall(self) -> datetime:
        return datetime.now(UTC)

    def later(self, delay: float, call: Callable[[], None]) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(delay, call)
