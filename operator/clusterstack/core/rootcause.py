"""Why a stack is not Ready, in one line: the blocker at the end of the chain, not the layers that wait for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from clusterstack.api.status import Phase
from clusterstack.core.gates import Blocker
from clusterstack.core.timeline import elapsed
from clusterstack.core.views import LayerView


@dataclass(frozen=True, slots=True)
class Cause:
    """The layer where the chain of waiting ends, and what is wrong there (None: it is simply at work)."""

    layer: str
    blocker: Blocker | None
    since: float


def root_cause(layers: Iterable[LayerView]) -> Cause | None:
    """The blocker that keeps most layers from being Ready; failures come before what is merely on its way.

    From each layer that is not Ready the links of `waiting_on` are followed to layers that wait for no other layer.
    None when every layer is Ready or suspended without anything waiting for it.
    """
    views = {view.name: view for view in layers}
    links = {name: _links(view, views) for name, view in views.items() if view.phase is not Phase.READY}
    waiting: dict[str, list[str]] = {}
    for name, targets in links.items():
        for target in targets:
            waiting.setdefault(target, []).append(name)
    ends = [name for name, targets in links.items() if not targets and _wanting(views[name], waiting)]
    if not ends:
        return None
    return _cause(views[min(ends, key=lambda name: (_severity(views[name]), -_reach(name, waiting)))])


def cause_line(cause: Cause, view: LayerView, *, now: float) -> str:
    """`operators: waiting for Deployment keda/keda-operator 0/1: ImagePullBackOff (41s)`; a failure shows no age."""
    shown = view.phase is not Phase.FAILED and cause.since and now >= cause.since + 1
    age = f" ({elapsed(now - cause.since)})" if shown else ""
    return f"{view.name}: {state_line(view)}{age}"


def state_line(view: LayerView) -> str:
    """What a layer is doing, waiting for, or failed on; without its name and without ages, so it changes rarely."""
    first = next(iter(view.waiting_on or view.blocking), None)
    match view.phase:
        case Phase.WAITING if view.waiting_on:
            return f"waiting for {_several(view.waiting_on)}"
        case Phase.FAILED:
            what = view.message or (str(first) if first else "")
            if what.startswith("timed out"):
                return what
            return ": ".join(part for part in ("timed out" if view.timed_out else "failed", what) if part)
        case Phase.PROGRESSING if view.blocking and view.applied_at:
            return f"waiting for {_several(view.blocking)}"
        case Phase.PROGRESSING if view.message:
            return view.message
        case Phase.PROGRESSING:
            blocked = f", waiting for {view.blocking[0]}" if view.blocking and _telling(view.blocking[0]) else ""
            return f"applying {view.objects}{blocked}"
        case Phase.SUSPENDED:
            return view.message or "suspended"
        case Phase.PENDING:
            return view.message or "not started yet"
        case _:
            return view.message


def _several(blockers: Sequence[Blocker]) -> str:
    layers = [blocker.layer for blocker in blockers if blocker.layer]
    if layers and len(layers) == len(blockers):
        return f"layer {layers[0]}" if len(layers) == 1 else f"layers {', '.join(layers)}"
    more = len(blockers) - 1
    return f"{blockers[0]} and {more} more" if more else str(blockers[0])


def _telling(blocker: Blocker) -> bool:
    return blocker.reason != Phase.PENDING


def _links(view: LayerView, views: Mapping[str, LayerView]) -> tuple[str, ...]:
    """The layers that a layer waits for; one that is Ready already is no cause of anything."""
    names = (blocker.layer for blocker in view.waiting_on if blocker.layer)
    return tuple(name for name in names if name in views and views[name].phase is not Phase.READY)


def _wanting(view: LayerView, waiting: Mapping[str, Sequence[str]]) -> bool:
    return view.phase is not Phase.SUSPENDED or view.name in waiting


def _reach(name: str, waiting: Mapping[str, Sequence[str]]) -> int:
    """How many layers wait for this one, directly or not."""
    seen = {name}
    todo = [name]
    while todo:
        fresh = [other for other in waiting.get(todo.pop(), ()) if other not in seen]
        seen.update(fresh)
        todo.extend(fresh)
    return len(seen)


def _severity(view: LayerView) -> int:
    if view.phase is Phase.FAILED:
        return 0
    if view.blocking or view.waiting_on or view.phase is Phase.SUSPENDED:
        return 1
    return 2


def _cause(view: LayerView) -> Cause:
    return Cause(view.name, next(iter((*view.waiting_on, *view.blocking)), None), view.since)
