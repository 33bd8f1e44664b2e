"""Building the status of a stack and of its layers out of plain values.

Only `summary.message` of a stack shows an age; everything else changes only when something happened, so that a status
is written only then. The texts are bounded as the schema demands.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from clusterstack.api.status import MAX_BLOCKERS, MAX_HISTORY, MAX_LAYERS, MAX_TEXT, MAX_UNITS, MAX_WARNINGS, Phase
from clusterstack.core.gates import Blocker
from clusterstack.core.judgement import Judgement, layer_judgement, stack_judgement, stack_phase, with_conditions
from clusterstack.core.rootcause import Cause, cause_line, root_cause, state_line
from clusterstack.core.timeline import Span, Step, critical_path, rfc3339
from clusterstack.core.views import (
    Counts,
    DriftView,
    LayerView,
    PruneView,
    RulesView,
    Run,
    SourceView,
    StackView,
    Timings,
    UnitView,
)

__all__ = [
    "Cause",
    "Counts",
    "DriftView",
    "LayerView",
    "PruneView",
    "RulesView",
    "Run",
    "SourceView",
    "StackView",
    "Timings",
    "UnitView",
    "layer_status",
    "root_cause",
    "short_revision",
    "stack_status",
    "status_patch",
    "unchanged",
]

_AGE = re.compile(r" \((?:[0-9]+[smhd])+\)$")
_NAME = 253

Status = dict[str, Any]


def layer_status(view: LayerView, *, previous: Mapping[str, Any], now: float) -> Status:
    """The status of a StackLayer; `previous` is the one that it has, `{}` at first, for times of transition."""
    judgement = layer_judgement(view)
    status: Status = {
        "observedGeneration": _observed(previous, view.generation, judgement),
        "lastHandledReconcileAt": view.handled,
        "phase": str(view.phase),
        "since": _time(view.since),
        "message": _line(judgement.line),
        "revision": _name(view.revision),
        "digest": view.digest,
        "dependsOn": list(view.depends_on),
        "after": list(view.after),
        "conditions": with_conditions(previous, judgement, generation=view.generation, now=rfc3339(now)),
        "progress": str(view.objects) if view.objects.total else "",
        "objects": _counts(view.objects),
        "waitingOn": _blockers(view.waiting_on),
        "blocking": _blockers(view.blocking),
        "units": [_unit(unit) for unit in view.units[:MAX_UNITS]],
        "startedAt": _time(view.started_at),
        "appliedAt": _time(view.applied_at),
        "readyAt": _time(view.ready_at),
        "durationSeconds": _between(view.started_at, view.ready_at),
        "lastDurationSeconds": _seconds(view.last_duration) if view.last_duration else None,
        "attempts": view.attempts,
        "nextRetryAt": _time(view.next_retry_at),
        "timings": _timings(view.timings),
        "drift": _drift(view.drift),
        "prunePlan": _prune(view.prune),
        "warnings": [_line(warning) for warning in view.warnings[:MAX_WARNINGS]],
        "history": _history(view.history),
    }
    return _present(status)


def stack_status(view: StackView, *, previous: Mapping[str, Any], now: float) -> Status:
    """The status of a ClusterStack; `previous` is the one that it has, `{}` at first."""
    cause = None if view.suspended or view.problems or view.deleting else root_cause(view.layers)
    views = {layer.name: layer for layer in view.layers}
    line = cause_line(cause, views[cause.layer], now=now) if cause else ""
    judgement = stack_judgement(view, _AGE.sub("", line), revision=short_revision(view.revision))
    status: Status = {
        "observedGeneration": _observed(previous, view.generation, judgement),
        "lastHandledReconcileAt": view.handled,
        "phase": str(stack_phase(view)),
        "summary": _summary(view, line or judgement.line),
        "conditions": with_conditions(previous, judgement, generation=view.generation, now=rfc3339(now)),
        "sources": [_source(source) for source in view.sources],
        "layers": [_entry(layer) for layer in view.layers[:MAX_LAYERS]],
        "criticalPath": _critical_path(view),
        "history": _history(view.history),
    }
    return _present(status)


def unchanged(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether two statuses say the same, but for the age at the end of `summary.message`."""
    return _ageless(old) == _ageless(new)


def status_patch(old: Mapping[str, Any], new: Mapping[str, Any]) -> Status:
    """The merge patch (RFC 7386) that turns one status into the other; empty when they are the same."""
    patch: Status = {key: None for key in old if key not in new}
    for key, value in new.items():
        before = old.get(key)
        if value == before:
            continue
        patch[key] = status_patch(before, value) if isinstance(before, dict) and isinstance(value, dict) else value
    return patch


def short_revision(revision: str) -> str:
    """`master@sha1:9f3c2ab…` as people write it: `master@9f3c2ab`."""
    return re.sub(r"(^|@)sha(?:1|256):([0-9a-f]{7})[0-9a-f]*", r"\1\2", revision)


