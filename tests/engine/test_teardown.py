"""The end of a stack: orphaned, or taken down in reverse order, with nothing forced and nothing foreign touched."""

from __future__ import annotations

from typing import Any

import pytest

from clusterstack.core.objects import ObjectRef, ref_of
from clusterstack.core.ownership import FINALIZER
from clusterstack.errors import ApiError, TransportError
from tests.engine.cluster import Call
from tests.engine.home import (
    STACK,
    Home,
    StackBench,
    config_map,
    controllers,
    crd,
    custom,
    deployment,
    layer,
    namespace,
    secret,
    stacking,
    webhook,
)

ROOT = ObjectRef("clusterstack.dev", "ClusterStack", "", STACK)
OWN_CRD = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "clusterstacks.clusterstack.dev"},
    "spec": {"group": "clusterstack.dev", "names": {"kind": "ClusterStack"}, "versions": []},
}


def prepare(home: Home) -> None:
    controllers(home.cluster)
    home.cluster.put(OWN_CRD)

    def active(call: Call) -> None:
        if call.verb == "apply" and call.ref.kind == "Namespace":
            home.cluster.status(call.ref, {"phase": "Active"})

    home.cluster.committed.append(active)


def deleted(home: Home) -> list[str]:
    """What was deleted of the user's objects, in order."""
    own = ("ConfigMap", "StackLayer")
    return [
        ref.name for ref in home.cluster.of("delete") if not (ref.kind in own and ref.namespace in ("", "operator"))
    ]


async def gone(bench: StackBench, *, limit: float = 3600.0) -> None:
    """The user deletes the stack, and it lets itself go."""
    await bench.delete()
    cluster = bench.home.cluster
    await bench.home.clock.until(lambda: not cluster.objects[ROOT]["metadata"].get("finalizers"), limit=limit)
    await bench.home.clock.advance(1)


async def test_layers_go_in_reverse_order_each_gone_before_the_next(home: Home) -> None:
    prepare(home)
    layers = (
        layer("base", config_map("a")),
        layer("left", config_map("b"), dependsOn=["base"]),
        layer("right", config_map("c"), dependsOn=["base"]),
        layer("top", config_map("d"), dependsOn=["left", "right"]),
    )
    held = config_map("held")
    held["metadata"]["finalizers"] = ["example.com/wait"]
    layers[3]["manifests"].append(held)
    async with stacking(home, *layers, deletionPolicy="Delete") as bench:
        await bench.ready("base", "left", "right", "top")
        await bench.delete()
        await home.clock.advance(20)
        assert deleted(home) == ["d", "held"]
        home.cluster.remove(ref_of(held))
        await home.clock.until(lambda: ref_of(config_map("a")) not in home.cluster.objects)
        await home.clock.advance(1)
        assert deleted(home) == ["d", "held", "b", "c", "a"]
        assert home.cluster.objects[ROOT]["metadata"].get("finalizers") == []
    inventories = [ref for ref in home.cluster.objects if ref.name.startswith("clusterstack.home.")]
    assert inventories == []


async def test_inside_a_layer_what_others_need_goes_last(home: Home) -> None:
    prepare(home)
    objects = (
        namespace("apps"),
        crd("Widget"),
        custom("Widget", "w"),
        deployment("web"),
        config_map("a"),
        webhook("hook"),
    )
    async with stacking(home, layer("base", *objects), deletionPolicy="Delete") as bench:
        await bench.ready("base")
        await gone(bench)
    assert deleted(home) == ["w", "hook", "web", "a", "widgets.example.com", "apps"]


async def test_a_namespace_or_crd_that_holds_something_foreign_stays(home: Home) -> None:
    prepare(home)
    async with stacking(home, layer("base", namespace("apps"), crd("Widget")), deletionPolicy="Delete") as bench:
        await bench.ready("base")
        home.cluster.put(secret("theirs"))
        home.cluster.put(custom("Widget", "theirs", "elsewhere"))
        await gone(bench)
    assert deleted(home) == []


async def test_what_kubernetes_puts_into_a_namespace_is_not_foreign(home: Home) -> None:
    prepare(home)
    async with stacking(home, layer("base", namespace("apps")), deletionPolicy="Delete") as bench:
        await bench.ready("base")
        home.cluster.put(config_map("kube-root-ca.crt"))
        owned = config_map("owned")
        owned["metadata"]["ownerReferences"] = [{"kind": "Widget", "name": "w", "uid": "1", "apiVersion": "x/v1"}]
        home.cluster.put(owned)
        await gone(bench)
    assert deleted(home) == ["apps"]


