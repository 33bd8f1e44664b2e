"""Requests under rules: a slot each, patience at 429, new credentials at 401, reads repeated, writes never torn."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass

from clusterstack.errors import TransportError
from clusterstack.kube.resource import Resource, is_urgent
from clusterstack.kube.slots import Slots
from clusterstack.kube.transport import Answer, Request, Transport, failure, to_its_end

READ_RETRIES = 2
THROTTLE_BUDGET = 30.0  # seconds spent waiting at the server's request before a 429 becomes the caller's
DEFAULT_RETRY_AFTER = 1.0  # seconds, for a 429 that names none

Send = Callable[[Request, bool], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class RequestLog:
    """One exchange, for metrics: `resource` as `deployments.apps`, `status` 0 when none came, `seconds` it took."""

    verb: str
    resource: str
    status: int
    seconds: float


class Exchange:
    """Sends requests through the process's slots.

    `fence` is called right before each write is sent, and may raise to forbid it; `on_request` sees every exchange.
    Raises ApiError for every status from 400 on, TransportError for no answer.
    """

    def __init__(self, transport: Transport, slots: Slots) -> None:
        self._transport = transport
        self._slots = slots
        self.fence: Callable[[], None] | None = None
        self.on_request: Callable[[RequestLog], None] | None = None

    async def read(self, request: Request, resource: Resource | None, lane: str, *, verb: str = "get") -> Answer:
        """Sends a request that changes nothing, up to three times if the connection breaks."""
        for attempt in range(1, READ_RETRIES + 1):
            try:
                return await self._paced(request, resource, lane, verb=verb, send=self._send)
            except TransportError as error:
                if error.reason == "Timeout":
                    raise
                await asyncio.sleep(_jittered(0.1 * attempt))
        return await self._paced(request, resource, lane, verb=verb, send=self._send)

    async def write(
        self, request: Request, resource: Resource, lane: str, *, learn: Callable[[Answer], None] | None = None
    ) -> Answer:
        """Sends a write; once sent, a cancellation waits until it is answered and `learn` has seen the success."""

        async def commit(request: Request, renew: bool) -> Answer:
            answer = await self._send(request, renew)
            if learn is not None and answer.status < 300:
                learn(answer)
            return answer

        def send(request: Request, renew: bool) -> Awaitable[Answer]:
            if self.fence is not None:
                self.fence()
            return to_its_end(commit(request, renew))

        return await self._paced(request, resource, lane, verb=request.method.lower(), send=send)

    def stream(self, request: Request, *, idle: float) -> AsyncGenerator[bytes, None]:
        """The lines of a watch; holds no slot."""
        return self._transport.stream(request, idle=idle)

    async def _send(self, request: Request, renew: bool) -> Answer:
        return await self._transport.send(request, renew=renew)

    async def _paced(self, request: Request, resource: Resource | None, lane: str, *, verb: str, send: Send) -> Answer:
        urgent = resource is not None and is_urgent(resource.group_kind)
        budget, renew = THROTTLE_BUDGET, False
        while True:
            async with self._slots.hold(lane, urgent=urgent):
                answer = await self._timed(request, renew, verb=verb, resource=resource, send=send)
            if answer.status < 400:
                self._slots.succeeded()
                return answer
            if answer.status == 401 and not renew:
                renew = True
                continue
            if answer.status != 429:
                raise failure(request, answer)
            self._slots.throttled()
            pause = _jittered(answer.retry_after or DEFAULT_RETRY_AFTER)
            if pause > budget:
                raise failure(request, answer)
            budget -= pause
            await asyncio.sleep(pause)

    async def _timed(
        self, request: Request, renew: bool, *, verb: str, resource: Resource | None, send: Send
    ) -> Answer:
        clock = asyncio.get_running_loop().time
        started, status = clock(), 0
        try:
            answer = await send(request, renew)
            status = answer.status
            return answer
        finally:
            if self.on_request is not None:
                self.on_request(RequestLog(verb, str(resource or "raw"), status, clock() - started))


def _jittered(seconds: float) -> float:
    return seconds * (1 + 0.1 * random.random())  # noqa: S311 - spreads retries, protects nothing