def _ageless(status: Mapping[str, Any]) -> Mapping[str, Any]:
    summary = status.get("summary") or {}
    return {**status, "summary": {**summary, "message": _AGE.sub("", summary.get("message", ""))}}


def _observed(previous: Mapping[str, Any], generation: int, judgement: Judgement) -> int:
    """Moves on only once there is a result, so that kstatus sees a new generation as in progress until then."""
    settled = judgement.ready is True or judgement.stalled or judgement.suspended
    return generation if settled else int(previous.get("observedGeneration", -1))


def _summary(view: StackView, message: str) -> Status:
    ready = sum(layer.phase is Phase.READY for layer in view.layers)
    at_work = [layer.name for layer in view.layers if layer.phase is Phase.PROGRESSING]
    more = f" +{len(at_work) - 3}" if len(at_work) > 3 else ""
    return _present(
        {
            "message": _line(message),
            "layers": f"{ready}/{len(view.layers)}",
            "ready": ready,
            "total": len(view.layers),
            "current": _line(", ".join(at_work[:3]) + more),
            "revision": _name(short_revision(view.revision)),
            "startedAt": _time(view.started_at),
            "readyAt": _time(view.ready_at),
            "durationSeconds": _between(view.started_at, view.ready_at),
        }
    )


def _entry(layer: LayerView) -> Status:
    return _present(
        {
            "name": layer.name,
            "phase": str(layer.phase),
            "since": _time(layer.since),
            "ready": layer.objects.ready,
            "total": layer.objects.total,
            "message": "" if layer.phase is Phase.READY else _line(state_line(layer)),
        }
    )


def _critical_path(view: StackView) -> Status | None:
    if stack_phase(view) is not Phase.READY or not view.started_at:
        return None
    spans = {
        layer.name: Span(layer.started_at, layer.ready_at)
        for layer in view.layers
        if layer.started_at >= view.started_at and layer.ready_at >= layer.started_at
    }
    steps: Sequence[Step] = critical_path(view.graph, spans)
    return {
        "seconds": _seconds(sum(step.seconds for step in steps)),
        "layers": [{"layer": step.layer, "seconds": step.seconds} for step in steps],
    }


def _blockers(blockers: Iterable[Blocker]) -> list[Status]:
    return [_blocker(blocker) for blocker in list(blockers)[:MAX_BLOCKERS]]


def _blocker(blocker: Blocker) -> Status:
    ref = blocker.ref
    named = {"group": ref.group, "kind": ref.kind, "namespace": ref.namespace, "name": ref.name} if ref else {}
    return _present(
        {"layer": blocker.layer, **named, "reason": _name(blocker.reason), "message": _line(blocker.message)}
    )


def _unit(unit: UnitView) -> Status:
    return _present(
        {
            "name": _name(unit.name),
            "phase": str(unit.phase),
            "ready": unit.ready,
            "total": unit.total,
            "revision": _name(unit.revision),
            "message": _line(unit.message),
        }
    )


def _source(source: SourceView) -> Status:
    return _present(
        {
            "name": source.name,
            "revision": _name(source.revision),
            "ready": source.ready is True,
            "message": _line(source.message),
        }
    )


def _history(runs: Sequence[Run]) -> list[Status]:
    return [
        _present(
            {
                "revision": _name(run.revision),
                "result": run.result,
                "startedAt": _time(run.started_at),
                "finishedAt": _time(run.finished_at),
                "durationSeconds": _between(run.started_at, run.finished_at),
                "message": _line(run.message),
            }
        )
        for run in runs[:MAX_HISTORY]
    ]


def _counts(counts: Counts) -> Status:
    return {"ready": counts.ready, "total": counts.total, "failed": counts.failed}


def _timings(timings: Timings) -> Status:
    steps = ("blocked", "fetch", "render", "apply", "health")
    return {f"{step}Seconds": _seconds(getattr(timings, step)) for step in steps}


def _drift(drift: DriftView) -> Status | None:
    if not drift.count and not drift.last_detected:
        return None
    objects = [_line(text) for text in drift.objects[:MAX_BLOCKERS]]
    return _present({"count": drift.count, "lastDetected": _time(drift.last_detected), "objects": objects})


def _prune(plan: PruneView | None) -> Status | None:
    if plan is None:
        return None
    return {
        "digest": plan.digest,
        "count": plan.count,
        "objects": [_line(text) for text in plan.objects[:MAX_BLOCKERS]],
    }


def _present(status: Status) -> Status:
    """Without what says nothing: absent values, empty texts and empty lists. Zero and False say something."""
    return {key: value for key, value in status.items() if value is not None and value not in ("", [])}


def _time(unix: float) -> str | None:
    return rfc3339(unix) if unix else None


def _seconds(seconds: float) -> float:
    return round(max(0.0, seconds), 3)


def _between(start: float, end: float) -> float | None:
    return _seconds(end - start) if start and end >= start else None


def _line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= MAX_TEXT else line[: MAX_TEXT - 1] + "…"


def _name(text: str) -> str:
    return text[:_NAME]
