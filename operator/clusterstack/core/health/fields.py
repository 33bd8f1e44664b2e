"""Reading fields of live objects, whose shapes nobody guarantees."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from clusterstack.core.objects import Manifest

Fields = Mapping[str, Any]


def section(obj: Fields, name: str) -> Fields:
    """A mapping below `obj`; empty when it is absent or something else."""
    value = obj.get(name)
    return value if isinstance(value, dict) else {}


def integer(fields: Fields, name: str, default: int) -> int:
    """A whole number; the default when it is absent or something else (a boolean is something else)."""
    value = fields.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else default


def text(fields: Fields, name: str) -> str:
    """A string; empty when it is absent or something else."""
    value = fields.get(name)
    return value if isinstance(value, str) else ""


def entries(fields: Fields, name: str) -> Iterator[Fields]:
    """The mappings in a list; nothing when it is absent or something else."""
    value = fields.get(name)
    if isinstance(value, list):
        for entry in value:
            if isinstance(entry, dict):
                yield entry


def conditions(obj: Manifest) -> Iterator[Fields]:
    """The object's `status.conditions`."""
    return entries(section(obj, "status"), "conditions")


def condition(obj: Manifest, kind: str) -> Fields | None:
    """The first condition of a type."""
    for entry in conditions(obj):
        if entry.get("type") == kind:
            return entry
    return None


def is_true(obj: Manifest, kind: str) -> bool:
    """Whether the condition is there and True."""
    return any(entry.get("type") == kind and entry.get("status") == "True" for entry in conditions(obj))


def timestamp(value: object) -> float | None:
    """An RFC 3339 time of the API server as unix seconds; None when it is none."""
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def last_change(obj: Manifest, applied_at: float | None) -> float:
    """When the object was made, or last changed by us (`applied_at`), in unix seconds; 0.0 when neither is known."""
    return max(timestamp(section(obj, "metadata").get("creationTimestamp")) or 0.0, applied_at or 0.0)
