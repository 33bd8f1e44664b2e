"""ClusterStacks and StackLayers as the command line reads them: plain values off what stands in the cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from clusterstack.api.status import Phase
from clusterstack.core.gates import Blocker
from clusterstack.core.objects import Manifest, ObjectRef
from clusterstack.core.rootcause import Cause, root_cause
from clusterstack.core.timeline import seconds_of
from clusterstack.core.views import Counts, LayerView


@dataclass(frozen=True, slots=True)
class LayerRecord:
    """One layer; `message` is the line that the operator wrote of it, times are Unix seconds, 0.0 for none."""

    name: str
    phase: str
    since: float
    counts: Counts
    message: str
    took: float
    waiting_on: tuple[Blocker, ...] = ()
    blocking: tuple[Blocker, ...] = ()
    status: Mapping[str, Any] | None = None

    @property
    def ready(self) -> bool:
        return self.phase == Phase.READY

    @property
    def unwell(self) -> str:
        """What the strict rules find wrong with a layer that is Ready by its own policy; empty when nothing is."""
        conditions = (self.status or {}).get("conditions") or ()
        wrong = (one["message"] for one in conditions if one["type"] == "Healthy" and one["status"] == "False")
        return next(wrong, "") if self.ready else ""

    def view(self) -> LayerView:
        """As the operator's own search for the root cause needs it."""
        return LayerView(
            name=self.name,
            phase=Phase(self.phase),
            since=self.since,
            objects=self.counts,
            waiting_on=self.waiting_on,
            blocking=self.blocking,
            message=self.message,
        )


@dataclass(frozen=True, slots=True)
class StackRecord:
    """One stack with its layers, in the order in which they start."""

    name: str
    phase: str
    message: str
    revision: str
    layers: tuple[LayerRecord, ...]
    manifest: Manifest

    @property
    def status(self) -> Mapping[str, Any]:
        return self.manifest.get("status") or {}

    def condition(self, type_: str) -> Mapping[str, Any]:
        """A condition by its type; empty when there is none."""
        return next((found for found in self.status.get("conditions") or () if found["type"] == type_), {})

    @property
    def ready(self) -> bool:
        return self.condition("Ready").get("status") == "True"

    def layer(self, name: str) -> LayerRecord | None:
        return next((layer for layer in self.layers if layer.name == name), None)

    def cause(self) -> Cause | None:
        """The layer at the end of the chain of waiting, and what is wrong there."""
        return root_cause(layer.view() for layer in self.layers)


def stack_record(stack: Manifest, layers: Sequence[Manifest]) -> StackRecord:
    """A stack out of its object and of those of its layers; a layer without an object is as the stack says."""
    name = stack["metadata"]["name"]
    status = stack.get("status") or {}
    summary = status.get("summary") or {}
    details = {layer["metadata"]["name"]: layer.get("status") or {} for layer in layers}
    records = tuple(
        _layer_record(entry, details.get(f"{name}.{entry['name']}") or {}) for entry in status.get("layers") or ()
    )
    return StackRecord(
        name=name,
        phase=status.get("phase") or Phase.PENDING,
        message=summary.get("message") or "",
        revision=summary.get("revision") or "",
        layers=records,
        manifest=stack,
    )


def _layer_record(entry: Mapping[str, Any], status: Mapping[str, Any]) -> LayerRecord:
    counts = status.get("objects") or entry
    return LayerRecord(
        name=entry["name"],
        phase=status.get("phase") or entry.get("phase") or Phase.PENDING,
        since=seconds_of(status.get("since") or entry.get("since") or ""),
        counts=Counts(counts.get("ready") or 0, counts.get("total") or 0, counts.get("failed") or 0),
        message=(status.get("message") if status.get("phase") else entry.get("message")) or "",
        took=float(status.get("durationSeconds") or 0),
        waiting_on=_blockers(status.get("waitingOn")),
        blocking=_blockers(status.get("blocking")),
        status=status,
    )


def _blockers(found: Sequence[Mapping[str, Any]] | None) -> tuple[Blocker, ...]:
    return tuple(_blocker(blocker) for blocker in found or ())


def _blocker(found: Mapping[str, Any]) -> Blocker:
    ref = None
    if found.get("kind"):
        ref = ObjectRef(found.get("group") or "", found["kind"], found.get("namespace") or "", found.get("name") or "")
    return Blocker(
        ref=ref, layer=found.get("layer"), reason=found.get("reason") or "", message=found.get("message") or ""
    )
