"""The gate of a webhook that does not answer: whatever it holds up waits here together, and one of it asks again.

Ten objects or ten thousand: one at a time is written as a dry run. When that passes, the gate opens and its bus key is
published, which wakes all of them at once, in every unit and stack of the process.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Protocol

from clusterstack.core.content import Desired
from clusterstack.core.objects import ObjectRef
from clusterstack.core.outcome import Park, Reject, classify
from clusterstack.core.webhooks import denied, reachable
from clusterstack.engine.wait import changed_or_later, sleep
from clusterstack.engine.watches import watch_server
from clusterstack.engine.world import Clock, Cluster
from clusterstack.errors import ApiError, TransportError
from clusterstack.kube.facts import object_key
from clusterstack.kube.observer import Watch
from clusterstack.telemetry.logs import logger

LOG = logger(__name__)
FIRST_PROBE, LAST_PROBE = 0.25, 1.0
FIRST_DOUBT, LAST_DOUBT = 5.0, 30.0  # without endpoints: whoever deletes a webhook's configuration is not waited for

_INCONCLUSIVE = frozenset({"ApiServerUnreachable", "ApiServerError", "TooManyRequests"})


@dataclass(frozen=True, slots=True, eq=False)
class Waiter:
    """One held-up write: `rehearse` tries it without effect, `told` hears what is wrong, `go` has it really tried."""

    ref: ObjectRef
    rehearse: Callable[[], Awaitable[None]]
    told: Callable[[str], None]
    go: Callable[[], None]


async def rehearse(cluster: Cluster, desired: Desired, *, account: str, lane: str) -> None:
    """A write as a dry run. Raises what the write would: ApiError and TransportError."""
    resource = await cluster.resource(desired.api_version, desired.ref.kind)
    if resource is None:
        raise ApiError(f"kind {desired.ref.group_kind} is not served", status=404, reason="NotFound")
    await cluster.rehearse(desired.manifest, resource, manager=desired.manager, account=account, lane=lane)


class Ended(Protocol):
    """Hears that a gate is no more."""

    def __call__(self, gate: _Gate, *, opened: bool) -> None: ...


class Webhooks:
    """The closed gates of a process."""

    def __init__(self, cluster: Cluster, clock: Clock) -> None:
        self._cluster, self._clock = cluster, clock
        self._gates: dict[Hashable, _Gate] = {}
        self._asked: dict[Hashable, int] = {}  # how often, of gates that were left without an answer

    @property
    def closed(self) -> int:
        """How many webhooks something waits for."""
        return len(self._gates)

    def wait(self, park: Park, waiter: Waiter) -> Callable[[], None]:
        """Wait for the webhook that `park` names; to be called when the waiting is over, or of no interest any more."""
        key = park.keys[0]
        gate = self._gates.get(key)
        if gate is None:
            gate = _Gate(self._cluster, self._clock, park, asked=self._asked.get(key, 0), ended=self._ended)
            self._gates[key] = gate
        gate.enter(waiter, park.message)
        return lambda: gate.leave(waiter)

    def answered(self, park: Park) -> None:
        """The webhook let a write through after all."""
        gate = self._gates.get(park.keys[0])
        if gate is not None:
            gate.open()

    def _ended(self, gate: _Gate, *, opened: bool) -> None:
        del self._gates[gate.key]
        if opened:
            self._asked.pop(gate.key, None)
        else:
            self._asked[gate.key] = gate.asked


class _Gate:
    """One webhook. It lives as long as somebody waits."""

    def __init__(self, cluster: Cluster, clock: Clock, park: Park, *, asked: int, ended: Ended) -> None:
        self.asked = asked
        self._cluster, self._clock, self._park, self._ended = cluster, clock, park, ended
        self._waiters: dict[Waiter, None] = {}
        self._watches: tuple[Watch, ...] = ()
        self._message = park.message
        self._reaching = True
        self._over = False
        self._task = asyncio.create_task(self._run(), name=f"webhook {park.webhook}")

    @property
    def key(self) -> Hashable:
        """The bus key on which is published that the gate opens."""
        return self._park.keys[0]

    def enter(self, waiter: Waiter, message: str) -> None:
        """Wait here; `message` is what the write was just answered."""
        self._waiters[waiter] = None
        if self._reaching:
            self._tell(message)
        else:
            waiter.told(self._message)

    def leave(self, waiter: Waiter) -> None:
        self._waiters.pop(waiter, None)
        if not self._waiters:
            self._close(opened=False)

    def open(self) -> None:
        """The webhook answers: all go."""
        self._waiters.clear()
        self._close(opened=True)
        self._cluster.facts.publish(self.key)

    def _close(self, *, opened: bool) -> None:
        if self._over:
            return
        self._over = True
        self._ended(self, opened=opened)
        for watch in self._watches:
            watch.release()
        if self._task is not asyncio.current_task():
            self._task.cancel()

    async def _run(self) -> None:
        """Ask now and then, and at once when the endpoints appear, until one passes or nobody waits any more."""
        while not self._over:
            try:
                await self._due()
                if await self._probe():
                    self.open()
            except Exception:  # a bug in asking must not leave everybody waiting for ever
                LOG.exception("webhook gate failed unexpectedly", extra={"webhook": self._park.webhook})
                await sleep(self._clock, LAST_PROBE)
            self.asked += 1

    async def _due(self) -> None:
        """Return when it is time to ask."""
        due = self._clock.now() + _pause(self.asked, reachable=self._reaching)
        while (left := due - self._clock.now()) > 0:
            since, before = self._cluster.facts.now, self._reaching
            self._reaching = self._reachable()
            if self._reaching and not before:
                return
            if before and not self._reaching:
                self.asked = 0
                left = _pause(0, reachable=False)
                due = self._clock.now() + left
            await changed_or_later(self._cluster.facts, self._keys(), since, self._clock, left)

    async def _probe(self) -> bool:
        """Whether the webhook lets a write through, or refuses it: the first one that tells. Others are let go, to be
        stopped by whatever else is in their way."""
        for waiter in list(self._waiters):
            if waiter not in self._waiters:
                continue
            match await self._outcome(waiter):
                case None:
                    return True
                case Reject(_, message) if denied(message, self._park.webhook):
                    return True
                case Reject(_, message) if "does not support dry run" in message:
                    waiter.go()
                    return False
                case Park() as park if self.key in park.keys:
                    self._tell(park.message)
                    return False
                case Park(reason) if reason in _INCONCLUSIVE:
                    return False
                case _:
                    waiter.go()
        return False

    async def _outcome(self, waiter: Waiter) -> Park | Reject | None:
        try:
            await waiter.rehearse()
        except (ApiError, TransportError) as error:
            return classify(error, waiter.ref)
        return None

    def _reachable(self) -> bool:
        """Whether asking has a chance: the Service has an endpoint that takes requests, or cannot be judged by that."""
        if self._park.service is None:
            return True
        ref = ObjectRef("", "Service", *self._park.service)
        self._watches = self._watches or watch_server(self._cluster, ref)
        if not self._watches or not all(self._cluster.synced(watch) for watch in self._watches):
            return True
        service = self._cluster.live(ref)
        if service is None:
            self._say("has no Service yet")
            return False
        slices = (live.manifest() for live in self._cluster.members(self._watches[1]))
        if reachable(service.manifest(), slices):
            return True
        self._say("has no ready endpoints")
        return False

    def _keys(self) -> list[Hashable]:
        keys = [watch.key for watch in self._watches] or [("never", self.key)]
        if self._park.service is not None:
            keys.append(object_key(ObjectRef("", "Service", *self._park.service)))
        return keys

    def _say(self, trouble: str) -> None:
        assert self._park.service is not None
        self._tell(f"webhook {self._park.webhook} of service {'/'.join(self._park.service)} {trouble}")

    def _tell(self, message: str) -> None:
        if message != self._message:
            self._message = message
            for waiter in list(self._waiters):
                waiter.told(message)


def _pause(attempt: int, *, reachable: bool) -> float:
    first, last = (FIRST_PROBE, LAST_PROBE) if reachable else (FIRST_DOUBT, LAST_DOUBT)
    return min(last, first * 2.0 ** min(attempt, 10)) * random.uniform(0.8, 1.2)  # noqa: S311
