"""Times for people: how long things take, since when, and which layers decided how long the whole took."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from clusterstack.core.graph import Graph

_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def rfc3339(unix: float) -> str:
    """Unix seconds as Kubernetes writes times: UTC, whole seconds."""
    return datetime.fromtimestamp(int(unix), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def micro_time(moment: datetime) -> str:
    """A time in UTC as Kubernetes' MicroTime and Helm's records have it: with microseconds."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def seconds_of(text: str) -> float:
    """Unix seconds of a time as Kubernetes writes it, with or without fractions; 0.0 for an empty text."""
    return datetime.fromisoformat(text).timestamp() if text else 0.0


def elapsed(seconds: float) -> str:
    """A length of time in at most two units, as kubectl shows ages: `41s`, `3m5s`, `12m`, `2h10m`, `3d4h`."""
    whole = max(0, int(seconds))
    if whole < 2 * _MINUTE:
        return f"{whole}s"
    if whole < 10 * _MINUTE:
        return _pair(whole, _MINUTE, "m", 1, "s")
    if whole < 3 * _HOUR:
        return f"{whole // _MINUTE}m"
    if whole < 2 * _DAY:
        return _pair(whole, _HOUR, "h", _MINUTE, "m")
    return _pair(whole, _DAY, "d", _HOUR, "h")


def _pair(whole: int, large: int, large_unit: str, small: int, small_unit: str) -> str:
    count, rest = divmod(whole, large)
    return f"{count}{large_unit}" + (f"{rest // small}{small_unit}" if rest // small else "")


def refresh_after(age: float) -> float:
    """Seconds until a text that shows this age is worth writing again: often at first, rarely later."""
    if age < _MINUTE:
        return 10.0
    if age < 10 * _MINUTE:
        return 60.0
    return 600.0


@dataclass(frozen=True, slots=True)
class Span:
    """From when to when a layer was at work, in Unix seconds; waiting for other layers may be part of it."""

    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Step:
    """One layer of the critical path and the seconds that it added."""

    layer: str
    seconds: float


def critical_path(graph: Graph, spans: Mapping[str, Span]) -> tuple[Step, ...]:
    """The chain of layers that decided when the last one was Ready, first to last.

    It is read backwards from the layer that ended last: before each layer comes the dependency that ended last, for
    that one opened the gate. The seconds of a layer count from the end of the one before. Layers without a span had
    nothing to do in this rollout and are no part of it.
    """
    chain: list[Step] = []
    name = max(spans, key=lambda layer: (spans[layer].end, layer), default=None)
    seen: set[str] = set()
    while name is not None and name not in seen:
        seen.add(name)
        span = spans[name]
        before = [d for d in graph.dependencies(name) if d in spans and d not in seen and spans[d].end <= span.end]
        last = max(before, key=lambda layer: (spans[layer].end, layer), default=None)
        start = span.start if last is None else spans[last].end
        chain.append(Step(name, round(max(0.0, span.end - start), 3)))
        name = last
    return tuple(reversed(chain))
