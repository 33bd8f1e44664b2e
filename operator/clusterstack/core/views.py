"""The state of layers and stacks as plain values: what the engine knows, before it becomes a status.

All times are Unix seconds, 0.0 for "not yet"; all lengths are seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from clusterstack.api.status import Phase
from clusterstack.core.gates import Blocker
from clusterstack.core.graph import Graph, Problem


@dataclass(frozen=True, slots=True)
class Counts:
    """Objects of a layer or unit; `passed` are ready by the layer's policy, but not healthy by the strict rules."""

    ready: int = 0
    total: int = 0
    failed: int = 0
    passed: int = 0

    def __str__(self) -> str:
        return f"{self.ready}/{self.total}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """Seconds per step of the last run."""

    blocked: float = 0.0
    fetch: float = 0.0
    render: float = 0.0
    apply: float = 0.0
    health: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftView:
    """Changes by others: how many objects differ now, when that was seen last, and the first few, each in one line."""

    count: int = 0
    last_detected: float = 0.0
    objects: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneView:
    """Deletions that wait for approval; `digest` is what the approval must name, `message` says how to give it."""

    digest: str
    count: int
    objects: tuple[str, ...] = ()
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitView:
    """A layer's manifests, or one of its releases (`namespace/name`); `revision` is the chart and its version."""

    name: str
    phase: Phase = Phase.PENDING
    ready: int = 0
    total: int = 0
    revision: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One rollout of a revision; `result` is Ready, Failed, Superseded or Progressing."""

    revision: str
    result: str
    started_at: float = 0.0
    finished_at: float = 0.0
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerView:
    """All that is shown of one layer.

    `waiting_on` is in the way of its start, `blocking` of its being Ready; `unwell` are the first of the `sick` objects
    that the strict rules do not call healthy. `message` explains what blockers do not: a broken build, a step at work.
    `stalled` means that only a person can help. `handled` is the reconcileAt handled last.
    """

    name: str
    phase: Phase = Phase.PENDING
    since: float = 0.0
    revision: str = ""
    digest: str = ""
    depends_on: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    objects: Counts = Counts()
    waiting_on: tuple[Blocker, ...] = ()
    blocking: tuple[Blocker, ...] = ()
    unwell: tuple[Blocker, ...] = ()
    sick: int = 0
    reason: str = ""
    message: str = ""
    stalled: bool = False
    timed_out: bool = False
    timings: Timings = Timings()
    started_at: float = 0.0
    applied_at: float = 0.0
    ready_at: float = 0.0
    last_duration: float = 0.0
    attempts: int = 0
    next_retry_at: float = 0.0
    drift: DriftView = DriftView()
    prune: PruneView | None = None
    units: tuple[UnitView, ...] = ()
    warnings: tuple[str, ...] = ()
    history: tuple[Run, ...] = ()
    generation: int = 1
    handled: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceView:
    """A source; `ready` is None until the first look at it has ended."""

    name: str
    revision: str = ""
    ready: bool | None = None
    reason: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class RulesView:
    """The health rules of a ConfigMap: how many are in force, what is wrong with others, and what is risky."""

    source: str
    count: int = 0
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StackView:
    """All that is shown of a stack.

    `layers` come in topological order. `problems` are what a person must change. `deleting` is what a teardown is
    doing, empty when there is none. `revision` is that of the snapshot being rolled out. `rules` are the cluster-wide
    health rules, if there are any.
    """

    generation: int
    layers: tuple[LayerView, ...] = ()
    graph: Graph = field(default_factory=lambda: Graph({}))
    revision: str = ""
    sources: tuple[SourceView, ...] = ()
    rules: RulesView | None = None
    problems: tuple[Problem, ...] = ()
    suspended: bool = False
    deleting: str = ""
    started_at: float = 0.0
    ready_at: float = 0.0
    history: tuple[Run, ...] = ()
    handled: str = ""
