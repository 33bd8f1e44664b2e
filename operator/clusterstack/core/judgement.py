"""From the state of a layer or stack to its conditions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from clusterstack.api.conditions import (
    AVAILABLE,
    DRIFTED,
    HEALTH_RULES_READY,
    HEALTHY,
    PRUNE_BLOCKED,
    READY,
    RECONCILING,
    SOURCE_READY,
    STALLED,
    SUSPENDED,
    Reason,
    drop_condition,
    set_condition,
)
from clusterstack.api.status import Phase
from clusterstack.core.rootcause import state_line
from clusterstack.core.views import LayerView, RulesView, StackView

_REASONS = {
    Phase.PENDING: Reason.PENDING,
    Phase.WAITING: Reason.WAITING,
    Phase.PROGRESSING: Reason.PROGRESSING,
    Phase.READY: Reason.SUCCEEDED,
    Phase.FAILED: Reason.FAILED,
    Phase.SUSPENDED: Reason.SUSPENDED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What the conditions say. `ready` None is Unknown; `abnormal`: what else is true, with reason and message."""

    ready: bool | None
    reason: str
    line: str
    reconciling: bool
    stalled: bool = False
    suspended: bool = False
    healthy: tuple[bool | None, str, str] | None = None
    source: tuple[bool | None, str, str] | None = None
    rules: tuple[bool, str, str] | None = None
    abnormal: Mapping[str, tuple[str, str]] = field(default_factory=dict)


def layer_judgement(view: LayerView) -> Judgement:
    """A layer's conditions. What failed and needs nobody's help is still being worked on; what waits is not stalled."""
    failed, ready = view.phase is Phase.FAILED, view.phase is Phase.READY
    stalled = failed and view.stalled
    reason = Reason.TIMED_OUT if failed and view.timed_out else view.reason or _REASONS[view.phase]
    line = state_line(view)
    if ready:
        line = f"Ready, but not healthy: {_unwell(view)}" if view.sick else view.message or _all_healthy(view)
    return Judgement(
        ready=None if view.phase in (Phase.PENDING, Phase.SUSPENDED) else ready,
        reason=Reason.SUCCEEDED if ready else reason,
        line=line,
        reconciling=not ready and not stalled and view.phase is not Phase.SUSPENDED,
        stalled=stalled,
        suspended=view.phase is Phase.SUSPENDED,
        healthy=_layer_healthy(view),
        abnormal=_layer_abnormal(view),
    )


def _layer_healthy(view: LayerView) -> tuple[bool | None, str, str]:
    """What the strict rules say of its objects, whatever policy decides whether it is Ready; None: not known."""
    if view.phase in (Phase.PENDING, Phase.WAITING, Phase.SUSPENDED):
        return None, _REASONS[view.phase], ""
    if view.sick:
        return False, (view.unwell[0].reason if view.unwell else "") or Reason.FAILED, _unwell(view)
    if view.phase is not Phase.READY and not view.objects.total:
        return None, _REASONS[view.phase], ""
    return True, Reason.HEALTHY, _all_healthy(view)


def _all_healthy(view: LayerView) -> str:
    return f"{view.objects.total} objects are healthy"


def _unwell(view: LayerView) -> str:
    first = str(next(iter(view.unwell), "an object"))
    return f"{first} (and {view.sick - 1} more)" if view.sick > 1 else first


def _layer_abnormal(view: LayerView) -> dict[str, tuple[str, str]]:
    abnormal: dict[str, tuple[str, str]] = {}
    if view.prune is not None:
        text = view.prune.message or _listing(view.prune.count, view.prune.objects, "would be deleted")
        abnormal[PRUNE_BLOCKED] = (Reason.PRUNE_BLOCKED, text)
    if view.drift.count:
        abnormal[DRIFTED] = (Reason.DRIFT_DETECTED, _listing(view.drift.count, view.drift.objects, "changed by others"))
    if view.phase is Phase.SUSPENDED:
        abnormal[SUSPENDED] = (Reason.SUSPENDED, state_line(view))
    return abnormal


