"""How many requests may be under way at once, and who is next."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

_Queue = OrderedDict[str, deque["asyncio.Future[None]"]]


class Slots:
    """Request slots, shared out round-robin over lanes: ten thousand objects of one unit do not delay four of another.

    Urgent requests overtake all others. A 429 halves the number of slots, at most once a second; every full round of
    successes gives one back (additive increase, multiplicative decrease).
    """

    def __init__(self, limit: int = 32) -> None:
        self.most = limit
        self.limit = limit
        self.in_use = 0
        self._urgent: _Queue = OrderedDict()
        self._normal: _Queue = OrderedDict()
        self._successes = 0
        self._shrunk = float("-inf")

    @property
    def waiting(self) -> int:
        return sum(len(lane) for queue in (self._urgent, self._normal) for lane in queue.values())

    @asynccontextmanager
    async def hold(self, lane: str = "", *, urgent: bool = False) -> AsyncIterator[None]:
        """Waits for a slot and holds it for the body, which should be one request."""
        await self._take(lane, self._urgent if urgent else self._normal)
        try:
            yield
        finally:
            self.in_use -= 1
            self._hand_out()

    def throttled(self) -> None:
        """The server said 429: use fewer slots."""
        now = asyncio.get_running_loop().time()
        self._successes = 0
        if now - self._shrunk >= 1.0:
            self._shrunk = now
            self.limit = max(1, self.limit // 2)

    def succeeded(self) -> None:
        """The server answered: after a full round of answers, use one slot more."""
        if self.limit >= self.most:
            return
        self._successes += 1
        if self._successes >= self.limit:
            self._successes = 0
            self.limit += 1
            self._hand_out()

    async def _take(self, lane: str, queue: _Queue) -> None:
        if self.in_use < self.limit and not self._urgent and not self._normal:
            self.in_use += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.setdefault(lane, deque()).append(turn)
        self._hand_out()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # the slot came together with the cancellation: pass it on
                self.in_use -= 1
                self._hand_out()
            else:
                self._withdraw(lane, queue, turn)
            raise

    @staticmethod
    def _withdraw(lane: str, queue: _Queue, turn: asyncio.Future[None]) -> None:
        turns = queue.get(lane)
        if turns is not None and turn in turns:
            turns.remove(turn)
            if not turns:
                del queue[lane]

    def _hand_out(self) -> None:
        while self.in_use < self.limit and (turn := self._next()) is not None:
            self.in_use += 1
            turn.set_result(None)

    def _next(self) -> asyncio.Future[None] | None:
        for queue in (self._urgent, self._normal):
            while queue:
                lane, turns = queue.popitem(last=False)
                turn = turns.popleft()
                if turns:
                    queue[lane] = turns
                if not turn.done():
                    return turn
        return None
