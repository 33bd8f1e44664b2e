"""The Lease by which one process at a time is the writer.

The rules are client-go's: a Lease is taken when its holder released it, or when we ourselves have seen it unchanged for
its whole duration, on our own monotonic clock; clocks of other machines mean nothing. Writes are compare-and-swap by
resource version. Whoever fails to renew within the renew deadline has lost it, before another may take it.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, NoReturn, Protocol, Self

from clusterstack.core.objects import Manifest
from clusterstack.core.timeline import micro_time
from clusterstack.errors import ApiError, ClusterStackError
from clusterstack.kube.resource import LEASE, Resource

MANAGER = "clusterstack-lease"
RESOLUTION = 0.001  # seconds: less than this is no time left


class LeaseLost(ClusterStackError):  # noqa: N818 - reads as what happened
    """This process may write no more; it must end."""

    reason = "LeaseLost"
    retryable = False


class LeaseVerbs(Protocol):
    """The verbs a Lease needs: those of KubeClient."""

    async def find(self, resource: Resource, namespace: str, name: str) -> Manifest | None: ...

    async def create(self, resource: Resource, manifest: Manifest, *, manager: str) -> Manifest: ...

    async def replace(self, resource: Resource, manifest: Manifest, *, manager: str) -> Manifest: ...


@dataclass(frozen=True, slots=True)
class _Seen:
    """Another holder's record, and when it was first seen like this (loop time, seconds)."""

    version: str
    since: float


class Lease:
    """Held inside its `async with`: entering waits for it, leaving gives it back for the next to take at once.

    `identity` must be unique to the process (the Pod's name and UID). All durations are seconds. Give it a client of
    its own: renewals must neither queue behind other requests nor pass the fence that rests on them.
    """

    def __init__(
        self,
        client: LeaseVerbs,
        *,
        namespace: str,
        name: str,
        identity: str,
        duration: float = 15.0,
        renew_deadline: float = 10.0,
        retry_period: float = 2.0,
    ) -> None:
        if not duration > renew_deadline > retry_period > 0:
            raise ValueError("a Lease needs duration > renew deadline > retry period > 0")
        self._client = client
        self._namespace, self._name, self.identity = namespace, name, identity
        self._duration, self._renew_deadline, self._retry_period = duration, renew_deadline, retry_period
        self._held: Manifest | None = None  # as last written by us
        self._renewed = float("-inf")  # loop time at which the last successful renewal was sent
        self._seen: _Seen | None = None
        self._lost = asyncio.Event()
        self._keeping: asyncio.Task[None] | None = None
        self.holder = ""

    async def __aenter__(self) -> Self:
        await self.acquire()
        self._keeping = asyncio.create_task(self._keep(), name="lease")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)
        await self.release()

    async def lost(self) -> NoReturn:
        """Waits for the Lease to be lost, then raises LeaseLost: one task of the process's TaskGroup."""
        await self._lost.wait()
        raise self._loss()

    def check(self) -> None:
        """Raises LeaseLost unless the Lease is held for sure at this moment: the fence in front of every write.

        A process that was stopped for a while wakes up here before its timers tell it.
        """
        if self._held is None or self._lost.is_set() or self._age() >= self._renew_deadline:
            raise self._loss()

    async def acquire(self) -> None:
        """Waits until the Lease is ours. Failures of the API server are waited out."""
        self._lost.clear()
        while True:
            with contextlib.suppress(ClusterStackError, TimeoutError):
                async with asyncio.timeout(self._renew_deadline):
                    if await self._try():
                        return
            await asyncio.sleep(self._retry_period * (1 + 0.2 * random.random()))  # noqa: S311 - jitter

    async def release(self) -> None:
        """Gives the Lease back if it is still ours; a failure only means that the next one waits for its end."""
        held, self._held = self._held, None
        if held is None or self._lost.is_set():
            return
        with contextlib.suppress(ClusterStackError, TimeoutError):
            async with asyncio.timeout(self._retry_period):
                spec = {**held["spec"], "holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": _now()}
                await self._client.replace(LEASE, {**held, "spec": spec}, manager=MANAGER)

    async def _keep(self) -> None:
        """Renews until somebody else holds the Lease, or the deadline has passed without a success."""
        attempt: asyncio.Task[bool] | None = None
        try:
            while (left := self._renew_deadline - self._age()) > RESOLUTION:
                await asyncio.sleep(min(self._retry_period, left))
                attempt = asyncio.create_task(self._try())
                # Never awaited past its time: a write in flight resists cancellation until it is answered.
                await asyncio.wait({attempt}, timeout=max(0.0, self._renew_deadline - self._age()) / 2)
                if not attempt.done():
                    attempt.cancel()
                elif attempt.exception() is None and not attempt.result():
                    break
            self._lost.set()
        finally:
            if attempt is not None:
                attempt.cancel()

    async def _try(self) -> bool:
        """One look, and one write if the Lease is ours or free; whether it is ours now."""
        sent = self._clock()
        known = self._held or await self._client.find(LEASE, self._namespace, self._name)
        try:
            if known is None:
                written = await self._client.create(LEASE, self._record({}), manager=MANAGER)
            elif self._is_free(known):
                written = await self._client.replace(LEASE, self._record(known), manager=MANAGER)
            else:
                return False
        except ApiError as error:
            if error.status not in (404, 409):
                raise
            return await self._look_again()
        self._held, self._renewed = written, sent
        self.holder = self.identity
        return True

    async def _look_again(self) -> bool:
        """After a conflict: whether the Lease still names us; then someone only touched it: the next try succeeds."""
        known = await self._client.find(LEASE, self._namespace, self._name)
        if known is not None and _holder(known) == self.identity and self._held is not None:
            self._held = known
            return True
        was_ours, self._held = self._held is not None, None
        if known is None and was_ours:
            return await self._try()  # deleted by hand: create it again
        return False

    def _is_free(self, lease: Manifest) -> bool:
        holder = _holder(lease)
        self.holder = holder
        if holder in ("", self.identity):
            return True
        version = str(lease["metadata"].get("resourceVersion"))
        if self._seen is None or self._seen.version != version:
            self._seen = _Seen(version, self._clock())
        duration = float((lease.get("spec") or {}).get("leaseDurationSeconds") or self._duration)
        return self._clock() - self._seen.since >= duration

    def _record(self, known: Mapping[str, Any]) -> Manifest:
        before: Mapping[str, Any] = known.get("spec") or {}
        ours = before.get("holderIdentity") == self.identity
        now = _now()
        spec = {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": max(1, round(self._duration)),
            "acquireTime": before.get("acquireTime") or now if ours else now,
            "renewTime": now,
            "leaseTransitions": int(before.get("leaseTransitions") or 0) + (0 if ours or not before else 1),
        }
        metadata = {"namespace": self._namespace, "name": self._name, **(known.get("metadata") or {})}
        metadata.pop("managedFields", None)
        return {"apiVersion": LEASE.api_version, "kind": LEASE.kind, "metadata": metadata, "spec": {**before, **spec}}

    def _age(self) -> float:
        return self._clock() - self._renewed

    def _loss(self) -> LeaseLost:
        return LeaseLost(
            f"Lease {self._namespace}/{self._name} is not held by {self.identity}",
            hint="the process ends and is started again; if this repeats, look at the API server's latency",
        )

    @staticmethod
    def _clock() -> float:
        return asyncio.get_running_loop().time()


def _holder(lease: Manifest) -> str:
    return (lease.get("spec") or {}).get("holderIdentity") or ""


def _now() -> str:
    """The time as a MicroTime, for people: nothing here reads it back."""
    return micro_time(datetime.now(UTC))
