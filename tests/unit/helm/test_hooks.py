"""Which hooks run when, what is deleted, and where a crash is taken up again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from clusterstack.helm.hooks import Do, HookStep, after_failure, after_success, completes, failed, plan
from clusterstack.helm.record import Hook, LastRun, Phase, Release, Status, begin, with_run


def hook(name: str, kind: str = "Job", *, weight: int = 0, events: str = "pre-install", policies: str = "") -> Hook:
    return Hook(
        name, kind, f"templates/{name}.yaml", f"kind: {kind}\n", tuple(events.split(",")), weight,
        tuple(filter(None, policies.split(","))),
    )  # fmt: skip


def told(steps: Sequence[HookStep]) -> list[str]:
    return [f"{step.do} {step.hook.name}" for step in steps]


def ran(item: Hook, phase: Phase) -> Hook:
    return replace(item, last_run=LastRun(phase, "2026-01-01T00:00:00Z"))


def test_hooks_run_by_weight_then_name_then_kind() -> None:
    hooks = [
        hook("b"), hook("a", "Role"), hook("z", weight=-5), hook("a", "ServiceAccount"),
        hook("y", events="post-install"),
    ]  # fmt: skip
    order = [(step.hook.name, step.hook.kind) for step in plan(hooks, "pre-install") if step.do is Do.CREATE]
    assert order == [("z", "Job"), ("a", "ServiceAccount"), ("a", "Role"), ("b", "Job")]


def test_a_hook_is_deleted_before_it_is_created_unless_told_otherwise() -> None:
    hooks = [hook("default"), hook("keep", policies="hook-succeeded"), hook("role", "Role")]
    assert told(plan(hooks, "pre-install")) == [
        "Delete default", "Create default", "Await default",
        "Create keep", "Await keep",
        "Delete role", "Create role", "Await role",
    ]  # fmt: skip


def test_a_crd_hook_is_awaited_and_never_deleted() -> None:
    crd = hook("crd", "CustomResourceDefinition", policies="before-hook-creation,hook-succeeded,hook-failed")
    assert told(plan([crd], "pre-install")) == ["Create crd", "Await crd"]
    assert after_success([crd], "pre-install") == ()
    assert after_failure([crd], "pre-install", 0) == ()


def test_after_a_crash_what_succeeded_is_passed_over_and_what_runs_is_awaited() -> None:
    hooks = [ran(hook("a"), Phase.SUCCEEDED), ran(hook("b"), Phase.RUNNING), hook("c")]
    assert told(plan(hooks, "pre-install")) == ["Await b", "Delete c", "Create c", "Await c"]


@pytest.mark.parametrize("phase", [Phase.UNKNOWN, Phase.NONE])
def test_a_hook_of_unknown_state_starts_anew(phase: Phase) -> None:
    assert told(plan([ran(hook("a"), phase)], "pre-install")) == ["Delete a", "Create a", "Await a"]


def test_planning_again_after_each_step_ends() -> None:
    release = Release("r", "ns", 1, Status.PENDING_INSTALL, hooks=(hook("role", "Role"), hook("job")))
    done = []
    while steps := plan(release.hooks, "pre-install"):
        step = next(step for step in steps if step.do is not Do.DELETE)
        phase = Phase.RUNNING if step.do is Do.CREATE else Phase.SUCCEEDED
        release = with_run(release, step.index, LastRun(phase, "2026-01-01T00:00:00Z"))
        done.append(f"{step.do} {step.hook.name}")
    assert done == ["Create job", "Await job", "Create role", "Await role"]


@pytest.mark.parametrize(
    ("kind", "expected"), [("Job", True), ("Pod", True), ("CustomResourceDefinition", True), ("Role", False)]
)
def test_only_what_can_complete_is_waited_for(kind: str, expected: bool) -> None:
    assert completes(hook("a", kind)) is expected


def test_nothing_is_planned_past_a_failed_hook() -> None:
    hooks = [ran(hook("a"), Phase.SUCCEEDED), ran(hook("b"), Phase.FAILED), hook("c")]
    assert plan(hooks, "pre-install") == ()
    assert failed(hooks, "pre-install") == hooks[1]


def test_deletions_after_success_go_backwards() -> None:
    hooks = [hook("a", policies="hook-succeeded"), hook("b"), hook("c", policies="hook-succeeded")]
    assert told(after_success(hooks, "pre-install")) == ["Delete c", "Delete a"]


def test_after_a_failure_the_failed_hook_and_the_succeeded_ones_before_it_are_deleted() -> None:
    hooks = [
        hook("a", policies="hook-succeeded"),
        hook("b", policies="hook-failed"),
        hook("c", policies="hook-succeeded,hook-failed"),
    ]
    assert told(after_failure(hooks, "pre-install", 1)) == ["Delete b", "Delete a"]


def test_a_hook_of_two_events_runs_at_both() -> None:
    both = hook("a", events="pre-install,post-install")
    release = begin(Release("r", "ns", 1, Status.PENDING_INSTALL, hooks=(both,)), "pre-install")
    release = with_run(release, 0, LastRun(Phase.SUCCEEDED, "2026-01-01T00:00:00Z", "2026-01-01T00:00:01Z"))
    assert plan(release.hooks, "pre-install") == ()
    release = begin(release, "post-install")
    assert release.progress == "post-install"
    assert told(plan(release.hooks, "post-install")) == ["Delete a", "Create a", "Await a"]
