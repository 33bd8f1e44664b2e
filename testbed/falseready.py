"""Judges from outside whether a layer was ever called Ready too early.

Two witnesses that owe the operator nothing: the simulator's journal says when each object became healthy, the API
server's audit log says when which object was written, and when a StackLayer was set Ready. A Ready is false when an
object of the layer's inventory was not healthy at that moment, or when an object of a layer that depends on it had been
written before it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from testbed.audit import WRITE_VERBS
from testbed.outside import Item, descendants, group_of

Event = Mapping[str, Any]
Entry = Mapping[str, Any]
_OWN_GROUP = "clusterstack.dev"


@dataclass(frozen=True, slots=True)
class ReadyWrite:
    """A status write after which the StackLayer of `layer` says Ready=True."""

    layer: str
    resource_version: int
    time: float


@dataclass(frozen=True, slots=True)
class FalseReady:
    """One write that said Ready too early, and the object that proves it."""

    write: ReadyWrite
    item: Item
    why: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is judged: the operator's audit events, the journal, whose objects are whose, and what waits for what.

    `inventories` has the objects by layer, `depends_on` the layers that each layer waits for, `kinds` the kind of each
    (group, resource), for the audit log names resources.
    """

    stack: str
    events: Iterable[Event]
    journal: Iterable[Entry]
    inventories: Mapping[str, Iterable[Item]]
    depends_on: Mapping[str, Iterable[str]]
    kinds: Mapping[tuple[str, str], str]


def judge(evidence: Evidence) -> list[FalseReady]:
    """Every false Ready, in the order of the writes; a write that is false for several reasons is there once."""
    events = list(evidence.events)
    writes = ready_writes(events, stack=evidence.stack)
    history = _history(evidence.journal)
    members = {layer: set(items) for layer, items in evidence.inventories.items()}
    first_writes = _first_writes(events, evidence.kinds)
    seen: set[str] = set()
    found: list[FalseReady] = []
    for write in writes:
        proof = _unhealthy(write, members.get(write.layer, set()), history)
        if proof is None and write.layer not in seen:
            proof = _too_early(write, members, evidence.depends_on, first_writes)
        seen.add(write.layer)
        if proof is not None:
            found.append(proof)
    return found


def ready_writes(events: Iterable[Event], *, stack: str) -> list[ReadyWrite]:
    """The status writes of a stack's layers whose result says Ready=True, oldest first."""
    found = []
    for event in events:
        about = event.get("objectRef") or {}
        if not _accepted(event) or (about.get("apiGroup"), about.get("resource")) != (_OWN_GROUP, "stacklayers"):
            continue
        after = event.get("responseObject") or {}
        name = after.get("metadata", {}).get("name", "")
        conditions = (after.get("status") or {}).get("conditions") or ()
        if name.startswith(f"{stack}.") and any(c["type"] == "Ready" and c["status"] == "True" for c in conditions):
            version = int(after["metadata"]["resourceVersion"])
            found.append(ReadyWrite(name.removeprefix(f"{stack}."), version, _time(event["stageTimestamp"])))
    return sorted(found, key=lambda write: write.resource_version)


def _unhealthy(
    write: ReadyWrite, items: set[Item], history: Mapping[Item, list[tuple[int, bool]]]
) -> FalseReady | None:
    """An object of the layer that the journal knows, and that had not become healthy by then."""
    for item in sorted(items & history.keys()):
        before = [healthy for version, healthy in history[item] if version <= write.resource_version]
        if not (before and before[-1]):
            later = next((str(v) for v, healthy in history[item] if healthy and v > write.resource_version), "never")
            why = f"healthy at {later}, Ready at {write.resource_version}"
            return FalseReady(write, item, why)
    return None


def _too_early(
    write: ReadyWrite,
    members: Mapping[str, set[Item]],
    depends_on: Mapping[str, Iterable[str]],
    first_writes: Mapping[Item, float],
) -> FalseReady | None:
    """An object of a dependant, and of no other layer, that was written before this first Ready."""
    after = descendants(depends_on, write.layer)
    free = {item for layer, items in members.items() if layer not in after for item in items}
    for item in sorted({item for layer in after for item in members.get(layer, ())} - free):
        when = first_writes.get(item)
        if when is not None and when < write.time:
            return FalseReady(write, item, f"of a dependant, and written {write.time - when:.3f} s before the Ready")
    return None


def _history(journal: Iterable[Entry]) -> dict[Item, list[tuple[int, bool]]]:
    """Per object the versions at which it became healthy or unhealthy; an object that is known starts unhealthy."""
    found: dict[Item, list[tuple[int, bool]]] = {}
    for entry in journal:
        if entry["state"] not in ("seen", "healthy", "unhealthy") or not entry.get("resourceVersion"):
            continue
        item = Item(group_of(entry["apiVersion"]), entry["kind"], entry.get("namespace", ""), entry["name"])
        states = found.setdefault(item, [])
        if entry["state"] != "seen":
            states.append((int(entry["resourceVersion"]), entry["state"] == "healthy"))
    return {item: sorted(states) for item, states in found.items()}


def _first_writes(events: Iterable[Event], kinds: Mapping[tuple[str, str], str]) -> dict[Item, float]:
    """When the API server got the first accepted write of each object; deletions and status are no such writes."""
    found: dict[Item, float] = {}
    for event in events:
        about = event.get("objectRef") or {}
        if not _accepted(event) or event["verb"].startswith("delete") or about.get("subresource"):
            continue
        group, resource = about.get("apiGroup", ""), about.get("resource", "")
        kind = kinds.get((group, resource))
        if kind is None or group == _OWN_GROUP:
            continue
        name = about.get("name") or (event.get("responseObject") or {}).get("metadata", {}).get("name", "")
        namespace = "" if kind == "Namespace" else about.get("namespace", "")
        when = _time(event["requestReceivedTimestamp"])
        item = Item(group, kind, namespace, name)
        found[item] = min(found.get(item, when), when)
    return found


def _accepted(event: Event) -> bool:
    return (
        event["verb"] in WRITE_VERBS
        and event.get("responseStatus", {}).get("code", 500) < 400
        and "dryRun=" not in event.get("requestURI", "")
    )


def _time(text: str) -> float:
    return dt.datetime.fromisoformat(text).timestamp()
