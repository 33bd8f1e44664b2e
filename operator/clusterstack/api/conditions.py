"""Condition types and reasons, which are API, and how a list of conditions changes.

Conventions: kubernetes/community `api-conventions.md`; kstatus reads Reconciling and Stalled. Waiting is never Stalled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

READY: Final = "Ready"
AVAILABLE: Final = "Available"
RECONCILING: Final = "Reconciling"
STALLED: Final = "Stalled"
HEALTHY: Final = "Healthy"
SOURCE_READY: Final = "SourceReady"
HEALTH_RULES_READY: Final = "HealthRulesReady"
PRUNE_BLOCKED: Final = "PruneBlocked"
DRIFTED: Final = "Drifted"
SUSPENDED: Final = "Suspended"

ORDER: Final = (
    READY,
    AVAILABLE,
    RECONCILING,
    STALLED,
    HEALTHY,
    SOURCE_READY,
    HEALTH_RULES_READY,
    PRUNE_BLOCKED,
    DRIFTED,
    SUSPENDED,
)
"""The order in which conditions stand in status: user interfaces keep it."""

MAX_MESSAGE: Final = 1024


class Reason:
    """Reasons of conditions; stable, for people and alerts select by them."""

    SUCCEEDED: Final = "Succeeded"
    PENDING: Final = "Pending"
    WAITING: Final = "Waiting"
    PROGRESSING: Final = "Progressing"
    LAYER_NOT_READY: Final = "LayerNotReady"
    LAYER_FAILED: Final = "LayerFailed"
    TIMED_OUT: Final = "TimedOut"
    FAILED: Final = "Failed"
    HEALTHY: Final = "Healthy"
    LAYER_NOT_HEALTHY: Final = "LayerNotHealthy"
    SUSPENDED: Final = "Suspended"
    DELETING: Final = "Deleting"
    FETCHED: Final = "Fetched"
    FETCHING: Final = "Fetching"
    FETCH_FAILED: Final = "FetchFailed"
    RULES_LOADED: Final = "RulesLoaded"
    RULE_INVALID: Final = "RuleInvalid"
    PRUNE_BLOCKED: Final = "ApprovalNeeded"
    DRIFT_DETECTED: Final = "DriftDetected"
    INVALID_SPEC: Final = "InvalidSpec"
    DEPENDENCY_CYCLE: Final = "DependencyCycle"
    UNKNOWN_DEPENDENCY: Final = "UnknownDependency"


def set_condition(
    conditions: Sequence[Mapping[str, Any]],
    type_: str,
    status: bool | None,
    *,
    reason: str,
    message: str = "",
    generation: int,
    now: str,
) -> list[dict[str, Any]]:
    """The conditions with one of them set: `None` is Unknown. `now` (RFC 3339) counts only when the status changes."""
    text = {True: "True", False: "False", None: "Unknown"}[status]
    before = find_condition(conditions, type_)
    unchanged = before is not None and before.get("status") == text
    condition = {
        "type": type_,
        "status": text,
        "reason": reason,
        "message": message if len(message) <= MAX_MESSAGE else message[: MAX_MESSAGE - 1] + "…",
        "observedGeneration": generation,
        "lastTransitionTime": before["lastTransitionTime"] if before is not None and unchanged else now,
    }
    return _ordered([*drop_condition(conditions, type_), condition])


def drop_condition(conditions: Sequence[Mapping[str, Any]], type_: str) -> list[dict[str, Any]]:
    """The conditions without one: conditions that tell of something abnormal go when it is over."""
    return _ordered([dict(condition) for condition in conditions if condition.get("type") != type_])


def find_condition(conditions: Sequence[Mapping[str, Any]], type_: str) -> Mapping[str, Any] | None:
    """The condition of a type, if it is there."""
    return next((condition for condition in conditions if condition.get("type") == type_), None)


def _ordered(conditions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    ranks = {type_: rank for rank, type_ in enumerate(ORDER)}
    return sorted(conditions, key=lambda condition: (ranks.get(condition["type"], len(ORDER)), condition["type"]))
