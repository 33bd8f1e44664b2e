"""A whole stack: sources, builds, the order of its layers, and how it lives through failures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clusterstack.core.objects import ObjectRef, ref_of
from clusterstack.engine.supervisor import Supervisor
from clusterstack.errors import ApiError, RenderError, SourceError, TransportError
from tests.engine.clock import settle
from tests.engine.cluster import Call
from tests.engine.home import (
    STACK,
    Home,
    available,
    config_map,
    controllers,
    deployment,
    layer,
    namespace,
    running,
    stack_body,
    stacking,
)

GIT: dict[str, Any] = {"sources": [{"name": "infra", "git": {"url": "https://git/infra"}, "interval": "1m"}]}
A, B, C = (ref_of(config_map(name)) for name in "abc")
WEB = ref_of(deployment("web"))


async def test_layers_come_up_in_their_order_each_the_moment_its_dependencies_are_ready(home: Home) -> None:
    controllers(home.cluster, delay=3.0)
    layers = (
        layer("top", config_map("c"), dependsOn=["middle"]),
        layer("middle", deployment("web"), dependsOn=["base"]),
        layer("base", config_map("a")),
    )
    async with stacking(home, *layers) as bench:
        assert await bench.ready("base", "middle", "top") <= 4.0
    order = [ref.name for ref in home.cluster.of("apply") if ref.namespace == "apps"]
    assert order == ["a", "web", "c"]


async def test_the_stack_is_ready_when_all_its_layers_are_and_a_second_pass_writes_nothing(home: Home) -> None:
    controllers(home.cluster)
    async with stacking(home, layer("base", deployment("web")), layer("top", config_map("a"))) as bench:
        await bench.ready("base", "top")
        await home.clock.advance(5)
        assert bench.status()["phase"] == "Ready"
        writes = len(home.cluster.writes)
        await bench.annotate(**{"clusterstack.dev/reconcileAt": "now"})
        await home.clock.advance(700)
        assert bench.status()["lastHandledReconcileAt"] == "now"
        assert [call.verb for call in home.cluster.writes[writes:]] == ["apply_status"]


async def test_a_restart_over_an_unchanged_cluster_writes_nothing(home: Home) -> None:
    controllers(home.cluster)
    layers = layer("base", deployment("web"), namespace("apps")), layer("top", config_map("a"), dependsOn=["base"])
    async with stacking(home, *layers) as bench:
        home.cluster.status(ref_of(namespace("apps")), {"phase": "Active"})
        await bench.ready("base", "top")
        await home.clock.advance(5)
        status = bench.status()
    writes = len(home.cluster.writes)
    home.restart()
    async with stacking(home, *layers) as bench:
        await home.clock.advance(60)
        assert bench.status() == status
    assert [call.ref for call in home.cluster.writes[writes:]] == []


async def test_a_source_that_fails_leaves_everything_as_it_was_and_deletes_nothing(home: Home, tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    home.renderers.trees["base"] = [config_map("a")]
    async with stacking(home, layer("base", path="base"), **GIT) as bench:
        await bench.ready("base")
        home.fetcher.failing = SourceError("the remote refuses", reason="GitUnreachable")
        await home.clock.advance(600)
        assert bench.layers() == {"base": "Ready"}
        conditions = {condition["type"]: condition for condition in bench.status()["conditions"]}
        assert conditions["SourceReady"]["status"] == "False"
        assert "the remote refuses" in conditions["SourceReady"]["message"]
        assert home.cluster.of("delete") == []
        home.fetcher.failing = None
        home.fetcher.commit = "2" * 40
        home.renderers.trees["base"] = [config_map("a", key="new")]
        await home.clock.until(lambda: home.cluster.objects[A]["data"] == {"key": "new"})


async def test_a_stack_whose_source_was_never_reached_says_so_and_starts_once_it_is(home: Home, tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    home.renderers.trees["base"] = [config_map("a")]
    home.fetcher.failing = SourceError("no route to host", reason="GitUnreachable")
    async with stacking(home, layer("base", path="base"), **GIT) as bench:
        await home.clock.advance(20)
        assert bench.layers() == {"base": "Failed"}
        assert bench.status()["conditions"][0]["status"] == "False"
        home.fetcher.failing = None
        await bench.ready("base", limit=120)


async def test_one_broken_build_stops_its_own_layer_only_and_heals_with_the_next_commit(
    home: Home, tmp_path: Path
) -> None:
    for name in ("base", "side"):
        (tmp_path / name).mkdir()
    home.renderers.trees |= {"base": [config_map("a")], "side": [config_map("b")]}
    async with stacking(home, layer("base", path="base"), layer("side", path="side"), **GIT) as bench:
        await bench.ready("base", "side")
        home.fetcher.commit = "2" * 40
        home.renderers.trees |= {
            "base": RenderError("base/x.yaml: line 3", reason="InvalidYAML"),
            "side": [config_map("b", key="new")],
        }
        await home.clock.advance(90)
        assert bench.layers() == {"base": "Failed", "side": "Ready"}
        assert home.cluster.objects[B]["data"] == {"key": "new"}
        assert A in home.cluster.objects
        home.fetcher.commit = "3" * 40
        home.renderers.trees["base"] = [config_map("a")]
        await bench.ready("base", limit=120)


async def test_a_commit_that_changes_one_layer_writes_nothing_of_the_others(home: Home, tmp_path: Path) -> None:
    for name in ("base", "top"):
        (tmp_path / name).mkdir()
    home.renderers.trees |= {"base": [config_map("a")], "top": [config_map("b")]}
    layers = layer("base", path="base"), layer("top", path="top", dependsOn=["base"])
    async with stacking(home, *layers, **GIT) as bench:
        await bench.ready("base", "top")
        await home.clock.advance(5)
        writes = len(home.cluster.writes)
        home.fetcher.commit = "2" * 40
        home.renderers.trees["top"] = [config_map("b", key="new")]
        await home.clock.advance(90)
        assert home.cluster.objects[B]["data"] == {"key": "new"}
        assert not [call.ref for call in home.cluster.writes[writes:] if "base" in call.ref.name or call.ref == A]


async def test_settings_that_change_nothing_of_the_content_do_not_strand_the_layers_behind(home: Home) -> None:
    layers = layer("base", config_map("a")), layer("top", config_map("b"), dependsOn=["base"])
    async with stacking(home, *layers) as bench:
        await bench.ready("base", "top")
        changed = (
            layer("base", config_map("a"), timeout="7m"),
            layer("top", config_map("b", key="2"), dependsOn=["base"]),
        )
        await bench.update(changed)
        await bench.ready("base", "top")
        assert home.cluster.objects[B]["data"] == {"key": "2"}
        await bench.update(tuple(reversed(changed)), interval="11m")
        await bench.ready("base", "top")


async def test_the_age_of_what_a_stack_waits_for_is_written_often_at_first_and_rarely_later(home: Home) -> None:
    requires = [{"apiVersion": "v1", "kind": "Secret", "name": "auth", "namespace": "apps"}]
    async with stacking(home, layer("base", config_map("a"), requires=requires)) as bench:
        await home.clock.advance(30)
        first = bench.status()["summary"]["message"]
        assert "Secret apps/auth" in first
        await home.clock.advance(30)
        assert bench.status()["summary"]["message"] != first
        await home.clock.advance(3600)
    assert len([call for call in home.cluster.writes if call.ref.kind == "ClusterStack"]) < 40


@pytest.mark.parametrize("error", [ApiError("busy", status=503), TransportError("no route")])
async def test_a_request_of_the_stack_itself_that_fails_does_not_disturb_its_layers(
    home: Home, error: Exception
) -> None:
    async with stacking(home, layer("base", deployment("web")), deletionPolicy="Delete") as bench:
        units = list(bench.stack._layers["base"].layer.units)
        home.cluster.before("get", failing_until(home, 20.0, error), "ClusterStack")
        await bench.update([layer("base", deployment("web")), layer("top", config_map("b"))])
        available(home.cluster, WEB)
        await bench.ready("base", limit=10)
        assert bench.stack._layers["base"].layer.units == units
        await bench.ready("top", limit=30)


async def test_a_suspended_stack_leaves_everything_as_it_is_until_it_is_resumed(home: Home) -> None:
    async with stacking(home, layer("base", config_map("a", key="ours"))) as bench:
        await bench.ready("base")
        await bench.update(suspend=True)
        home.cluster.change(A, lambda found: found["data"].update(key="theirs"))
        await home.clock.advance(60)
        assert home.cluster.objects[A]["data"] == {"key": "theirs"}
        assert bench.status()["phase"] == "Suspended"
        await bench.update(suspend=False)
        await home.clock.advance(60)
        assert home.cluster.objects[A]["data"] == {"key": "ours"}
        assert bench.status()["phase"] == "Ready"
    assert home.cluster.of("delete") == []


@pytest.mark.parametrize(
    ("layers", "reason"),
    [
        (
            [layer("a", config_map("a"), dependsOn=["b"]), layer("b", config_map("b"), dependsOn=["a"])],
            "DependencyCycle",
        ),
        ([layer("a", config_map("a"), dependsOn=["nobody"])], "UnknownDependency"),
        ([layer("a")], "EmptyLayer"),
    ],
)
async def test_a_spec_that_cannot_work_is_a_clear_condition_and_writes_nothing(
    home: Home, layers: Any, reason: str
) -> None:
    async with stacking(home, *layers) as bench:
        await home.clock.advance(5)
        stalled = next(found for found in bench.status()["conditions"] if found["type"] == "Stalled")
        assert (stalled["status"], stalled["reason"]) == ("True", reason)
    assert {call.verb for call in home.cluster.writes} == {"apply_status"}


async def test_a_spec_that_becomes_wrong_leaves_the_layers_at_work(home: Home) -> None:
    async with stacking(home, layer("base", config_map("a", key="ours"))) as bench:
        await bench.ready("base")
        await bench.update([layer("base", config_map("a", key="ours"), dependsOn=["nobody"])])
        home.cluster.change(A, lambda found: found["data"].update(key="theirs"))
        await settle()
        assert home.cluster.objects[A]["data"] == {"key": "ours"}
    assert home.cluster.of("delete") == []


async def test_a_stack_that_had_to_start_over_still_looks_at_its_sources(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "base").mkdir()
    home.renderers.trees["base"] = [config_map("a")]
    home.cluster.put(stack_body(layer("base", path="base"), **GIT))
    supervisor = Supervisor(
        home.cluster,
        home.clock,
        make=lambda name, stack: home.context,
        announce=lambda *_: None,
        observe=lambda *_: None,
        forget=lambda name: None,
    )
    async with running(supervisor.run()):
        await home.clock.until(lambda: A in home.cluster.objects)
        stack, bugs = supervisor._slots[STACK].stack, [RuntimeError("a bug")]
        build = stack._builder.build

        async def once(plan: Any) -> Any:
            if bugs:
                raise bugs.pop()
            return await build(plan)

        monkeypatch.setattr(type(stack._builder), "build", lambda self, plan: once(plan))
        home.fetcher.commit = "2" * 40
        home.renderers.trees["base"] = [config_map("a", key="2")]
        await home.clock.until(lambda: home.cluster.objects[A]["data"] == {"key": "2"}, limit=200)
        home.fetcher.commit = "3" * 40
        home.renderers.trees["base"] = [config_map("a", key="3")]
        await home.clock.until(lambda: home.cluster.objects[A]["data"] == {"key": "3"}, limit=200)
    assert "a bug" in caplog.text
    assert home.cluster.of("delete") == []


async def test_two_layers_that_render_the_same_object_apply_it_once_and_say_so(home: Home) -> None:
    layers = layer("base", config_map("a", x="1")), layer("top", config_map("a", y="2"), dependsOn=["base"])
    async with stacking(home, *layers) as bench:
        await bench.ready("base", "top")
        assert home.cluster.objects[A]["data"] == {"x": "1", "y": "2"}
        assert home.cluster.of("apply").count(A) == 1
        top = home.cluster.objects[ObjectRef("clusterstack.dev", "StackLayer", "", f"{STACK}.top")]
        assert "layer base owns it" in top["status"]["warnings"][0]


def failing_until(home: Home, time: float, error: Exception) -> Callable[[Call], None]:
    """A script that fails until a time."""

    def script(call: Call) -> None:
        if home.clock.now() < time:
            raise error

    return script
