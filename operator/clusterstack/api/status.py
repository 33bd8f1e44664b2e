"""What a person, a script and Headlamp read: the status of a ClusterStack, and of each of its layers.

These models define the schema; statuses are built as plain dictionaries by `core.status`. Texts are bounded there
too, so that a long message of somebody else never makes a status invalid.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from clusterstack.api.common import Model, atomic, keyed, stored_default

MAX_BLOCKERS = 10
MAX_HISTORY = 10
MAX_LAYERS = 4096
MAX_UNITS = 512
MAX_WARNINGS = 10
MAX_TEXT = 1024

Line = Annotated[str, Field(max_length=MAX_TEXT)]
Name = Annotated[str, Field(max_length=253)]
Time = Annotated[str, Field(max_length=64, json_schema_extra={"format": "date-time"})]
Seconds = Annotated[float, Field(ge=0)]


class Phase(StrEnum):
    """Where a layer stands. Waiting: for something outside of it. Progressing: at work, or for its objects' health."""

    PENDING = "Pending"
    WAITING = "Waiting"
    PROGRESSING = "Progressing"
    READY = "Ready"
    FAILED = "Failed"
    SUSPENDED = "Suspended"


class Condition(Model):
    """One aspect of the state, in the form that all of Kubernetes uses."""

    type: str = Field(max_length=316, description="What the condition is about.")
    status: Literal["True", "False", "Unknown"] = Field(description="True, False or Unknown.")
    reason: str = Field(max_length=1024, description="Why, in one word for programs.")
    message: Line = Field("", description="Why, in one line for people.")
    observed_generation: int = Field(0, description="Generation of the spec that this holds for.")
    last_transition_time: Time = Field(description="When the status changed last.")


class BlockerStatus(Model):
    """What is in the way: a layer, or an object."""

    layer: Name | None = Field(None, description="Layer of this stack that is in the way.")
    group: Name | None = Field(
        None, description="API group of the object that is in the way; absent for the core group."
    )
    kind: Name | None = Field(None, description="Kind of the object that is in the way.")
    namespace: Name | None = Field(None, description="Namespace of the object that is in the way.")
    name: Name | None = Field(None, description="Name of the object that is in the way.")
    reason: Name = Field("", description="Why it is in the way, in one word.")
    message: Line = Field("", description="Why it is in the way, in one line.")


class ObjectCounts(Model):
    """How many objects a layer has."""

    ready: int = Field(0, description="Objects that are applied and healthy.")
    total: int = Field(0, description="All objects of the layer.")
    failed: int = Field(0, description="Objects that have failed, or that the API server refuses.")


class TimingsStatus(Model):
    """How long each step of the last run took."""

    blocked_seconds: Seconds = Field(0, description="Waiting for other layers and for objects that it requires.")
    fetch_seconds: Seconds = Field(0, description="Fetching the source, charts and remote files.")
    render_seconds: Seconds = Field(0, description="Building manifests and rendering charts.")
    apply_seconds: Seconds = Field(0, description="Writing objects.")
    health_seconds: Seconds = Field(0, description="Waiting for the objects to become healthy, after the last write.")


class DriftStatus(Model):
    """Changes that somebody else made to objects of a layer."""

    count: int = Field(0, description="Objects that differ now.")
    last_detected: Time | None = Field(None, description="When a difference was seen last.")
    objects: tuple[Line, ...] = Field(
        (),
        max_length=MAX_BLOCKERS,
        description="The first of these objects, and who changed them.",
        json_schema_extra=atomic(),
    )


class PrunePlan(Model):
    """Objects that would be deleted, were it not that many of them."""

    digest: Name = Field(description="Value for the annotation that approves this very plan.")
    count: int = Field(0, description="Objects that would be deleted.")
    objects: tuple[Line, ...] = Field(
        (), max_length=MAX_BLOCKERS, description="The first of these objects.", json_schema_extra=atomic()
    )