def stack_phase(view: StackView) -> Phase:
    """The stack in one word: the worst of its layers that something can be done about."""
    phases = {layer.phase for layer in view.layers}
    if view.deleting:
        return Phase.PROGRESSING
    if view.suspended:
        return Phase.SUSPENDED
    if view.problems or Phase.FAILED in phases:
        return Phase.FAILED
    for phase in (Phase.PROGRESSING, Phase.WAITING, Phase.PENDING, Phase.SUSPENDED):
        if phase in phases:
            return phase
    return Phase.READY if view.layers else Phase.PENDING  # without a layer, nothing has been built yet


def stack_judgement(view: StackView, cause: str, *, revision: str) -> Judgement:
    """A stack's conditions; `cause` is the root cause in one line, without an age."""
    phase = stack_phase(view)
    ready = phase is Phase.READY
    stalled = not view.deleting and (bool(view.problems) or any(_stalled(layer) for layer in view.layers))
    reason, line = _stack_reason(view, phase, cause, revision)
    return Judgement(
        ready=None if phase in (Phase.PENDING, Phase.SUSPENDED) else ready,
        reason=reason,
        line=line,
        reconciling=bool(view.deleting) or _at_work(view, phase),
        stalled=stalled,
        suspended=phase is Phase.SUSPENDED,
        healthy=_stack_healthy(view),
        source=_source(view),
        rules=_rules(view.rules),
        abnormal=_stack_abnormal(view),
    )


def _stack_healthy(view: StackView) -> tuple[bool | None, str, str]:
    """Healthy when every layer is; not, when any is known not to be."""
    found = [(layer, *_layer_healthy(layer)) for layer in view.layers]
    wrong = [f"{layer.name}: {message}" for layer, healthy, _, message in found if healthy is False]
    if wrong:
        return False, Reason.LAYER_NOT_HEALTHY, "; ".join(wrong[:3]) + ("; …" if len(wrong) > 3 else "")
    unknown = next((reason for _, healthy, reason, _ in found if healthy is None), Reason.PENDING if not found else "")
    if unknown:
        return None, unknown, ""
    return True, Reason.HEALTHY, f"{len(found)} layers are healthy"


def _stack_reason(view: StackView, phase: Phase, cause: str, revision: str) -> tuple[str, str]:
    if view.deleting:
        return Reason.DELETING, view.deleting
    if view.suspended:
        return Reason.SUSPENDED, "suspended: set spec.suspend to false to go on"
    if view.problems:
        more = len(view.problems) - 1
        return view.problems[0].reason, str(view.problems[0]) + (f" (and {more} more)" if more else "")
    match phase:
        case Phase.READY:
            at = f" at {revision}" if revision else ""
            sick = [layer.name for layer in view.layers if layer.sick]
            but = f", but not healthy: {', '.join(sick)}" if sick else ""
            return Reason.SUCCEEDED, f"{len(view.layers)} layers are Ready{at}{but}"
        case Phase.FAILED:
            return Reason.LAYER_FAILED, cause
        case Phase.SUSPENDED:
            names = ", ".join(layer.name for layer in view.layers if layer.phase is Phase.SUSPENDED)
            return Reason.SUSPENDED, f"suspended layers: {names}"
        case Phase.PENDING if not view.layers:
            source = next((s for s in view.sources if s.ready is False), None)
            return (
                (Reason.FETCH_FAILED, f"source {source.name}: {source.message}")
                if source
                else (Reason.PENDING, "building the layers" if view.revision else "reading the sources")
            )
        case _:
            return Reason.LAYER_NOT_READY, cause


def _at_work(view: StackView, phase: Phase) -> bool:
    if view.suspended or view.problems or phase in (Phase.READY, Phase.SUSPENDED):
        return False
    if phase is Phase.FAILED:
        return any(
            layer.phase is Phase.PROGRESSING or (layer.phase is Phase.FAILED and not layer.stalled)
            for layer in view.layers
        )
    return True


def _stalled(layer: LayerView) -> bool:
    return layer.phase is Phase.FAILED and layer.stalled


