"""A layer as it is shown: the plain values of `core.views`, read off the coroutines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clusterstack.api.status import Phase
from clusterstack.core.verdict import Assessment
from clusterstack.core.views import Counts, DriftView, LayerView, UnitView
from clusterstack.engine.unit import UnitState

if TYPE_CHECKING:
    from clusterstack.core.gates import Blocker
    from clusterstack.engine.layer import Layer

SHOWN = 3


def layer_view(layer: Layer, assessment: Assessment) -> LayerView:
    """All that is shown of a layer, now."""
    content, chronicle, states = layer.content, layer.chronicle, layer.states()
    assert content is not None
    waiting = assessment.phase is Phase.WAITING
    blockers = () if waiting or assessment.phase is Phase.READY else layer.blockers()
    return LayerView(
        name=layer.name,
        phase=assessment.phase,
        since=chronicle.since_phase(str(assessment.phase)),
        revision=chronicle.revision or content.revision,
        digest=content.digest,
        depends_on=content.spec.depends_on,
        after=content.spec.after,
        objects=Counts(
            sum(state.ready for state in states),
            sum(state.total for state in states),
            sum(state.failed for state in states),
            sum(unit.keeper.board.passed for unit in layer.units),
        ),
        waiting_on=layer.waiting if waiting else (),
        blocking=blockers,
        unwell=_unwell(layer),
        sick=_sick(layer),
        reason=assessment.reason,
        message=assessment.message,
        stalled=assessment.stalled,
        timed_out=chronicle.timed_out,
        timings=chronicle.timings(),
        started_at=chronicle.opened_at,
        applied_at=chronicle.applied_at,
        ready_at=chronicle.ready_at,
        last_duration=chronicle.last_duration,
        drift=_drift(layer),
        prune=layer.prune,
        units=tuple(_unit(state) for state in states if state.name),
        warnings=tuple(f"{claim.ref} is also declared here; layer {claim.owner} owns it" for claim in content.claims)
        + content.warnings
        + tuple(warning for release in content.releases for warning in release.warnings)
        + tuple(problem.message for problem in content.problems)
        + tuple(warning for unit in layer.units for warning in unit.warnings)
        + tuple(f"{ref}: {note}" for unit in layer.units for ref, note in sorted(unit.keeper.board.notes.items())),
        history=chronicle.history,
        generation=1,
    )


def _unwell(layer: Layer) -> tuple[Blocker, ...]:
    """What the strict rules find wrong, the telling ones of each unit first; else what the unit itself is at."""
    found: list[Blocker] = []
    for unit in layer.units:
        pending = unit.state().pending
        found += list(unit.keeper.board.sickest(SHOWN)) or ([pending] if pending is not None else [])
    return tuple(found[:SHOWN])


def _sick(layer: Layer) -> int:
    return sum(len(unit.keeper.board.unwell) or unit.state().pending is not None for unit in layer.units)


def _drift(layer: Layer) -> DriftView:
    drifted = {ref: writer for unit in layer.units for ref, writer in unit.keeper.board.drifted.items()}
    lines = tuple(f"{ref}: changed by {writer}" for ref, writer in sorted(drifted.items())[:10])
    return DriftView(count=len(drifted), objects=lines)


def _unit(state: UnitState) -> UnitView:
    if state.healthy:
        phase = Phase.READY
    elif state.broken:
        phase = Phase.FAILED
    else:
        phase = Phase.PROGRESSING
    message = str(state.pending) if state.pending is not None else ""
    return UnitView(
        name=state.name,
        phase=phase,
        ready=state.ready,
        total=state.total,
        revision=str(state.revision or ""),
        message=message,
    )