class RunStatus(Model):
    """One rollout: from a new revision until it was Ready, failed, or replaced by the next."""

    revision: Name = Field("", description="Revision that was rolled out.")
    result: Literal["Ready", "Failed", "Superseded", "Progressing"] = Field(description="How it ended.")
    started_at: Time | None = Field(None, description="When it started.")
    finished_at: Time | None = Field(None, description="When it ended.")
    duration_seconds: Seconds | None = Field(None, description="How long it took.")
    message: Line = Field("", description="What to know about it.")


class PathStep(Model):
    """One layer on the critical path."""

    layer: Name = Field(description="Name of the layer.")
    seconds: Seconds = Field(description="Time that it added to the whole.")


class CriticalPath(Model):
    """The chain of layers that decided how long the last rollout took."""

    seconds: Seconds = Field(0, description="Length of the whole chain.")
    layers: tuple[PathStep, ...] = Field(
        (), max_length=MAX_LAYERS, description="The layers of the chain, first to last.", json_schema_extra=atomic()
    )


class UnitStatus(Model):
    """A part of a layer that waits and fails as one: its manifests, or one release."""

    name: Name = Field(description="Name of the release as namespace/name, or manifests.")
    phase: Phase = Field(description="Pending, Waiting, Progressing, Ready, Failed or Suspended.")
    ready: int = Field(0, description="Objects that are applied and healthy.")
    total: int = Field(0, description="All objects of the unit.")
    revision: Name = Field("", description="Chart and version of a release.")
    message: Line = Field("", description="What it waits for, or why it failed.")


class SourceStatus(Model):
    """A source as it was seen last."""

    name: Name = Field(description="Name of the source.")
    revision: Name = Field("", description="Revision in use, such as main@sha1:9f3c….")
    ready: bool = Field(False, description="Whether the last look at it succeeded. If not, the revision in use stays.")
    message: Line = Field("", description="Why it cannot be fetched.")


class LayerEntry(Model):
    """One layer in short; all about it stands in the StackLayer <stack>.<layer>."""

    name: Name = Field(description="Name of the layer.")
    phase: Phase = Field(description="Pending, Waiting, Progressing, Ready, Failed or Suspended.")
    since: Time | None = Field(None, description="Since when it is in this phase.")
    ready: int = Field(0, description="Objects that are applied and healthy.")
    total: int = Field(0, description="All objects of the layer.")
    message: Line = Field("", description="What it waits for, or why it failed.")


class Summary(Model):
    """The stack in a few words, for kubectl get."""

    message: Line = Field("", description="What keeps the stack from being Ready: the root cause, in one line.")
    layers: Name = Field("", description="Layers that are Ready, of how many, such as 5/13.")
    ready: int = Field(0, description="Layers that are Ready.")
    total: int = Field(0, description="All layers.")
    current: Line = Field("", description="Layers at work.")
    revision: Name = Field("", description="Revision being rolled out, such as main@9f3c2ab.")
    started_at: Time | None = Field(None, description="When the last rollout started.")
    ready_at: Time | None = Field(None, description="When the last rollout was Ready.")
    duration_seconds: Seconds | None = Field(None, description="How long the last rollout took.")


def _conditions(what: str) -> tuple[Condition, ...]:
    conditions: tuple[Condition, ...] = Field((), max_length=16, description=what, json_schema_extra=keyed("type"))
    return conditions


