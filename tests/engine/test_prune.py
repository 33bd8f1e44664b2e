"""Deleting needs proof: the sweep, hand-overs between layers, and what is never deleted."""

from __future__ import annotations

from typing import Any

import pytest

from clusterstack.core.inventory import Origin
from clusterstack.core.objects import Manifest, ref_of
from clusterstack.core.ownership import OWNER_ANNOTATION
from clusterstack.errors import ApiError
from tests.engine.clock import settle
from tests.engine.cluster import Call, Gatekeeper
from tests.engine.home import (
    Home,
    StackBench,
    available,
    config_map,
    crd,
    custom,
    deployment,
    establish,
    layer,
    namespace,
    stacking,
)

A, B, E = (ref_of(config_map(name)) for name in "abe")
WEB = ref_of(deployment("web"))
EXISTS = {"policy": "Exists"}
WIDGET = ref_of(custom("Widget", "w"))


async def swept(bench: StackBench, *layers: Manifest) -> None:
    """The user drops something; every layer comes to rest, and the sweep has had its chance."""
    await bench.update(layers)
    await bench.ready(*(found["name"] for found in layers))
    await bench.home.clock.advance(30)


async def test_what_nobody_renders_any_more_is_deleted_with_its_uid_as_a_precondition(home: Home) -> None:
    async with stacking(home, layer("base", config_map("a"), config_map("b"))) as bench:
        await bench.ready("base")
        uid = home.cluster.objects[B]["metadata"]["uid"]
        await swept(bench, layer("base", config_map("a")))
        assert B not in home.cluster.objects
        assert bench.inventory("base") == {"a": Origin.CREATED}
    assert [(call.ref, call.uid) for call in home.cluster.done if call.verb == "delete"] == [(B, uid)]


def strip_mark(found: Manifest) -> None:
    del found["metadata"]["annotations"][OWNER_ANNOTATION]


def copy_mark(found: Manifest) -> None:
    mark = found["metadata"]["annotations"][OWNER_ANNOTATION]
    found["metadata"]["annotations"][OWNER_ANNOTATION] = mark[:-1] + "x"


def other_installation(found: Manifest) -> None:
    mark = found["metadata"]["annotations"][OWNER_ANNOTATION]
    found["metadata"]["annotations"][OWNER_ANNOTATION] = "another/" + mark.partition("/")[2]


@pytest.mark.parametrize("tamper", [strip_mark, copy_mark, other_installation])
async def test_an_object_without_our_mark_is_released_and_not_deleted(home: Home, tamper: Any) -> None:
    async with stacking(
        home, layer("base", config_map("a"), config_map("b")), defaults={"drift": {"mode": "Ignore"}}
    ) as bench:
        await bench.ready("base")
        home.cluster.change(B, tamper)
        await swept(bench, layer("base", config_map("a")))
        assert B in home.cluster.objects
        assert bench.inventory("base") == {"a": Origin.CREATED}
    assert home.cluster.of("delete") == []


async def test_another_object_of_the_same_name_is_released_and_not_deleted(home: Home) -> None:
    async with stacking(home, layer("base", config_map("a"), config_map("b"))) as bench:
        await bench.ready("base")
        await bench.update(suspend=True)
        marked = home.cluster.objects[B]
        home.cluster.remove(B)
        del marked["metadata"]["uid"]
        home.cluster.put(marked)
        await bench.update([layer("base", config_map("a"))], suspend=False)
        await bench.ready("base")
        await home.clock.advance(30)
        assert B in home.cluster.objects
    assert [call for call in home.cluster.calls if call.verb == "delete"] == []


async def test_an_adopted_object_is_released_and_not_deleted(home: Home) -> None:
    home.cluster.put(config_map("b"))
    async with stacking(home, layer("base", config_map("a"), config_map("b"))) as bench:
        await bench.ready("base")
        assert bench.inventory("base")["b"] is Origin.ADOPTED
        await swept(bench, layer("base", config_map("a")))
        assert B in home.cluster.objects
        assert "b" not in bench.inventory("base")
    assert home.cluster.of("delete") == []


async def test_namespaces_crds_and_what_is_marked_so_are_never_pruned(home: Home) -> None:
    kept = config_map("kept")
    kept["metadata"]["annotations"] = {"clusterstack.dev/prune": "disabled"}
    flux = config_map("flux")
    flux["metadata"]["labels"] = {"kustomize.toolkit.fluxcd.io/prune": "Disabled"}
    everything = namespace("spare"), crd("Widget"), kept, flux, config_map("a")
    async with stacking(home, layer("base", *everything)) as bench:
        home.cluster.status(ref_of(namespace("spare")), {"phase": "Active"})
        establish(home.cluster, crd("Widget"))
        await bench.ready("base")
        await swept(bench, layer("base", config_map("a")))
        assert set(bench.inventory("base")) == {"a"}
    assert home.cluster.of("delete") == []