async def test_adopted_objects_claims_and_what_is_marked_so_stay(home: Home) -> None:
    prepare(home)
    home.cluster.put(config_map("adopted"))
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data", "namespace": "apps"},
        "spec": {},
    }
    kept = config_map("kept")
    kept["metadata"]["annotations"] = {"clusterstack.dev/prune": "disabled"}
    objects = namespace("apps"), config_map("adopted"), claim, kept, config_map("a")
    async with stacking(home, layer("base", *objects), deletionPolicy="Delete") as bench:
        home.cluster.status(ref_of(claim), {"phase": "Bound"})
        await bench.ready("base")
        await gone(bench)
    assert deleted(home) == ["a"]


async def test_a_stuck_finalizer_is_named_and_past_the_deadline_the_rest_goes_on_without_it(
    home: Home, caplog: pytest.LogCaptureFixture
) -> None:
    prepare(home)
    held = config_map("held")
    held["metadata"]["finalizers"] = ["example.com/stuck"]
    layers = layer("base", config_map("a")), layer("top", held, dependsOn=["base"])
    async with stacking(home, *layers, deletionPolicy="Delete") as bench:
        await bench.ready("base", "top")
        await bench.delete()
        await home.clock.advance(60)
        assert "ConfigMap apps/held" in bench.status()["summary"]["message"]
        assert deleted(home) == ["held"]
        await home.clock.until(lambda: not home.cluster.objects[ROOT]["metadata"].get("finalizers"))
        assert deleted(home) == ["held", "a"]
        assert home.cluster.objects[ref_of(held)]["metadata"]["finalizers"] == ["example.com/stuck"]
    assert "left behind" in caplog.text


async def test_by_default_everything_stays(home: Home) -> None:
    prepare(home)
    async with stacking(home, layer("base", config_map("a"), namespace("apps"))) as bench:
        await bench.ready("base")
        await bench.delete()
        await home.clock.advance(30)
    assert deleted(home) == []


async def test_when_our_own_crd_goes_everything_is_orphaned(home: Home) -> None:
    prepare(home)
    async with stacking(home, layer("base", config_map("a")), deletionPolicy="Delete") as bench:
        await bench.ready("base")
        home.cluster.change(ref_of(OWN_CRD), lambda found: found["metadata"].update(deletionTimestamp="2026-01-01"))
        await gone(bench)
    assert deleted(home) == []


async def test_a_stack_with_deletion_policy_delete_holds_itself_by_our_own_finalizer(home: Home) -> None:
    prepare(home)
    async with stacking(home, layer("base", config_map("a")), deletionPolicy="Delete") as bench:
        await bench.ready("base")
        assert home.cluster.objects[ROOT]["metadata"]["finalizers"] == [FINALIZER]


async def test_a_process_that_comes_up_to_a_stack_being_deleted_takes_it_down_in_the_same_order(home: Home) -> None:
    prepare(home)
    layers = layer("base", config_map("a")), layer("top", config_map("b"), dependsOn=["base"])
    async with stacking(home, *layers, deletionPolicy="Delete") as bench:
        await bench.ready("base", "top")
    home.cluster.change(ROOT, lambda found: found["metadata"].update(deletionTimestamp=home.clock.text()))
    home.restart()
    async with stacking(home, *layers, deletionPolicy="Delete") as bench:
        await home.clock.until(lambda: not home.cluster.objects[ROOT]["metadata"].get("finalizers"))
    assert deleted(home) == ["b", "a"]


@pytest.mark.parametrize("error", [ApiError("busy", status=503), TransportError("no route")])
@pytest.mark.parametrize("verb", ["get", "delete"])
async def test_requests_that_fail_during_a_teardown_are_made_again(home: Home, error: Exception, verb: str) -> None:
    prepare(home)
    failures: list[Any] = [error, error]

    def script(call: Call) -> None:
        if failures:
            raise failures.pop()

    async with stacking(home, layer("base", config_map("a"), config_map("b")), deletionPolicy="Delete") as bench:
        await bench.ready("base")
        await home.clock.advance(5)
        home.cluster.before(verb, script, ref_of(config_map("a")))
        await gone(bench)
    assert sorted(deleted(home)) == ["a", "b"]
