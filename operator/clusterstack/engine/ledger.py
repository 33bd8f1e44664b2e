"""Inventories in the cluster: ConfigMaps in the operator's namespace, written before the first apply."""

from __future__ import annotations

import asyncio
import base64
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from clusterstack.core.content import Desired
from clusterstack.core.health import finished
from clusterstack.core.inventory import Entry, Inventory, Origin, decode, encode, settle_origin
from clusterstack.core.objects import Manifest, ObjectRef
from clusterstack.core.ownership import MANAGER
from clusterstack.core.timeline import rfc3339
from clusterstack.engine.marks import bears_mark
from clusterstack.engine.world import Clock, Cluster
from clusterstack.errors import ClusterStackError
from clusterstack.kube.live import Live
from clusterstack.kube.resource import CONFIG_MAP

INVENTORY_LABEL = "clusterstack.dev/inventory-of"
LAYER_ANNOTATION = "clusterstack.dev/inventory-layer"


Inherit = Callable[[ObjectRef, str], Entry | None]
"""What another layer's inventory knows of an object that this layer takes over: a move keeps its origin."""


class Store:
    """The inventories of one stack."""

    def __init__(self, cluster: Cluster, *, namespace: str, stack: str) -> None:
        self._cluster, self._namespace, self._stack = cluster, namespace, stack
        self._written: dict[str, list[bytes]] = {}
        self._locks: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def load(self) -> dict[str, Inventory]:
        """Every layer's inventory. An unreadable one raises: without it nothing may be applied or deleted safely."""
        found = await self._cluster.list(
            "v1", "ConfigMap", self._namespace, selector=f"{INVENTORY_LABEL}={self._stack}"
        )
        shards: dict[str, list[tuple[int, bytes]]] = {}
        for item in found:
            layer = item["metadata"]["annotations"][LAYER_ANNOTATION]
            number = int(item["metadata"]["name"].rpartition(".")[2])
            shards.setdefault(layer, []).append((number, base64.b64decode(item["binaryData"]["inventory"])))
        inventories: dict[str, Inventory] = {}
        for layer, parts in shards.items():
            self._written[layer] = [data for _, data in sorted(parts)]
            try:
                inventories[layer] = decode(self._written[layer])
            except (ValueError, KeyError, OSError) as error:
                raise ClusterStackError(
                    f"the inventory of layer {layer} in namespace {self._namespace} cannot be read: {error}",
                    reason="InventoryUnreadable",
                    hint=f"look at the ConfigMaps labelled {INVENTORY_LABEL}={self._stack}",
                ) from error
        return inventories

    async def save(self, inventory: Inventory) -> None:
        """Write what changed of an inventory's shards; nothing when it is as it was."""
        async with self._locks[inventory.layer]:
            shards, before = encode(inventory), self._written.get(inventory.layer, [])
            for number, data in enumerate(shards):
                if number >= len(before) or before[number] != data:
                    await self._cluster.apply(self._shard(inventory.layer, number, data), CONFIG_MAP, manager=MANAGER)
            for number in range(len(shards), len(before)):
                await self._cluster.delete("v1", self._ref(inventory.layer, number))
            self._written[inventory.layer] = shards

    async def remove(self, layer: str) -> None:
        """Delete a layer's inventory: it holds nothing any more."""
        async with self._locks[layer]:
            for number in range(len(self._written.pop(layer, []))):
                await self._cluster.delete("v1", self._ref(layer, number))

    def _ref(self, layer: str, number: int) -> ObjectRef:
        return ObjectRef("", "ConfigMap", self._namespace, f"clusterstack.{self._stack}.{layer}.{number}")

    def _shard(self, layer: str, number: int, data: bytes) -> Manifest:
        metadata: dict[str, Any] = {
            "name": self._ref(layer, number).name,
            "namespace": self._namespace,
            "labels": {INVENTORY_LABEL: self._stack},
            "annotations": {LAYER_ANNOTATION: layer},
        }
        payload = base64.b64encode(data).decode()
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "binaryData": {"inventory": payload}}


