"""Events: what a person sees in `kubectl describe` and `kubectl events`; repeated ones are counted, floods are cut."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, NoReturn, Protocol

from clusterstack.core.objects import Manifest, ObjectRef, group_of
from clusterstack.core.timeline import micro_time
from clusterstack.errors import ApiError, ClusterStackError
from clusterstack.kube.live import Live
from clusterstack.kube.resource import EVENT, Resource

NOTE_LIMIT = 1024  # bytes, by the API
SERIES_AFTER = 6 * 60.0  # seconds without a repetition end a series
BURST, REFILL = 25, 300.0  # per object: this many at once, then one per so many seconds (client-go's figures)
MEMORY = 4096
QUEUE = 1000
LANE = "events"
MANAGER = "clusterstack-events"
EventKind = Literal["Normal", "Warning"]


class EventVerbs(Protocol):
    """The verbs the poster needs: those of KubeClient."""

    async def create(self, resource: Resource, manifest: Manifest, *, manager: str, lane: str) -> Manifest: ...

    async def patch_merge(
        self, resource: Resource, namespace: str, name: str, patch: Manifest, *, manager: str, lane: str
    ) -> Manifest: ...


@dataclass(frozen=True, slots=True)
class Occurrence:
    """Something that happened to an object; equal ones make a series."""

    regarding: ObjectRef
    api_version: str
    uid: str
    kind: EventKind
    reason: str
    note: str
    action: str


@dataclass(slots=True)
class _Series:
    """An Event that was posted: its place, and how often it happened."""

    namespace: str
    name: str
    count: int
    last: float


@dataclass(slots=True)
class _Bucket:
    tokens: float
    filled: float


class EventRecorder:
    """`record` only queues; `run` posts, in one task. An Event that cannot be posted is dropped: news is not state."""

    def __init__(self, client: EventVerbs, *, component: str = "clusterstack", instance: str) -> None:
        self._client = client
        self._component, self._instance = component, instance
        self._queue: asyncio.Queue[Occurrence] = asyncio.Queue(QUEUE)
        self._series: OrderedDict[Occurrence, _Series] = OrderedDict()
        self._buckets: OrderedDict[tuple[ObjectRef, str], _Bucket] = OrderedDict()
        self.dropped = 0

    def record(
        self, regarding: Manifest | Live, *, kind: EventKind, reason: str, message: str, action: str = "Reconcile"
    ) -> None:
        """Notes that something happened to an object; never waits, never raises."""
        occurrence = _occurrence(regarding, kind=kind, reason=reason, note=_shortened(message), action=action)
        try:
            self._queue.put_nowait(occurrence)
        except asyncio.QueueFull:
            self.dropped += 1

    async def run(self) -> NoReturn:
        """Posts what is recorded, until cancelled."""
        while True:
            occurrence = await self._queue.get()
            try:
                await self._post(occurrence)
            except ClusterStackError:
                self.dropped += 1
            finally:
                self._queue.task_done()

    async def flush(self, timeout: float = 2.0) -> None:
        """Waits until everything recorded so far is posted, at most `timeout` seconds; `run` must be running."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._queue.join()

    async def _post(self, occurrence: Occurrence) -> None:
        now = asyncio.get_running_loop().time()
        series = self._series.get(occurrence)
        if series is not None and now - series.last < SERIES_AFTER:
            self._series.move_to_end(occurrence)
            series.count, series.last = series.count + 1, now
            if self._may_post(occurrence, now) and await self._continue(series):
                return
            if series.count > 1:
                return
        if self._may_post(occurrence, now):
            await self._begin(occurrence, now)

    async def _begin(self, occurrence: Occurrence, now: float) -> None:
        manifest = self._manifest(occurrence)
        await self._client.create(EVENT, manifest, manager=MANAGER, lane=LANE)
        metadata = manifest["metadata"]
        self._series[occurrence] = _Series(metadata["namespace"], metadata["name"], 1, now)
        if len(self._series) > MEMORY:
            self._series.popitem(last=False)

    async def _continue(self, series: _Series) -> bool:
        """Counts one more; false if the Event has expired meanwhile."""
        patch = {"series": {"count": series.count, "lastObservedTime": _now()}}
        try:
            await self._client.patch_merge(EVENT, series.namespace, series.name, patch, manager=MANAGER, lane=LANE)
        except ApiError as error:
            if error.status != 404:
                raise
            series.count = 0
            return False
        return True

    def _may_post(self, occurrence: Occurrence, now: float) -> bool:
        """The object's token bucket."""
        key = (occurrence.regarding, occurrence.uid)
        bucket = self._buckets.setdefault(key, _Bucket(BURST, now))
        self._buckets.move_to_end(key)
        if len(self._buckets) > MEMORY:
            self._buckets.popitem(last=False)
        bucket.tokens = min(BURST, bucket.tokens + (now - bucket.filled) / REFILL)
        bucket.filled = now
        if bucket.tokens < 1:
            self.dropped += 1
            return False
        bucket.tokens -= 1
        return True

    def _manifest(self, occurrence: Occurrence) -> Manifest:
        ref = occurrence.regarding
        namespace = ref.namespace or "default"  # where the API server wants Events of cluster-scoped objects
        regarding = {"apiVersion": occurrence.api_version, "kind": ref.kind, "name": ref.name, "uid": occurrence.uid}
        if ref.namespace:
            regarding["namespace"] = ref.namespace
        return {
            "apiVersion": EVENT.api_version,
            "kind": EVENT.kind,
            "metadata": {"namespace": namespace, "name": _name(occurrence)},
            "eventTime": _now(),
            "reportingController": f"clusterstack.dev/{self._component}",
            "reportingInstance": self._instance[:128],
            "action": occurrence.action[:128],
            "reason": occurrence.reason[:128],
            "regarding": regarding,
            "note": occurrence.note,
            "type": occurrence.kind,
        }


def _occurrence(regarding: Manifest | Live, *, kind: EventKind, reason: str, note: str, action: str) -> Occurrence:
    if isinstance(regarding, Live):
        return Occurrence(regarding.ref, regarding.api_version, regarding.uid, kind, reason, note, action)
    metadata = regarding.get("metadata") or {}
    api_version = regarding.get("apiVersion", "")
    ref = ObjectRef(
        group_of(api_version), regarding.get("kind", ""), metadata.get("namespace") or "", metadata.get("name") or ""
    )
    return Occurrence(ref, api_version, metadata.get("uid") or "", kind, reason, note, action)


def _name(occurrence: Occurrence) -> str:
    """Unique per posting, valid whatever the object is called (RBAC names hold colons)."""
    stem = re.sub(r"[^a-z0-9.-]", "-", occurrence.regarding.name.lower())[:200].strip("-.") or "event"
    unique = hashlib.blake2b(f"{occurrence}{_now()}".encode(), digest_size=8).hexdigest()
    return f"{stem}.{unique}"


def _shortened(message: str) -> str:
    encoded = message.encode()
    if len(encoded) <= NOTE_LIMIT:
        return message
    return encoded[: NOTE_LIMIT - 3].decode(errors="ignore") + "…"


def _now() -> str:
    return micro_time(datetime.now(UTC))