async def test_an_object_that_moves_to_another_layer_is_handed_over(home: Home) -> None:
    first = layer("base", config_map("a"), config_map("b")), layer("top", config_map("c"), dependsOn=["base"])
    async with stacking(home, *first) as bench:
        await bench.ready("base", "top")
        uid = home.cluster.objects[B]["metadata"]["uid"]
        moved = layer("base", config_map("a")), layer("top", config_map("c"), config_map("b"), dependsOn=["base"])
        await swept(bench, *moved)
        assert home.cluster.objects[B]["metadata"]["uid"] == uid
        assert bench.inventory("base") == {"a": Origin.CREATED}
        assert bench.inventory("top") == {"b": Origin.CREATED, "c": Origin.CREATED}
        assert home.cluster.of("delete") == []
        await swept(bench, layer("base", config_map("a")), layer("top", config_map("c"), dependsOn=["base"]))
        assert home.cluster.of("delete") == [B]


async def test_a_layer_that_is_renamed_hands_its_objects_over(home: Home) -> None:
    async with stacking(home, layer("old", config_map("a"))) as bench:
        await bench.ready("old")
        await swept(bench, layer("new", config_map("a")))
        assert A in home.cluster.objects
        assert bench.layers() == {"new": "Ready"}
        assert bench.inventory("new") == {"a": Origin.CREATED}
    old = [ref.name for ref in home.cluster.of("delete")]
    assert sorted(old) == ["clusterstack.home.old.0", "home.old"]  # its inventory and its StackLayer, nothing else


async def test_an_object_that_moves_to_a_layer_which_waits_stays_until_it_is_taken_over(home: Home) -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "namespace": "apps", "name": "token"}
    first = layer("base", config_map("a"), config_map("b")), layer("side", config_map("c"))
    async with stacking(home, *first) as bench:
        await bench.ready("base", "side")
        moved = layer("side", config_map("c"), config_map("b"), requires=[secret])
        await bench.update([layer("base", config_map("a")), moved])
        await home.clock.advance(120)
        assert bench.layers()["side"] == "Waiting"
        assert bench.inventory("base") == {"a": Origin.CREATED, "b": Origin.CREATED}
        home.cluster.put({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "token", "namespace": "apps"}})
        await bench.ready("base", "side", limit=60)
        await home.clock.advance(10)
        assert bench.inventory("base") == {"a": Origin.CREATED}
        assert bench.inventory("side") == {"b": Origin.CREATED, "c": Origin.CREATED}
    assert home.cluster.of("delete") == []


async def test_the_objects_of_a_layer_that_is_removed_are_deleted(home: Home) -> None:
    async with stacking(home, layer("base", config_map("a")), layer("gone", config_map("b"))) as bench:
        await bench.ready("base", "gone")
        await swept(bench, layer("base", config_map("a")))
        assert B not in home.cluster.objects
        assert bench.layers() == {"base": "Ready"}


async def test_nothing_is_deleted_while_any_layer_of_the_stack_is_unknown(home: Home) -> None:
    charts = [{"name": "app", "namespace": "apps", "repo": "https://charts", "chart": "absent"}]
    first = layer("base", config_map("a"), config_map("b")), layer("side", config_map("c"))
    async with stacking(home, *first) as bench:
        await bench.ready("base", "side")
        await bench.update([layer("base", config_map("a")), layer("side", config_map("c"), charts=charts)])
        await home.clock.advance(120)
        assert bench.layers() == {"base": "Ready", "side": "Failed"}
        assert B in home.cluster.objects
        await swept(bench, layer("base", config_map("a")), layer("side", config_map("c")))
        assert B not in home.cluster.objects


async def test_nothing_of_a_layer_is_deleted_before_its_new_content_is_applied_in_full(home: Home) -> None:
    first = layer("base", config_map("a"), config_map("b")), layer("side", config_map("c"), config_map("e"))
    async with stacking(home, *first) as bench:
        await bench.ready("base", "side")
        refusing = [ApiError("spec.x: Invalid value", status=422, reason="Invalid")]

        def refuse(call: Call) -> None:
            if refusing:
                raise refusing[0]

        home.cluster.before("apply", refuse, ref_of(config_map("d")))
        await bench.update([layer("base", config_map("a")), layer("side", config_map("c"), config_map("d"))])
        await home.clock.advance(120)
        assert B not in home.cluster.objects, "its layer is applied, and every other one is known"
        assert E in home.cluster.objects
        refusing.clear()
        await bench.ready("side", limit=60)
        await home.clock.advance(10)
        assert E not in home.cluster.objects


async def test_the_sweep_waits_for_everything_to_be_applied_but_not_to_be_healthy(home: Home) -> None:
    first = layer("base", config_map("a"), config_map("b")), layer("side", deployment("web"))
    async with stacking(home, *first) as bench:
        available(home.cluster, WEB)
        await bench.ready("base", "side")
        changed = deployment("web", image="app:2")
        await bench.update([layer("base", config_map("a")), layer("side", changed)])
        await home.clock.advance(10)
        assert bench.layers()["side"] == "Progressing"
        assert B not in home.cluster.objects


