"""The simulated critical path, out of journals written by hand."""

from __future__ import annotations

from typing import Any

import pytest

from testbed.simulator.critical import CycleError, Group, Item, critical_path

BASE = "2026-01-01T00:00:{:06.3f}+00:00"


def line(state: str, kind: str, name: str, *, at: float = 0.0, **more: Any) -> dict[str, Any]:
    known = {"Deployment": "apps/v1", "Secret": "v1"}
    entry = {"state": state, "apiVersion": known.get(kind, "x.io/v1"), "kind": kind, "namespace": "n", "name": name}
    return {**entry, "time": BASE.format(at), **more}


def workload(name: str, *, seconds: float, seen: float = 0.0) -> list[dict[str, Any]]:
    return [line("seen", "Deployment", name, at=seen), line("healthy", "Deployment", name, at=seen + seconds)]


def needed(kind: str, name: str) -> dict[str, str]:
    return {"kind": kind, "namespace": "n", "name": name}


def item(kind: str, name: str) -> Item:
    return Item(kind, "n", name)


def test_an_object_waits_for_its_operator_and_then_takes_its_delay() -> None:
    entries = [
        *workload("operator", seconds=3),
        line("unblocked", "Thing", "a", waitedFor=needed("Deployment", "operator"), waited=0.0),
        line("healthy", "Thing", "a", at=50, waited=10.0),
    ]
    path = critical_path(entries, [Group("all")], lambda _: "all")
    assert path.seconds == pytest.approx(13)
    assert [step.item.name for step in path.steps] == ["operator", "a"]


def test_what_the_operator_under_test_wasted_is_not_in_it() -> None:
    entries = [*workload("late", seconds=2, seen=40), line("healthy", "Thing", "a", at=59, waited=5.0)]
    assert critical_path(entries, [Group("all")], lambda _: "all").seconds == pytest.approx(5)


def test_a_workload_without_its_service_account_counts_from_when_it_has_it() -> None:
    entries = [
        line("seen", "Deployment", "controller"),
        line("created", "ServiceAccount", "x", by=needed("Thing", "a"), waited=0.0),
        line("unblocked", "Deployment", "controller", at=30, waitedFor=needed("ServiceAccount", "x"), waited=0.0),
        line("healthy", "Deployment", "controller", at=32),
        line("healthy", "Thing", "a", waited=1.0),
    ]
    member = {"Deployment": "all", "Thing": "all"}
    assert critical_path(entries, [Group("all")], lambda found: member.get(found.kind)).seconds == pytest.approx(2)


def test_a_need_in_mid_delay_adds_only_what_is_left() -> None:
    entries = [
        *workload("slow", seconds=8),
        line("unblocked", "Thing", "a", waitedFor=needed("Deployment", "slow"), waited=6.0),
        line("healthy", "Thing", "a", waited=10.0),
    ]
    assert critical_path(entries, [Group("all")], lambda _: "all").seconds == pytest.approx(12)


def test_groups_start_when_those_before_them_are_done() -> None:
    entries = [
        line("healthy", "Thing", name, waited=seconds) for name, seconds in {"a": 4.0, "b": 7.0, "c": 1.0}.items()
    ]
    groups = [Group("one"), Group("part", part_of="one"), Group("two", after=["one"])]
    path = critical_path(entries, groups, lambda found: {"a": "one", "b": "part", "c": "two"}[found.name])
    assert path.seconds == pytest.approx(8)
    assert [step.item.name for step in path.steps] == ["b", "c"]


def test_a_release_waits_for_the_secret_that_an_external_secret_makes() -> None:
    entries = [
        line("created", "Secret", "login", by=needed("ExternalSecret", "login"), waited=9.0),
        line("healthy", "ExternalSecret", "login", waited=9.0),
        *workload("app", seconds=2),
    ]
    groups = [Group("layer"), Group("release", needs=[item("Secret", "login")], part_of="layer")]
    member = {"ExternalSecret": "layer", "Deployment": "release", "Secret": None}
    assert critical_path(entries, groups, lambda found: member[found.kind]).seconds == pytest.approx(11)


def test_guarded_kinds_wait_for_their_webhook_and_its_certificate() -> None:
    entries = [
        *workload("guard", seconds=2),
        line("created", "Secret", "certificate", by=needed("Deployment", "guard"), waited=6.0),
        line("healthy", "Webhook", "guard", deployments=["guard"], secret="certificate", guards=["Thing.x.io"]),
        line("healthy", "Thing", "a", waited=1.0),
    ]
    member = {"Deployment": "all", "Thing": "all"}
    assert critical_path(entries, [Group("all")], lambda found: member.get(found.kind)).seconds == pytest.approx(9)


def test_what_was_there_before_a_webhook_was_not_held_up_by_it() -> None:
    entries = [
        line("seen", "Thing", "a"),
        *workload("guard", seconds=2),
        line("healthy", "Webhook", "guard", deployments=["guard"], guards=["Thing.x.io"]),
        line("healthy", "Thing", "a", waited=1.0),
    ]
    member = {"Deployment": "all", "Thing": "all"}
    assert critical_path(entries, [Group("all")], lambda found: member.get(found.kind)).seconds == pytest.approx(2)


def test_groups_that_wait_for_one_another_are_refused() -> None:
    entries = [line("healthy", "Thing", "a", waited=1.0)]
    groups = [Group("one", after=["two"]), Group("two", after=["one"])]
    with pytest.raises(CycleError, match="waits for itself"):
        critical_path(entries, groups, lambda _: "one")


def test_what_needs_another_only_to_exist_does_not_wait_for_its_delay() -> None:
    entries = [
        line("healthy", "Route", "r", waited=9.0),
        line("unblocked", "Policy", "p", waitedFor=needed("Route", "r"), waited=0.0, begun=True),
        line("healthy", "Policy", "p", waited=4.0),
    ]
    path = critical_path(entries, [Group("all")], lambda found: "all" if found.kind == "Policy" else None)
    assert path.seconds == pytest.approx(4)
