"""A play says how one operator treats one kind. Most are a list of statuses."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from testbed.simulator.conditions import Status, ready
from testbed.simulator.objects import Obj
from testbed.simulator.operators import Operator
from testbed.simulator.scene import Scene

Run = Callable[[Scene], Awaitable[None]]
MakeStatus = Callable[[Obj], Status]


@dataclass(frozen=True, slots=True)
class Play:
    """`resource` is the CRD's name; `failure` the status of an object that is to be played failed.

    `applies` picks the objects that are played; a `quiet` play leaves no trace of itself in the journal.
    An `informational` status says nothing about health until it tells of a failure: such an object is healthy as soon
    as it is there, and the journal calls the status `noted`.
    """

    resource: str
    operator: Operator | None
    run: Run
    failure: Mapping[str, Any] = field(default_factory=lambda: ready(False, "SimulatedFailure", "played broken"))
    applies: Callable[[Obj], bool] = lambda _: True
    quiet: bool = False
    informational: bool = False


def steps(*statuses: MakeStatus | Status, then: Run | None = None) -> Run:
    """Writes one status after the other, evenly over the object's delay; `then` comes right before the last.

    An object that is healthy already (the simulator started anew, the spec changed) goes straight to the last.
    """

    async def run(scene: Scene) -> None:
        *earlier, last = [make if callable(make) else _constant(make) for make in statuses]
        if not _holds(last(scene.obj), scene.obj):
            share = 1 / max(1, len(earlier))
            for make in earlier:
                await scene.progress(make(scene.obj))
                await scene.wait(share)
            if not earlier:
                await scene.wait()
        if then is not None:
            await then(scene)
        await scene.healthy(last(scene.obj))

    return run


def _constant(status: Status) -> MakeStatus:
    return lambda _: status


def _holds(wanted: Status, obj: Obj) -> bool:
    """Whether the object's status says `wanted` already, times aside."""
    current = obj.get("status") or {}
    return all(_bare(current.get(name)) == _bare(value) for name, value in wanted.items())


def _bare(value: object) -> object:
    if isinstance(value, Mapping):
        return {name: _bare(entry) for name, entry in value.items() if "Time" not in name and name != "lastUpdated"}
    return [_bare(entry) for entry in value] if isinstance(value, list) else value