async def test_a_layer_that_suddenly_renders_nothing_deletes_nothing(home: Home, tmp_path: Any) -> None:
    (tmp_path / "base").mkdir()
    home.renderers.trees["base"] = [config_map("a")]
    source = {"name": "infra", "git": {"url": "https://git/infra"}, "interval": "1m"}
    layers = layer("base", path="base"), layer("side", config_map("c"))
    async with stacking(home, *layers, sources=[source]) as bench:
        await bench.ready("base", "side")
        home.fetcher.commit, home.renderers.trees["base"] = "2" * 40, []
        await home.clock.advance(300)
        assert A in home.cluster.objects
        assert bench.inventory("base") == {"a": Origin.CREATED}
    assert home.cluster.of("delete") == []


async def test_a_layer_whose_pruning_is_off_deletes_nothing(home: Home) -> None:
    prune = {"enabled": False}
    async with stacking(home, layer("base", config_map("a"), config_map("b"), prune=prune)) as bench:
        await bench.ready("base")
        await swept(bench, layer("base", config_map("a"), prune=prune))
        assert B in home.cluster.objects
    assert home.cluster.of("delete") == []


async def test_an_object_that_is_wanted_again_while_the_sweep_is_at_it_is_not_deleted(home: Home) -> None:
    async with stacking(home, layer("base", config_map("a"), config_map("b"))) as bench:
        await bench.ready("base")
        gate = Gatekeeper()
        home.cluster.before("get", gate, B)
        await bench.update([layer("base", config_map("a"))])
        await bench.ready("base")
        await settle()
        assert [call.ref for call in gate.waiting] == [B]
        await bench.update([layer("base", config_map("a"), config_map("b"))])
        gate.open()
        await home.clock.advance(60)
        assert B in home.cluster.objects
        assert set(bench.inventory("base")) == {"a", "b"}
    assert home.cluster.of("delete") == []


async def test_a_delete_that_is_refused_is_tried_again_and_holds_nobody_up(home: Home) -> None:
    refusals = [ApiError("forbidden", status=403, reason="Forbidden")] * 3
    home.cluster.before("delete", lambda call: _raise(refusals.pop()) if refusals else None, B)
    async with stacking(home, layer("base", config_map("a"), config_map("b"), config_map("c"))) as bench:
        await bench.ready("base")
        await bench.update([layer("base", config_map("a"))])
        await bench.ready("base")
        await home.clock.advance(1)
        assert ref_of(config_map("c")) not in home.cluster.objects
        assert B in home.cluster.objects
        await home.clock.advance(30)
        assert B not in home.cluster.objects
        assert bench.inventory("base") == {"a": Origin.CREATED}


async def test_an_object_held_by_a_finalizer_stays_in_the_inventory_until_it_is_gone(home: Home) -> None:
    held = config_map("b")
    held["metadata"]["finalizers"] = ["example.com/wait"]
    async with stacking(home, layer("base", config_map("a"), held)) as bench:
        await bench.ready("base")
        await swept(bench, layer("base", config_map("a")))
        assert "b" in bench.inventory("base")
        home.cluster.remove(B)
        await home.clock.advance(30)
        assert "b" not in bench.inventory("base")
    assert home.cluster.of("delete") == [B]


async def test_a_bug_in_the_sweep_does_not_end_it_for_good(home: Home, caplog: pytest.LogCaptureFixture) -> None:
    bugs = [RuntimeError("a bug")]
    home.cluster.before("delete", lambda call: _raise(bugs.pop()) if bugs else None, B)
    async with stacking(home, layer("base", config_map("a"), config_map("b"))) as bench:
        await bench.ready("base")
        await swept(bench, layer("base", config_map("a")))
        assert B not in home.cluster.objects
    assert "a bug" in caplog.text


def _raise(error: Exception) -> None:
    raise error


async def test_objects_of_an_aggregated_api_that_is_down_are_not_taken_for_gone(home: Home) -> None:
    home.cluster.serve("example.com/v1", "Widget")
    async with stacking(home, layer("base", config_map("a"), custom("Widget", "w"), health=EXISTS)) as bench:
        await bench.ready("base")
        home.cluster.withdraw("example.com/v1", "Widget")
        home.cluster.silent = frozenset({"example.com/v1"})
        await swept(bench, layer("base", config_map("a"), health=EXISTS))
        assert "w" in bench.inventory("base")
        home.cluster.silent = frozenset()
        home.cluster.serve("example.com/v1", "Widget")
        await home.clock.until(lambda: WIDGET not in home.cluster.objects)
        await home.clock.advance(10)
        assert "w" not in bench.inventory("base")


@pytest.mark.parametrize("there", [True, False])
async def test_objects_of_a_kind_that_is_not_served_are_gone_only_with_its_crd(home: Home, there: bool) -> None:
    home.cluster.serve("example.com/v1", "Widget")
    home.cluster.put(crd("Widget"))
    async with stacking(home, layer("base", config_map("a"), custom("Widget", "w"), health=EXISTS)) as bench:
        await bench.ready("base")
        home.cluster.withdraw("example.com/v1", "Widget")
        if not there:
            home.cluster.remove(ref_of(crd("Widget")))
        await swept(bench, layer("base", config_map("a"), health=EXISTS))
        assert ("w" in bench.inventory("base")) is there
