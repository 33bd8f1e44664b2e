"""Where a layer stands, as a pure function of the states of its parts."""

from __future__ import annotations

from dataclasses import dataclass

from clusterstack.api.status import Phase
from clusterstack.core.content import Problem
from clusterstack.core.gates import Blocker


@dataclass(frozen=True, slots=True)
class Parts:
    """A layer's parts: `waiting` are closed gates, `blockers` unhealthy objects and units, the telling ones first."""

    suspended: bool = False
    broken: Problem | None = None
    waiting: tuple[Blocker, ...] = ()
    blockers: tuple[Blocker, ...] = ()
    failed: int = 0
    settled: bool = False
    timed_out: bool = False


@dataclass(frozen=True, slots=True)
class Assessment:
    """The phase, why, and whether only a person can help."""

    phase: Phase
    reason: str
    message: str
    stalled: bool = False


def assess(parts: Parts) -> Assessment:
    """The layer's phase: failures show at once, waiting is never an error, a time-out only says so."""
    worst = parts.blockers[0] if parts.blockers else None
    if parts.suspended:
        return Assessment(Phase.SUSPENDED, "Suspended", "suspended: remove spec.suspend to go on")
    if parts.broken is not None and not parts.broken.waits:
        return Assessment(Phase.FAILED, parts.broken.reason, parts.broken.message, not parts.broken.retryable)
    if parts.waiting:
        return Assessment(Phase.WAITING, "DependencyNotReady", f"waiting for {parts.waiting[0]}")
    if parts.failed and worst is not None:
        return Assessment(Phase.FAILED, worst.reason or "Failed", str(worst))
    if parts.settled and worst is None:
        return Assessment(Phase.READY, "ReconciliationSucceeded", "")
    if worst is None:
        return Assessment(Phase.PROGRESSING, "Progressing", "applying")
    if parts.timed_out:
        return Assessment(Phase.FAILED, "HealthCheckFailed", f"timed out waiting for {worst}")
    return Assessment(Phase.PROGRESSING, "Progressing", f"waiting for {worst}")