class Ledger:
    """One layer's inventory at work: announcements are written at once, what was learned since at the next flush."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        inventory: Inventory,
        *,
        inherit: Inherit,
        wrote: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._store, self._clock, self._inherit, self._wrote = store, clock, inherit, wrote
        self.inventory = inventory
        self._entries: dict[ObjectRef, Entry] = dict(inventory.entries)
        self._lock = asyncio.Lock()
        self.dirty = self.pressing = False

    def entry(self, ref: ObjectRef) -> Entry | None:
        return self._entries.get(ref)

    def entries(self) -> Iterable[Entry]:
        return self._entries.values()

    @property
    def size(self) -> int:
        return len(self._entries)

    def record(self, ref: ObjectRef, desired: Desired, live: Live, *, created: bool, marked: bool = False) -> None:
        """Note what a write made: UID, origin, and the digests by which drift is seen. `marked`: the object bore our
        mark before, as after a crash between its creation and this note."""
        entry = self._entries.get(ref) or Entry(ref, desired.api_version)
        origin = settle_origin(
            entry, created=created, creation_timestamp=live.creation_timestamp, uid=live.uid, marked=marked
        )
        fields = live.fields_digest(desired.manager)
        known = replace(entry, origin=origin, uid=live.uid, want=desired.want, fields=fields, end="")
        drifted = not created and entry.want == desired.want and bool(entry.fields)
        self._wrote("created" if created else "corrected" if drifted else "configured")
        self.dirty = self.dirty or known != self._entries.get(ref)
        self._entries[ref] = known

    def recall(self, ref: ObjectRef, desired: Desired, live: Live) -> None:
        """Note an object that needs no write: one with our mark of which nothing is known was made before a crash."""
        entry = self._entries.get(ref)
        if entry is not None and not entry.uid and bears_mark(desired, live.annotations):
            self.record(ref, desired, live, created=False, marked=True)

    def end(self, ref: ObjectRef, desired: Desired) -> str:
        """How a Job of this very content ended, as `finished` has noted it; empty for anything else."""
        entry = self._entries.get(ref)
        return entry.end if entry is not None and entry.want == desired.want else ""

    def finished(self, ref: ObjectRef, desired: Desired, live: Live) -> bool:
        """Note how a Job ended, if it has: whether that is news, which must not wait to be written."""
        entry = self._entries.get(ref)
        if entry is None or (entry.want, entry.uid) != (desired.want, live.uid):
            return False
        end = finished(live.manifest())
        if end in ("", entry.end):
            return False
        self._entries[ref] = replace(entry, end=end)
        self.dirty = self.pressing = True
        return True

    async def announce(self, unit: str, desired: Iterable[Desired]) -> None:
        """Write-ahead: what is about to be applied joins what is there."""
        now = rfc3339(self._clock.wall().timestamp())
        fresh = [self._fresh(item, unit, now) for item in desired]
        self._entries = dict(replace(self.inventory, entries=self._entries).announced(fresh).entries)
        await self.flush()

    def _fresh(self, item: Desired, unit: str, now: str) -> Entry:
        entry = Entry(item.ref, item.api_version, unit, Origin.ANNOUNCED, announced=now)
        if item.ref in self._entries:
            return entry
        known = self._inherit(item.ref, self.inventory.layer)
        return entry if known is None else replace(entry, uid=known.uid, origin=known.origin)

    async def settled(self, digest: str) -> None:
        """The content of this digest is applied in full."""
        self.inventory = replace(self.inventory, applied=digest)
        await self.flush()

    async def forget(self, refs: Iterable[ObjectRef]) -> None:
        """Shrink: after a delete was confirmed, or when another layer took the object over."""
        for ref in refs:
            self._entries.pop(ref, None)
        await self.flush()

    async def flush(self) -> None:
        """Write what is not written yet."""
        async with self._lock:
            self.dirty = self.pressing = False
            self.inventory = replace(self.inventory, entries=dict(self._entries))
            await self._store.save(self.inventory)