class StackStatus(Model):
    """The state of a stack."""

    observed_generation: int = Field(
        -1, description="Generation of the spec that was acted on last.", json_schema_extra=stored_default()
    )
    last_handled_reconcile_at: Name = Field(
        "", description="Value of the reconcileAt annotation that was handled last."
    )
    phase: Phase | None = Field(None, description="Pending, Waiting, Progressing, Ready, Failed or Suspended.")
    summary: Summary = Field(Summary(), description="The stack in a few words.")
    conditions: tuple[Condition, ...] = _conditions(
        "Ready, Available, Reconciling, Stalled, Healthy and SourceReady; HealthRulesReady while there are "
        "cluster-wide rules; PruneBlocked, Drifted and Suspended only when true."
    )
    sources: tuple[SourceStatus, ...] = Field(
        (), max_length=64, description="The sources as they were seen last.", json_schema_extra=keyed("name")
    )
    # Atomic, for it has one writer: with 1,000 layers a write takes a quarter of the time, and half the bytes.
    layers: tuple[LayerEntry, ...] = Field(
        (), max_length=MAX_LAYERS, description="The layers, in the order of their start.", json_schema_extra=atomic()
    )
    critical_path: CriticalPath | None = Field(None, description="What decided how long the last rollout took.")
    history: tuple[RunStatus, ...] = Field(
        (), max_length=MAX_HISTORY, description="The last rollouts, newest first.", json_schema_extra=atomic()
    )


class StackLayerStatus(Model):
    """The state of one layer."""

    observed_generation: int = Field(
        -1, description="Generation of this object that was seen last.", json_schema_extra=stored_default()
    )
    last_handled_reconcile_at: Name = Field(
        "", description="Value of the reconcileAt annotation that was handled last."
    )
    phase: Phase | None = Field(None, description="Pending, Waiting, Progressing, Ready, Failed or Suspended.")
    since: Time | None = Field(None, description="Since when the layer is in this phase.")
    message: Line = Field("", description="What the layer waits for, or why it failed, in one line.")
    revision: Name = Field("", description="Revision that the layer's content changed in last.")
    digest: Name = Field("", description="Digest of the layer's content.")
    depends_on: tuple[Name, ...] = Field(
        (), max_length=256, description="Layers that must be Ready before this one starts.", json_schema_extra=atomic()
    )
    after: tuple[Name, ...] = Field(
        (),
        max_length=256,
        description="Layers that this one waits for without needing them.",
        json_schema_extra=atomic(),
    )
    conditions: tuple[Condition, ...] = _conditions(
        "Ready, Available, Reconciling, Stalled and Healthy; PruneBlocked, Drifted and Suspended only when true."
    )
    progress: Name = Field("", description="Objects that are healthy, of how many, such as 12/14.")
    objects: ObjectCounts = Field(ObjectCounts(), description="How many objects the layer has.")
    waiting_on: tuple[BlockerStatus, ...] = Field(
        (),
        max_length=MAX_BLOCKERS,
        description="What the layer waits for before it starts.",
        json_schema_extra=atomic(),
    )
    blocking: tuple[BlockerStatus, ...] = Field(
        (),
        max_length=MAX_BLOCKERS,
        description="Objects of the layer that are not healthy.",
        json_schema_extra=atomic(),
    )
    units: tuple[UnitStatus, ...] = Field(
        (), max_length=MAX_UNITS, description="The layer's manifests and releases.", json_schema_extra=atomic()
    )
    started_at: Time | None = Field(None, description="When the last run started: when nothing was left to wait for.")
    applied_at: Time | None = Field(None, description="When every object was applied.")
    ready_at: Time | None = Field(None, description="When every object was healthy.")
    duration_seconds: Seconds | None = Field(None, description="How long the last run took, from start to Ready.")
    last_duration_seconds: Seconds | None = Field(None, description="How long the run before it took.")
    attempts: int = Field(0, description="Runs of this content that ended in failure.")
    next_retry_at: Time | None = Field(None, description="When what failed is tried again.")
    timings: TimingsStatus = Field(TimingsStatus(), description="How long each step of the last run took.")
    drift: DriftStatus | None = Field(None, description="Changes that somebody else made.")
    prune_plan: PrunePlan | None = Field(None, description="Deletions that wait for approval.")
    warnings: tuple[Line, ...] = Field(
        (), max_length=MAX_WARNINGS, description="What is worth knowing, and no failure.", json_schema_extra=atomic()
    )
    history: tuple[RunStatus, ...] = Field(
        (),
        max_length=MAX_HISTORY,
        description="The last runs with new content, newest first.",
        json_schema_extra=atomic(),
    )
