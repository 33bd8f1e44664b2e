"""Writes statuses: at most one a second per object, none when nothing changed, at once when a gate hangs on it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from clusterstack.api.common import API_VERSION
from clusterstack.api.conditions import DRIFTED, HEALTH_RULES_READY, HEALTHY, PRUNE_BLOCKED, SOURCE_READY
from clusterstack.api.status import Phase
from clusterstack.core.objects import Manifest
from clusterstack.core.ownership import MANAGER
from clusterstack.core.status import layer_status, stack_status, unchanged
from clusterstack.core.timeline import refresh_after
from clusterstack.core.views import LayerView, StackView
from clusterstack.engine.wait import sleep
from clusterstack.engine.world import Clock, Cluster, Timer
from clusterstack.errors import ApiError, TransportError
from clusterstack.telemetry.logs import logger

LOG = logger(__name__)
QUIET = 1.0
_TOLD = frozenset({SOURCE_READY, HEALTHY, HEALTH_RULES_READY, PRUNE_BLOCKED, DRIFTED})
RETRY = 2.0

Announce = Callable[[Manifest, str, str], None]
"""Hears of a phase change: the object, its phase, the message."""


class Publisher:
    """One object's status. `manifest` names the object; it is created when it is not there and `create` says so."""

    def __init__(
        self, cluster: Cluster, clock: Clock, manifest: Manifest, *, create: bool, announce: Announce | None = None
    ) -> None:
        self._cluster, self._clock = cluster, clock
        self._manifest, self._create, self._announce = manifest, create, announce
        self._status: dict[str, Any] | None = None
        self._wanted: Callable[[Mapping[str, Any], float], dict[str, Any]] | None = None
        self._wake = asyncio.Event()
        self._lock = asyncio.Lock()
        self._refresh: Timer | None = None
        self._said_at = 0.0
        self._stale = False

    @property
    def status(self) -> Mapping[str, Any]:
        """The status as it stands in the cluster; empty before `start`."""
        return self._status or {}

    async def start(self) -> None:
        """Read what is there, so that transition times last over restarts; create the object if it is ours to make."""
        metadata = self._manifest["metadata"]
        found = await self._cluster.get(self._manifest["apiVersion"], self._manifest["kind"], "", metadata["name"])
        if found is None and self._create:
            found = await self._cluster.create(self._manifest, manager=MANAGER)
        self._status = dict((found or {}).get("status") or {})

    def offer(self, wanted: Callable[[Mapping[str, Any], float], dict[str, Any]]) -> None:
        """Publish soon: `wanted` makes the status from the previous one and the time; the newest offer wins."""
        self._wanted = wanted
        self._wake.set()

    async def commit(self, wanted: Callable[[Mapping[str, Any], float], dict[str, Any]]) -> None:
        """Publish now, and return when the API server has it, however long that takes."""
        self._wanted = wanted
        while not await self._write():
            await sleep(self._clock, RETRY)

    async def run(self) -> None:
        """Publish what is offered, until cancelled."""
        while True:
            await self._wake.wait()
            await sleep(self._clock, QUIET)
            self._wake.clear()
            while not await self._write():
                await sleep(self._clock, RETRY)

    async def flush(self) -> None:
        """Publish what is offered and not yet written, once."""
        if self._wake.is_set():
            self._wake.clear()
            await self._write()

    async def _write(self) -> bool:
        async with self._lock:
            if self._wanted is None or self._status is None:
                return True
            now = self._clock.wall().timestamp()
            status = self._wanted(self._status, now)
            if not self._said_at or not unchanged(self._status, status):
                self._said_at = self._clock.wall().timestamp()
            self._plan_refresh(status, self._clock.wall().timestamp() - self._said_at)
            stale, self._stale = self._stale, False
            if status == self._status or (unchanged(self._status, status) and not stale):
                return True
            try:
                await self._cluster.apply_status({**self._manifest, "status": status}, manager=MANAGER)
            except (ApiError, TransportError) as error:
                if isinstance(error, ApiError) and error.status == 404:
                    return True
                LOG.warning(
                    "status not written", extra={"object": self._manifest["metadata"]["name"], "error": str(error)}
                )
                return False
            if self._announce is not None and status.get("phase") != self._status.get("phase"):
                self._announce(self._manifest, str(status.get("phase")), _message(status))
            self._status = status
            return True

    def _plan_refresh(self, status: Mapping[str, Any], age: float) -> None:
        """A stack's message shows an age, and is worth writing again when that has changed enough."""
        if self._refresh is not None:
            self._refresh.cancel()
            self._refresh = None
        if self._create or status.get("phase") in (Phase.READY, Phase.SUSPENDED):
            return
        self._refresh = self._clock.later(refresh_after(age), self._poke)

    def _poke(self) -> None:
        self._stale = True
        self._wake.set()

    def close(self) -> None:
        if self._refresh is not None:
            self._refresh.cancel()


