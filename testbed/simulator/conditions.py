"""Status conditions, the way controllers write them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from testbed.simulator.objects import now

Status = dict[str, Any]


def condition(kind: str, status: bool | None = True, reason: str = "", message: str = "", **more: object) -> Status:
    """A condition; None is Unknown."""
    value = "Unknown" if status is None else str(status)
    return {"type": kind, "status": value, "reason": reason or kind, "message": message, **more}


def ready(status: bool | None, reason: str, message: str = "") -> Status:
    return {"conditions": [condition("Ready", status, reason, message)]}


def timed(conditions: Sequence[Mapping[str, Any]], old: object) -> list[Status]:
    """Conditions with a transition time: that of the old one where the status did not change."""
    known = {entry.get("type"): entry for entry in old} if isinstance(old, list) else {}
    return [{**entry, "lastTransitionTime": _since(entry, known.get(entry.get("type"), {}))} for entry in conditions]


def _since(entry: Mapping[str, Any], old: Mapping[str, Any]) -> str:
    unchanged = old.get("status") == entry.get("status") and "lastTransitionTime" in old
    return str(old["lastTransitionTime"]) if unchanged else now()