def _source(view: StackView) -> tuple[bool | None, str, str]:
    for source in view.sources:
        if source.ready is False:
            return False, source.reason or Reason.FETCH_FAILED, f"{source.name}: {source.message}"
    for source in view.sources:
        if source.ready is None:
            return None, Reason.FETCHING, f"{source.name}: not fetched yet"
    return True, Reason.FETCHED, ", ".join(f"{source.name}: {source.revision}" for source in view.sources)


def _rules(view: RulesView | None) -> tuple[bool, str, str] | None:
    """Whether every cluster-wide health rule is in force; those that are wrong by key, index and field."""
    if view is None:
        return None
    rules = f"{view.count} {'rule' if view.count == 1 else 'rules'}"
    if not view.problems:
        risks = "; ".join(view.warnings[:3])
        return True, Reason.RULES_LOADED, f"{view.source}: {rules}" + (f"; {risks}" if risks else "")
    more = len(view.problems) - 3
    wrong = "; ".join(view.problems[:3]) + (f" (and {more} more)" if more > 0 else "")
    return False, Reason.RULE_INVALID, f"{view.source}: {wrong}; {rules} in force"


def _stack_abnormal(view: StackView) -> dict[str, tuple[str, str]]:
    abnormal: dict[str, tuple[str, str]] = {}
    for type_ in (PRUNE_BLOCKED, DRIFTED):
        found = [(layer.name, *one) for layer in view.layers if (one := _layer_abnormal(layer).get(type_))]
        if found:
            abnormal[type_] = (found[0][1], "; ".join(f"{name}: {text}" for name, _, text in found[:3]))
    suspended = [layer.name for layer in view.layers if layer.phase is Phase.SUSPENDED]
    if view.suspended:
        abnormal[SUSPENDED] = (Reason.SUSPENDED, "the whole stack is suspended")
    elif suspended:
        abnormal[SUSPENDED] = (Reason.SUSPENDED, f"suspended layers: {', '.join(suspended)}")
    return abnormal


def _listing(count: int, objects: tuple[str, ...], what: str) -> str:
    first = ", ".join(objects[:3])
    more = f" and {count - 3} more" if count > 3 and first else ""
    noun = "object" if count == 1 else "objects"
    return f"{count} {noun} {what}" + (f": {first}{more}" if first else "")


def with_conditions(
    previous: Mapping[str, Any], judgement: Judgement, *, generation: int, now: str
) -> list[dict[str, Any]]:
    """The conditions of a status, keeping the transition times of those that the previous status had."""
    conditions: list[dict[str, Any]] = [dict(condition) for condition in previous.get("conditions") or ()]

    def put(type_: str, status: bool | None, reason: str, message: str) -> None:
        nonlocal conditions
        conditions = set_condition(
            conditions, type_, status, reason=reason, message=message, generation=generation, now=now
        )

    put(READY, judgement.ready, judgement.reason, judgement.line)
    put(AVAILABLE, judgement.ready, judgement.reason, judgement.line)
    idle = Reason.SUSPENDED if judgement.suspended else judgement.reason if judgement.stalled else Reason.SUCCEEDED
    put(
        RECONCILING,
        judgement.reconciling,
        judgement.reason if judgement.reconciling else idle,
        judgement.line if judgement.reconciling else "",
    )
    put(
        STALLED,
        judgement.stalled,
        judgement.reason if judgement.stalled else "NotStalled",
        judgement.line if judgement.stalled else "",
    )
    if judgement.healthy is not None:
        put(HEALTHY, *judgement.healthy)
    if judgement.source is not None:
        put(SOURCE_READY, *judgement.source)
    if judgement.rules is not None:
        put(HEALTH_RULES_READY, *judgement.rules)
    else:
        conditions = drop_condition(conditions, HEALTH_RULES_READY)
    for type_ in (PRUNE_BLOCKED, DRIFTED, SUSPENDED):
        if type_ in judgement.abnormal:
            put(type_, True, *judgement.abnormal[type_])
        else:
            conditions = drop_condition(conditions, type_)
    return conditions