class LayerPublisher(Publisher):
    """Publishes a StackLayer."""

    def __init__(
        self, cluster: Cluster, clock: Clock, *, stack: str, uid: str, layer: str, announce: Announce | None = None
    ) -> None:
        owner = {"apiVersion": API_VERSION, "kind": "ClusterStack", "name": stack, "uid": uid, "controller": True}
        manifest: Manifest = {
            "apiVersion": API_VERSION,
            "kind": "StackLayer",
            "metadata": {
                "name": f"{stack}.{layer}",
                "labels": {"clusterstack.dev/stack-name": stack, "clusterstack.dev/layer-name": layer},
                "ownerReferences": [owner],
            },
        }
        super().__init__(cluster, clock, manifest, create=True, announce=announce)

    def view(self, view: LayerView) -> Callable[[Mapping[str, Any], float], dict[str, Any]]:
        """How a view becomes a status. A layer that is Ready with the same content as before keeps its status."""

        def make(previous: Mapping[str, Any], now: float) -> dict[str, Any]:
            same = previous.get("phase") == Phase.READY == view.phase and previous.get("digest") == view.digest
            status = layer_status(view, previous=previous, now=now)
            shown = ("objects", "warnings", "drift", "prunePlan")
            if same and all(previous.get(key) == status.get(key) for key in shown) and _told(previous) == _told(status):
                return dict(previous)
            return status

        return make


class StackPublisher(Publisher):
    """Publishes a ClusterStack's status."""

    def __init__(self, cluster: Cluster, clock: Clock, *, stack: str, announce: Announce | None = None) -> None:
        manifest: Manifest = {"apiVersion": API_VERSION, "kind": "ClusterStack", "metadata": {"name": stack}}
        super().__init__(cluster, clock, manifest, create=False, announce=announce)

    def view(self, view: StackView) -> Callable[[Mapping[str, Any], float], dict[str, Any]]:
        """How a view becomes a status. A stack that is Ready as before keeps its status, times and all."""

        def make(previous: Mapping[str, Any], now: float) -> dict[str, Any]:
            status = stack_status(view, previous=previous, now=now)
            ready = previous.get("phase") == status.get("phase") == Phase.READY
            return dict(previous) if ready and _gist(previous) == _gist(status) else status

        return make


def _gist(status: Mapping[str, Any]) -> tuple[object, ...]:
    """What of a Ready stack's status is worth a write when it changes."""
    layers = [(layer.get("name"), layer.get("phase"), layer.get("progress")) for layer in status.get("layers") or ()]
    summary = status.get("summary") or {}
    return (
        status.get("observedGeneration"),
        status.get("lastHandledReconcileAt"),
        summary.get("revision"),
        layers,
        _told(status),
    )


def _told(status: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Those conditions that may change while the phase does not."""
    conditions = status.get("conditions") or ()
    keys = ("type", "status", "reason", "message")
    return [tuple(str(one.get(key)) for key in keys) for one in conditions if one["type"] in _TOLD]


def _message(status: Mapping[str, Any]) -> str:
    conditions = {condition["type"]: condition for condition in status.get("conditions") or ()}
    return str(conditions.get("Ready", {}).get("message", ""))
