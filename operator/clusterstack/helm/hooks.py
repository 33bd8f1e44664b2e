"""What is left to do for a hook event, as a list of steps: what to delete, create and wait for.

The order, and when a hook is deleted, are Helm's (pkg/action/hooks.go). Where a crash left off is read from the hooks'
last runs in the record: `record.begin` clears them when an event starts, so what has run since belongs to that event.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from clusterstack.helm.order import install_rank
from clusterstack.helm.record import Hook, Phase

INSTALL = ("pre-install", "post-install")
UPGRADE = ("pre-upgrade", "post-upgrade")
ROLLBACK = ("pre-rollback", "post-rollback")
DELETE = ("pre-delete", "post-delete")
TEST = "test"

BEFORE_CREATION = "before-hook-creation"
ON_SUCCESS = "hook-succeeded"
ON_FAILURE = "hook-failed"

AWAITED_KINDS = frozenset({"Job", "Pod", "CustomResourceDefinition"})


class Do(StrEnum):
    """One step with one hook's object."""

    DELETE = "Delete"  # and wait until it is gone
    CREATE = "Create"
    AWAIT = "Await"  # until it has completed, having created it if a crash came before; see `completes`


@dataclass(frozen=True, slots=True)
class HookStep:
    """`index` is the hook's place in the release's list of hooks."""

    do: Do
    index: int
    hook: Hook


def in_order(hooks: Sequence[Hook], event: str) -> tuple[tuple[int, Hook], ...]:
    """The hooks of an event in the order they run: by weight, then name, then Helm's order of kinds."""
    chosen = [(index, hook) for index, hook in enumerate(hooks) if event in hook.events]
    by_kind = sorted(chosen, key=lambda item: install_rank(item[1].kind))
    return tuple(sorted(by_kind, key=lambda item: (item[1].weight, item[1].name)))


def plan(hooks: Sequence[Hook], event: str) -> tuple[HookStep, ...]:
    """The steps still to take for an event, in order.

    A hook that has succeeded is passed over; one that is running is waited for, not created again unless it is absent
    (the record says so before the object is created); one whose state is unknown, or that never ran, starts anew.
    Nothing is planned past a hook that has failed. Planning again once a creation or a wait is noted comes to the same.
    """
    steps: list[HookStep] = []
    for index, hook in in_order(hooks, event):
        match hook.last_run.phase:
            case Phase.SUCCEEDED:
                continue
            case Phase.FAILED:
                break
            case Phase.RUNNING:
                steps.append(HookStep(Do.AWAIT, index, hook))
            case _:
                steps.extend(_start(index, hook))
    return tuple(steps)


def failed(hooks: Sequence[Hook], event: str) -> Hook | None:
    """The hook of an event that has failed."""
    return next((hook for _, hook in in_order(hooks, event) if hook.last_run.phase is Phase.FAILED), None)


def after_success(hooks: Sequence[Hook], event: str) -> tuple[HookStep, ...]:
    """The deletions once every hook of an event has succeeded: those that ask for it, the last one first."""
    return tuple(_delete(index, hook) for index, hook in reversed(in_order(hooks, event)) if _deletes(hook, ON_SUCCESS))


def after_failure(hooks: Sequence[Hook], event: str, failed: int) -> tuple[HookStep, ...]:
    """The deletions once the hook at index `failed` has failed: itself, and those before it that had succeeded."""
    ordered = in_order(hooks, event)
    position = next(place for place, (index, _) in enumerate(ordered) if index == failed)
    steps = [_delete(index, hook) for index, hook in ordered[position : position + 1] if _deletes(hook, ON_FAILURE)]
    steps.extend(_delete(index, hook) for index, hook in ordered[:position] if _deletes(hook, ON_SUCCESS))
    return tuple(steps)


def completes(hook: Hook) -> bool:
    """Whether a hook's object has to complete, or to be established; every other kind is done once it exists."""
    return hook.kind in AWAITED_KINDS


def delete_policies(hook: Hook) -> tuple[str, ...]:
    """When a hook's object is deleted: before the next creation, unless the chart says otherwise."""
    return hook.delete_policies or (BEFORE_CREATION,)


def _start(index: int, hook: Hook) -> tuple[HookStep, ...]:
    run = (HookStep(Do.CREATE, index, hook), HookStep(Do.AWAIT, index, hook))
    return (_delete(index, hook), *run) if _deletes(hook, BEFORE_CREATION) else run


def _delete(index: int, hook: Hook) -> HookStep:
    return HookStep(Do.DELETE, index, hook)


def _deletes(hook: Hook, policy: str) -> bool:
    """A CRD is never deleted by a hook policy: all its objects would go with it."""
    return hook.kind != "CustomResourceDefinition" and policy in delete_policies(hook)
