"""One layer: gates, content that comes and goes, time-outs, failures, and what its neighbours are told."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

import pytest

from clusterstack.core.content import Problem
from clusterstack.core.gates import LayerFacts
from clusterstack.core.health import State, Verdict
from clusterstack.core.objects import ObjectRef, ref_of
from clusterstack.engine.judge import Judge
from clusterstack.errors import ApiError, TransportError
from clusterstack.kube.live import Live
from tests.engine.clock import settle
from tests.engine.cluster import Call, Gatekeeper
from tests.engine.home import (
    STACK,
    Home,
    available,
    config_map,
    crd,
    custom,
    deployment,
    layering,
    namespace,
    unavailable,
)

A, B = ref_of(config_map("a")), ref_of(config_map("b"))
WEB = ref_of(deployment("web"))
BASE = ObjectRef("clusterstack.dev", "StackLayer", "", f"{STACK}.base")
INVENTORY = ObjectRef("", "ConfigMap", "operator", f"clusterstack.{STACK}.base.0")


async def test_a_dependant_writes_its_first_object_after_ready_was_acknowledged_by_the_api_server(home: Home) -> None:
    gate, neighbours = Gatekeeper(), dict[str, LayerFacts]()
    home.cluster.before("apply_status", gate, BASE)
    async with (
        layering(home, "base", neighbours=neighbours) as base,
        layering(home, "top", neighbours=neighbours) as top,
    ):
        await base.put(home.content(config_map("a")))
        await top.put(home.content(config_map("b"), layer="top", dependsOn=["base"]))
        assert gate.waiting
        assert top.phase == "Waiting"
        assert "layer base" in top.message
        assert B not in home.cluster.of("apply")
        gate.open()
        await top.ready()
    order = [(call.verb, call.ref.name) for call in home.cluster.writes]
    assert order.index(("apply_status", BASE.name)) < order.index(("apply", "b"))


async def test_a_kind_that_another_layer_brings_is_waited_for_and_that_layer_is_named(home: Home) -> None:
    home.context.learn("base", [crd("Widget")])
    async with layering(home, "top") as top:
        await top.put(home.content(custom("Widget", "w"), layer="top"))
        assert top.phase == "Progressing"
        assert "kind Widget.example.com is not served yet: layer base brings it" in top.message


async def test_a_ready_that_cannot_be_written_is_kept_back_until_it_can(home: Home) -> None:
    home.cluster.before("apply_status", failing_until(home, 20.0, ApiError("busy", status=503)), BASE)
    async with layering(home) as base:
        await base.put(home.content(config_map("a")))
        await home.clock.advance(10)
        assert not base.layer.facts.done
        await base.ready()
        assert base.published == "Ready"
    assert 20 <= home.clock.elapsed <= 25


@pytest.mark.parametrize("error", [ApiError("busy", status=503), TransportError("no route")])
async def test_an_inventory_that_cannot_be_written_is_waited_for_and_nothing_is_applied_before(
    home: Home, error: Exception
) -> None:
    home.cluster.before("apply", failing_until(home, 20.0, error), INVENTORY)
    async with layering(home) as base:
        await base.put(home.content(config_map("a")))
        await home.clock.advance(10)
        assert A not in home.cluster.of("apply")
        assert base.phase == "Progressing"
        assert "inventory" in base.message
        await base.ready()


async def test_an_inventory_that_cannot_be_written_in_the_end_keeps_ready_back_and_nothing_else(home: Home) -> None:
    async with layering(home) as base:
        await base.put(home.content(deployment("web")))
        home.cluster.before("apply", failing_until(home, 20.0, TransportError("no route")), INVENTORY)
        available(home.cluster, WEB)
        await home.clock.advance(10)
        assert not base.layer.facts.done
        await base.ready()


async def test_a_dependency_that_is_not_healthy_holds_its_dependants_back(home: Home) -> None:
    neighbours: dict[str, LayerFacts] = {}
    async with (
        layering(home, "base", neighbours=neighbours) as base,
        layering(home, "top", neighbours=neighbours) as top,
    ):
        await top.put(home.content(config_map("b"), layer="top", dependsOn=["base"]))
        await base.put(home.content(deployment("web")))
        assert top.phase == "Waiting"
        available(home.cluster, WEB)
        await settle()
        assert top.layer.facts.done
    assert home.clock.elapsed == 0.0


async def test_a_dependency_that_degrades_later_does_not_disturb_its_dependants(home: Home) -> None:
    neighbours: dict[str, LayerFacts] = {}
    async with (
        layering(home, "base", neighbours=neighbours) as base,
        layering(home, "top", neighbours=neighbours) as top,
    ):
        await base.put(home.content(deployment("web")))
        await top.put(home.content(config_map("b"), layer="top", dependsOn=["base"]))
        available(home.cluster, WEB)
        await top.ready()
        unavailable(home.cluster, WEB)
        await settle()
        assert base.phase == "Progressing"
        assert top.phase == "Ready"
        await top.put(home.content(config_map("b", key="new"), layer="top", dependsOn=["base"]))
        assert top.phase == "Waiting"  # … but it holds back what is new


@pytest.mark.parametrize("phase", ["Failed", "timed out", "Suspended"])
async def test_after_opens_when_the_other_layer_is_done_with_whatever_the_end(home: Home, phase: str) -> None:
    neighbours: dict[str, LayerFacts] = {}
    async with (
        layering(home, "base", neighbours=neighbours) as base,
        layering(home, "top", neighbours=neighbours) as top,
    ):
        await top.put(home.content(config_map("b"), layer="top", after=["base"]))
        match phase:
            case "Failed":
                await base.put(home.content(broken=Problem("BuildFailed", "no such file")))
            case "timed out":
                await base.put(home.content(deployment("web"), timeout="1m"))
                assert top.phase == "Waiting"
                await home.clock.advance(61)
            case _:
                await base.put(home.content(config_map("a"), suspend=True))
        await settle()
        assert B in home.cluster.of("apply")


async def test_a_layer_waits_for_the_objects_that_it_requires_and_starts_the_moment_they_are_there(home: Home) -> None:
    requires = [{"apiVersion": "v1", "kind": "Secret", "name": "auth", "namespace": "apps"}]
    async with layering(home) as base:
        await base.put(home.content(config_map("a"), requires=requires))
        assert base.phase == "Waiting"
        assert base.message == "waiting for Secret apps/auth: does not exist yet"
        home.cluster.put({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "auth", "namespace": "apps"}})
        await settle()
        assert base.layer.facts.done
    assert home.clock.elapsed == 0.0
    assert home.cluster.held == 0


async def test_what_a_layer_requires_may_be_of_a_kind_that_is_not_served_yet(home: Home) -> None:
    requires = [{"apiVersion": "example.com/v1", "kind": "Widget", "name": "w", "namespace": "apps"}]
    async with layering(home) as base:
        await base.put(home.content(config_map("a"), requires=requires, health={"policy": "Exists"}))
        assert "is not served yet" in base.message
        home.cluster.serve("example.com/v1", "Widget")
        await settle()
        assert base.message == "waiting for Widget apps/w: does not exist yet"
        home.cluster.put(custom("Widget", "w"))
        await settle()
        assert base.layer.facts.done


async def test_what_a_layer_requires_is_judged_again_when_only_time_has_passed(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    due = home.clock.wall().timestamp() + 30

    def judged(self: Judge, live: Live) -> Verdict:
        if home.clock.wall().timestamp() < due:
            return Verdict(State.IN_PROGRESS, "NoStatus", "not yet", "generic", due)
        return Verdict(State.CURRENT, "NoStatus", "", "generic")

    monkeypatch.setattr(Judge, "judge", judged)
    requires = [{"apiVersion": "v1", "kind": "ConfigMap", "name": "b", "namespace": "apps"}]
    home.cluster.put(config_map("b"))
    async with layering(home) as base:
        await base.put(home.content(requires=requires))
        assert base.phase == "Waiting"
        assert 30 <= await base.ready() <= 31


async def test_health_checks_hold_ready_back_but_not_the_layers_own_objects(home: Home) -> None:
    checks = [{"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "namespace": "apps"}]
    async with layering(home) as base:
        await base.put(home.content(config_map("a"), health={"checks": checks}))
        assert A in home.cluster.of("apply")
        assert base.phase == "Progressing"
        home.cluster.put(deployment("web"))
        available(home.cluster, WEB)
        await settle()
        assert base.layer.facts.done
        unavailable(home.cluster, WEB)
        await settle()
        assert base.phase == "Progressing"


async def test_new_content_takes_over_a_waiting_layer_at_once(home: Home) -> None:
    async with layering(home) as base:
        await base.put(home.content(config_map("a"), dependsOn=["elsewhere"]))
        assert base.phase == "Waiting"
        await base.put(home.content(config_map("b")))
        assert base.layer.facts.done
        assert B in home.cluster.objects
        assert A not in home.cluster.objects
    assert home.clock.elapsed == 0.0


async def test_new_content_takes_over_a_layer_whose_objects_never_become_healthy(home: Home) -> None:
    async with layering(home) as base:
        await base.put(home.content(deployment("web")))
        assert base.phase == "Progressing"
        await base.put(home.content(config_map("b")))
        assert base.layer.facts.done
    assert home.clock.elapsed == 0.0


@pytest.mark.parametrize("steps", range(14))
async def test_a_layer_never_says_done_between_the_arrival_of_new_content_and_its_apply(home: Home, steps: int) -> None:
    async with layering(home) as base:
        await base.put(home.content(deployment("web"), config_map("a", key="1")))
        available(home.cluster, WEB)
        await base.ready()
        base.layer.contents.put(home.content(deployment("web"), config_map("a", key="2")))
        for _ in range(steps):
            await asyncio.sleep(0)
        unavailable(home.cluster, WEB)
        available(home.cluster, WEB)  # wakes the layer at every possible moment; `told` checks what it says
        await base.ready()
        assert home.cluster.objects[A]["data"] == {"key": "2"}


async def test_content_that_comes_back_while_its_successor_is_being_applied_is_applied_again(home: Home) -> None:
    async with layering(home) as base:
        first, gate = home.content(config_map("a", key="1"), config_map("b", key="1")), Gatekeeper()
        await base.put(first)
        assert base.layer.facts.done
        home.cluster.before("apply", gate, B)
        await base.put(home.content(config_map("a", key="2"), config_map("b", key="2")))
        assert home.cluster.objects[A]["data"] == {"key": "2"}
        base.layer.contents.put(first)
        gate.open()
        home.cluster.relent("apply")
        await base.ready()
        assert home.cluster.objects[A]["data"] == home.cluster.objects[B]["data"] == {"key": "1"}


async def test_the_same_content_of_a_new_revision_restarts_nothing_and_writes_nothing(home: Home) -> None:
    async with layering(home) as base:
        await base.put(home.content(config_map("a"), deployment("web")))
        available(home.cluster, WEB)
        await base.ready()
        await home.clock.advance(5)
        units, writes = list(base.layer.units), len(home.cluster.writes)
        await base.put(home.content(config_map("a"), deployment("web"), revision="r2"))
        await home.clock.advance(60)
        assert base.layer.units == units
        assert base.layer.facts.done
    assert len(home.cluster.writes) == writes


async def test_a_broken_build_leaves_the_last_good_content_at_work(home: Home) -> None:
    async with layering(home) as base:
        good = home.content(config_map("a", key="ours"))
        await base.put(good)
        await base.put(home.content(broken=Problem("BuildFailed", "base/x.yaml: line 3: oops"), revision="r2"))
        assert base.phase == "Failed"
        assert base.message == "base/x.yaml: line 3: oops"
        assert not base.layer.facts.done
        home.cluster.change(A, lambda found: found["data"].update(key="theirs"))
        await settle()
        assert home.cluster.objects[A]["data"] == {"key": "ours"}
        await base.put(good)
        assert base.layer.facts.done
    assert not home.cluster.of("delete")


async def test_a_suspended_layer_leaves_everything_as_it_is_until_it_is_resumed(home: Home) -> None:
    async with layering(home) as base:
        await base.put(home.content(config_map("a", key="ours")))
        await base.put(home.content(config_map("a", key="ours"), suspend=True))
        await home.clock.advance(5)
        assert base.published == "Suspended"
        assert not base.layer.facts.done
        home.cluster.change(A, lambda found: found["data"].update(key="theirs"))
        await home.clock.advance(60)
        assert home.cluster.objects[A]["data"] == {"key": "theirs"}
        await base.put(home.content(config_map("a", key="ours")))
        await base.ready()
        await home.clock.advance(5)
        assert home.cluster.objects[A]["data"] == {"key": "ours"}
        assert base.published == "Ready"


async def test_new_content_that_is_suspended_is_neither_applied_nor_called_done(home: Home) -> None:
    async with layering(home) as base:
        await base.put(home.content(config_map("a", key="1")))
        await base.put(home.content(config_map("a", key="2"), suspend=True))
        await home.clock.advance(5)
        assert base.published == "Suspended"
        assert home.cluster.objects[A]["data"] == {"key": "1"}


async def test_a_time_out_is_published_with_what_is_not_healthy_and_the_work_goes_on(home: Home) -> None:
    async with layering(home) as base:
        await base.put(home.content(deployment("web"), config_map("a"), timeout="5m"))
        await home.clock.advance(299)
        assert base.phase == "Progressing"
        await home.clock.advance(5)
        assert base.published == "Failed"
        assert base.message.startswith("timed out waiting for Deployment apps/web")
        assert base.layer.facts.timed_out
        home.cluster.change(A, lambda found: found.update(data={"key": "theirs"}))
        await settle()
        assert home.cluster.objects[A]["data"] == {}
        available(home.cluster, WEB)
        await base.ready()
        assert base.published == "Ready"
        assert not base.layer.facts.timed_out


async def test_the_time_out_runs_from_the_opening_of_the_gates(home: Home) -> None:
    neighbours: dict[str, LayerFacts] = {}
    async with (
        layering(home, "base", neighbours=neighbours) as base,
        layering(home, "top", neighbours=neighbours) as top,
    ):
        await top.put(home.content(deployment("web"), layer="top", dependsOn=["base"], timeout="1m"))
        await home.clock.advance(600)
        assert top.phase == "Waiting"
        await base.put(home.content(config_map("a")))
        await home.clock.advance(59)
        assert top.phase == "Progressing"
        await home.clock.advance(5)
        assert top.phase == "Failed"


async def test_a_refused_object_fails_the_layer_at_once_and_heals_when_it_is_accepted(home: Home) -> None:
    refusing = True

    def script(call: Call) -> None:
        if refusing:
            raise ApiError("spec.x: Invalid value", status=422, reason="Invalid")

    home.cluster.before("apply", script, A)
    async with layering(home) as base:
        await base.put(home.content(config_map("a"), config_map("b")))
        await home.clock.advance(2)
        assert base.published == "Failed"
        assert B in home.cluster.objects
        refusing = False
        await base.ready(limit=60.0)


async def test_an_exception_out_of_a_unit_stays_in_its_layer_which_starts_over_with_growing_pauses(
    home: Home, caplog: pytest.LogCaptureFixture
) -> None:
    tries: list[float] = []

    def bug(call: Call) -> None:
        tries.append(home.clock.now())
        if len(tries) < 5:
            raise RuntimeError("a bug")

    home.cluster.before("apply", bug, A)
    neighbours: dict[str, LayerFacts] = {}
    async with (
        layering(home, "base", neighbours=neighbours) as base,
        layering(home, "top", neighbours=neighbours) as top,
    ):
        await base.put(home.content(config_map("a")))
        await top.put(home.content(config_map("b"), layer="top"))
        assert top.layer.facts.done
        assert base.phase == "Failed"
        assert base.message == "RuntimeError: a bug"
        await base.ready()
        assert top.layer.facts.done
    pauses = [b - a for a, b in itertools.pairwise(tries)]
    assert pauses == [1.0, 2.0, 4.0, 8.0]
    assert "layer failed unexpectedly" in caplog.text


async def test_an_exception_while_a_layer_says_where_it_stands_does_not_silence_it(
    home: Home, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with layering(home) as base:
        await base.put(home.content(deployment("web")))
        ledger, bugs = base.layer.ledger, [RuntimeError("a bug")]
        settled = ledger.settled

        async def once(digest: str) -> None:
            if bugs:
                raise bugs.pop()
            await settled(digest)

        monkeypatch.setattr(ledger, "settled", once)
        available(home.cluster, WEB)
        await base.ready()
    assert "a bug" in caplog.text


async def test_a_restart_over_an_unchanged_cluster_writes_nothing_and_flips_no_condition(home: Home) -> None:
    content = home.content(config_map("a"), deployment("web"), namespace("apps"))
    async with layering(home) as base:
        await base.put(content)
        available(home.cluster, WEB)
        home.cluster.status(ref_of(namespace("apps")), {"phase": "Active"})
        await base.ready()
        await home.clock.advance(30)
    writes = len(home.cluster.writes)
    home.restart()
    home.cluster.syncing = False
    async with layering(home) as base:
        await base.put(content)
        for ref in (A, WEB, ref_of(namespace("apps"))):
            await home.clock.advance(2)
            home.cluster.sync(ref.group_kind)
        await home.clock.advance(60)
        assert base.layer.facts.done
    assert home.cluster.writes[writes:] == []


async def test_after_a_restart_a_layer_that_is_no_longer_healthy_says_so(home: Home) -> None:
    content = home.content(deployment("web"))
    async with layering(home) as base:
        await base.put(content)
        available(home.cluster, WEB)
        await base.ready()
        await home.clock.advance(30)
    unavailable(home.cluster, WEB)
    home.restart()
    async with layering(home) as base:
        await base.put(content)
        await home.clock.advance(30)
        assert base.published == "Progressing"


def events(home: Home) -> dict[str, Callable[[], Any]]:
    """What a layer waits for, each of which may come first or last."""
    home.cluster.before("apply", needs_namespace(home), "ConfigMap")
    home.cluster.before("apply", needs_namespace(home), "Deployment")
    return {
        "kind": lambda: home.cluster.serve("example.com/v1", "Widget"),
        "namespace": lambda: home.cluster.put(namespace("apps")),
        "requirement": lambda: home.cluster.put(config_map("required", "elsewhere")),
        "config": lambda: home.cluster.sync(A.group_kind),
        "deployment": lambda: home.cluster.sync(WEB.group_kind),
    }


ORDERS = list(itertools.permutations(["kind", "namespace", "requirement", "config", "deployment"]))


@pytest.mark.parametrize("part", range(8))
@pytest.mark.parametrize("together", [False, True])
async def test_wake_ups_in_every_order_come_to_the_same_end(
    rules: Any, tmp_path: Any, part: int, together: bool
) -> None:
    for order in ORDERS[part::8]:
        home = Home(rules, tmp_path)
        home.cluster.syncing = False
        happening = events(home)
        requires = [{"apiVersion": "v1", "kind": "ConfigMap", "name": "required", "namespace": "elsewhere"}]
        manifests = config_map("a"), deployment("web"), custom("Widget", "w", "elsewhere")
        async with layering(home) as base:
            await base.put(home.content(*manifests, requires=requires))
            for name in order:
                happening[name]()
                if not together:
                    await settle()
            await settle()
            home.cluster.syncing = True
            home.cluster.sync(A.group_kind)
            home.cluster.sync(ref_of(custom("Widget", "w")).group_kind)
            home.cluster.sync(ref_of(namespace("apps")).group_kind)
            home.cluster.sync(WEB.group_kind)
            await settle()
            assert WEB in home.cluster.objects, order
            available(home.cluster, WEB)
            home.cluster.status(
                ref_of(custom("Widget", "w", "elsewhere")), {"conditions": [{"type": "Ready", "status": "True"}]}
            )
            await settle()
            assert base.layer.facts.done, (order, base.message)
        assert home.clock.elapsed == 0.0


def needs_namespace(home: Home) -> Callable[[Call], None]:
    def script(call: Call) -> None:
        if call.ref.namespace == "apps" and ref_of(namespace("apps")) not in home.cluster.objects:
            raise ApiError('namespaces "apps" not found', status=404, reason="NotFound")

    return script


def failing_until(home: Home, time: float, error: Exception) -> Callable[[Call], None]:
    """A script that fails until a time."""

    def script(call: Call) -> None:
        if home.clock.now() < time:
            raise error

    return script
