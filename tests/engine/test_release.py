"""One Helm release: inputs, record, hooks, objects, `deployed`; failures, restarts, and revisions made by hand."""

from __future__ import annotations

import base64
import itertools
from collections.abc import Iterator
from dataclasses import replace

import pytest

from clusterstack.core.content import Problem
from clusterstack.core.objects import Manifest, ObjectRef, ref_of
from clusterstack.errors import ApiError, LookupFailed, RenderError, TransportError
from clusterstack.helm.record import Release, Status, decode, encode, with_status
from clusterstack.helm.spec import ActionSpec, ValuesReference
from clusterstack.render.protocol import HelmRequest, Lookup
from tests.engine.charts import Chart, hook
from tests.engine.clock import settle
from tests.engine.cluster import Call, Gatekeeper
from tests.engine.home import (
    Home,
    available,
    complete,
    config_map,
    controllers,
    crd,
    deployment,
    fail,
    job,
    layer,
    layering,
    namespace,
    secret,
    stacking,
    unavailable,
)

A, WEB = ref_of(config_map("a")), ref_of(deployment("web"))
MIGRATE = ref_of(job("migrate"))
SETTINGS = ValuesReference("Secret", "apps", "settings")


def records(home: Home, name: str = "app") -> list[Release]:
    """The revisions in the cluster, oldest first."""
    found = (
        decode(stored)
        for ref, stored in home.cluster.objects.items()
        if ref.kind == "Secret" and ref.name.startswith(f"sh.helm.release.v1.{name}.v")
    )
    return sorted(found, key=lambda release: release.revision)


def statuses(home: Home, name: str = "app") -> list[str]:
    return [str(release.status) for release in records(home, name)]


def values(size: str) -> Manifest:
    return secret("settings", **{"values.yaml": base64.b64encode(f"size: {size}".encode()).decode()})


def sized(request: HelmRequest) -> list[Manifest]:
    return [config_map("a", size=str(request.values.get("size", "")), revision=str(request.revision))]


async def test_an_install_writes_its_record_first_then_the_objects_then_deployed(home: Home) -> None:
    home.charts["app"] = Chart(lambda request: [config_map("a"), deployment("web")])
    async with layering(home) as base:
        await base.put(home.content(releases=[home.release("app")]))
        assert statuses(home) == ["pending-install"]
        assert base.phase == "Progressing"
        available(home.cluster, WEB)
        await base.ready()
        assert statuses(home) == ["deployed"]
    order = [(call.verb, call.ref.name) for call in home.cluster.writes if call.ref.namespace == "apps"]
    assert order[0] == ("create", "sh.helm.release.v1.app.v1")
    assert order[-1] == ("replace", "sh.helm.release.v1.app.v1")
    assert {call.manager for call in home.cluster.writes if call.ref in (A, WEB)} == {"helm"}
    metadata = home.cluster.objects[A]["metadata"]
    assert metadata["annotations"]["meta.helm.sh/release-name"] == "app"
    assert metadata["labels"]["app.kubernetes.io/managed-by"] == "Helm"


async def test_a_release_waits_for_the_values_that_it_reads_and_starts_the_moment_they_are_there(home: Home) -> None:
    home.charts["app"] = Chart(sized)
    async with layering(home) as base:
        await base.put(home.content(releases=[home.release("app", values_from=(SETTINGS,))]))
        assert base.message == "waiting for Secret apps/settings: Secret apps/settings does not exist yet"
        assert not home.renderers.rendered
        home.cluster.put(values("7"))
        await settle()
        assert base.layer.facts.done
        assert home.cluster.objects[A]["data"]["size"] == "7"
    assert home.clock.elapsed == 0.0


async def test_values_that_change_make_a_new_revision_which_is_not_ready_before_it_is_applied(home: Home) -> None:
    home.charts["app"] = Chart(sized)
    home.cluster.put(values("1"))
    async with layering(home) as base:
        await base.put(home.content(releases=[home.release("app", values_from=(SETTINGS,))]))
        await base.ready()
        gate = Gatekeeper()
        home.cluster.before("apply", gate, A)
        home.cluster.put(values("2"))
        await settle()
        assert gate.waiting
        assert statuses(home) == ["deployed", "pending-upgrade"]
        assert base.phase != "Ready"
        gate.open()
        await settle()
        assert base.phase == "Ready"
        assert statuses(home) == ["superseded", "deployed"]
        assert home.cluster.objects[A]["data"] == {"size": "2", "revision": "2"}
    assert home.clock.elapsed == 0.0


async def test_a_rendering_that_fails_on_what_it_looked_up_waits_for_it(home: Home) -> None:
    async def look(request: HelmRequest, lookup: Lookup) -> None:
        answer = await lookup("v1", "ConfigMap", "apps", "needed")
        if answer.object is None:
            raise LookupFailed("needed is nil", keys=(("v1", "ConfigMap", "apps", "needed"),))

    home.charts["app"] = Chart(lambda request: [config_map("a")], asked=look)
    async with layering(home) as base:
        await base.put(home.content(releases=[home.release("app")]))
        assert base.phase == "Progressing"
        assert records(home) == []
        home.cluster.put(config_map("needed"))
        await settle()
        assert base.layer.facts.done
    assert home.clock.elapsed == 0.0


async def test_hooks_run_before_and_after_the_objects_each_to_its_end(home: Home) -> None:
    home.charts["app"] = Chart(
        lambda request: [config_map("a")],
        hooks=[hook(job("migrate"), "pre-install"), hook(job("test"), "post-install")],
    )
    async with layering(home) as base:
        await base.put(home.content(releases=[home.release("app")]))
        assert MIGRATE in home.cluster.objects
        assert A not in home.cluster.objects
        complete(home.cluster, MIGRATE)
        await settle()
        assert A in home.cluster.objects
        assert not base.layer.facts.done
        complete(home.cluster, ref_of(job("test")))
        await settle()
        assert base.layer.facts.done
    assert home.clock.elapsed == 0.0


async def test_a_hook_that_fails_is_tried_again_with_growing_pauses_up_to_a_limit(home: Home) -> None:
    home.charts["app"] = Chart(lambda request: [config_map("a")], hooks=[hook(job("migrate"), "pre-install")])
    tries: list[float] = []

    def started(call: Call) -> None:
        tries.append(home.clock.now())
        outcome = fail if len(tries) < 9 else complete
        home.clock.later(1.0, lambda: outcome(home.cluster, MIGRATE))

    home.cluster.after("create", started, MIGRATE)
    async with layering(home) as base:
        await base.put(home.content(releases=[home.release("app")], retryInterval="30s"))
        await home.clock.advance(5)
        assert base.phase == "Failed"
        assert "hook Job migrate" in base.message
        assert statuses(home) == ["failed"]
        assert A not in home.cluster.objects
        await base.ready(limit=7200.0)
        assert statuses(home)[-1] == "deployed"
    pauses = [round(b - a) for a, b in itertools.pairwise(tries)]
    assert pauses[0] in range(30, 33)
    assert pauses[-1] == pauses[-2] == 901
    assert pauses == sorted(pauses)


async def test_a_restart_over_a_deployed_release_writes_nothing_and_renders_nothing(home: Home) -> None:
    numbers: Iterator[int] = itertools.count()
    home.charts["app"] = Chart(
        lambda request: [config_map("a", password=str(next(numbers)))], hooks=[hook(job("migrate"), "pre-install")]
    )
    controllers(home.cluster)
    content = home.content(releases=[home.release("app")])
    async with layering(home) as base:
        await base.put(content)
        await base.ready()
        await home.clock.advance(30)
    writes, rendered = len(home.cluster.writes), len(home.renderers.rendered)
    home.restart()
    async with layering(home) as base:
        await base.put(content)
        await home.clock.advance(1300)
        assert base.layer.facts.done
    assert [call.ref for call in home.cluster.writes[writes:]] == []
    assert (rendered, len(home.renderers.rendered)) == (1, 1)


async def test_a_process_that_finds_a_pending_record_of_its_own_carries_it_out(home: Home) -> None:
    home.charts["app"] = Chart(lambda request: [deployment("web")])
    content = home.content(releases=[home.release("app")])
    async with layering(home) as base:
        await base.put(content)
        assert statuses(home) == ["pending-install"]
    home.restart()
    async with layering(home) as base:
        await base.put(content)
        available(home.cluster, WEB)
        await base.ready()
    assert statuses(home) == ["deployed"]
    assert len(home.renderers.rendered) == 1


async def test_a_revision_made_by_hand_is_answered_with_a_new_one_of_the_same_objects(home: Home) -> None:
    numbers: Iterator[int] = itertools.count()
    home.charts["app"] = Chart(lambda request: [config_map("a", password=str(next(numbers)))])
    async with layering(home) as base:
        await base.put(home.content(releases=[home.release("app")]))
        await base.ready()
        (ours,) = records(home)
        theirs = replace(ours, revision=2, input_digest="", manifest="", status=Status.DEPLOYED, labels={})
        home.cluster.put(encode(with_status(ours, Status.SUPERSEDED, "", at=""), namespace="apps"))
        home.cluster.put(encode(theirs, namespace="apps"))
        home.cluster.change(A, lambda found: found["data"].update(password="theirs"), by="helm")
        await home.clock.until(lambda: statuses(home) == ["superseded", "superseded", "deployed"], limit=60)
        await settle()
        assert home.cluster.objects[A]["data"] == {"password": "0"}
        assert base.phase == "Ready"


async def test_a_release_uninstalled_by_hand_is_installed_again(home: Home) -> None:
    home.charts["app"] = Chart(lambda request: [config_map("a")])
    async with layering(home) as base:
        await base.put(home.content(releases=[home.release("app")]))
        await base.ready()
        home.cluster.remove(ObjectRef("", "Secret", "apps", "sh.helm.release.v1.app.v1"))
        home.cluster.remove(A)
        await home.clock.advance(5)
        await base.ready()
        assert statuses(home) == ["deployed"]
        assert A in home.cluster.objects


async def test_a_time_out_marks_the_record_failed_and_it_is_deployed_when_the_objects_are_there_after_all(
    home: Home,
) -> None:
    home.charts["app"] = Chart(lambda request: [deployment("web")])
    async with layering(home) as base:
        await base.put(home.content(releases=[home.release("app", install=ActionSpec(timeout=60.0))]))
        await home.clock.advance(59)
        assert statuses(home) == ["pending-install"]
        await home.clock.advance(3)
        assert statuses(home) == ["failed"]
        assert base.phase == "Failed"
        assert "timed out" in base.message
        available(home.cluster, WEB)
        await base.ready()
        assert statuses(home) == ["deployed"]
    assert len(home.renderers.rendered) == 1


async def test_a_release_waits_for_those_that_it_depends_on(home: Home) -> None:
    home.charts |= {"db": Chart(lambda request: [deployment("web")]), "app": Chart(lambda request: [config_map("a")])}
    async with layering(home) as base:
        releases = [home.release("app", depends_on=("apps/db",)), home.release("db")]
        await base.put(home.content(releases=releases))
        assert records(home, "app") == []
        available(home.cluster, WEB)
        await settle()
        assert base.layer.facts.done
    assert home.clock.elapsed == 0.0


async def test_a_deployed_release_is_kept_although_one_that_it_depends_on_degrades(home: Home) -> None:
    home.charts |= {"db": Chart(lambda request: [deployment("web")]), "app": Chart(lambda request: [config_map("a")])}
    releases = [home.release("app", depends_on=("apps/db",)), home.release("db")]
    async with layering(home) as base:
        await base.put(home.content(releases=releases))
        available(home.cluster, WEB)
        await base.ready()
        await home.clock.advance(30)
    unavailable(home.cluster, WEB)
    home.restart()
    async with layering(home) as base:
        await base.put(home.content(releases=releases))
        home.cluster.change(A, lambda found: found.update(data={"key": "theirs"}))
        await home.clock.advance(5)
        assert home.cluster.objects[A]["data"] == {}


async def test_a_release_waits_for_its_namespace(home: Home) -> None:
    home.charts["app"] = Chart(lambda request: [config_map("a")])

    def needs_namespace(call: Call) -> None:
        if ref_of(namespace("apps")) not in home.cluster.objects:
            raise ApiError('namespaces "apps" not found', status=404, reason="NotFound")

    home.cluster.before("create", needs_namespace, "Secret")
    async with layering(home) as base:
        await base.put(home.content(releases=[home.release("app")]))
        assert base.message == "waiting for Namespace apps: does not exist yet"
        home.cluster.put(namespace("apps"))
        await settle()
        assert base.layer.facts.done
    assert home.clock.elapsed == 0.0


@pytest.mark.parametrize("error", [ApiError("busy", status=503), TransportError("no route")])
@pytest.mark.parametrize("verb", ["get", "list", "create", "replace"])
async def test_requests_that_fail_now_and_then_delay_a_release_and_run_no_hook_twice(
    home: Home, error: Exception, verb: str
) -> None:
    home.charts["app"] = Chart(lambda request: [config_map("a")], hooks=[hook(job("migrate"), "pre-install")])
    controllers(home.cluster)
    calls = itertools.count()

    def flaky(call: Call) -> None:
        if next(calls) % 3 == 1:
            raise error

    home.cluster.before(verb, flaky, "Secret")
    async with layering(home) as base:
        await base.put(home.content(releases=[home.release("app")]))
        await base.ready()
    assert statuses(home)[-1] == "deployed"
    assert home.cluster.of("create").count(MIGRATE) == 1


async def test_values_that_a_chart_refuses_fail_the_release_and_not_its_neighbours(home: Home) -> None:
    async def refuse(request: HelmRequest, lookup: Lookup) -> None:
        raise RenderError("size: Invalid type", reason="ValuesRejected")

    home.charts |= {"app": Chart(asked=refuse), "other": Chart(lambda request: [config_map("b")])}
    async with layering(home) as base:
        await base.put(home.content(config_map("c"), releases=[home.release("app"), home.release("other")]))
        await home.clock.advance(5)
        assert base.published == "Failed"
        assert "size: Invalid type" in base.message
        assert statuses(home, "other") == ["deployed"]
        assert ref_of(config_map("c")) in home.cluster.objects


async def test_an_upgrade_that_cannot_be_rendered_keeps_what_is_deployed(home: Home) -> None:
    home.charts["app"] = Chart(sized)
    home.cluster.put(values("1"))
    release = home.release("app", values_from=(SETTINGS,))
    async with layering(home) as base:
        await base.put(home.content(releases=[release]))
        await base.ready()
        home.charts["app"].asked = _refuse
        home.cluster.put(values("2"))
        await home.clock.advance(5)
        assert base.phase == "Failed"
        home.cluster.change(A, lambda found: found["data"].update(size="theirs"))
        await settle()
        assert home.cluster.objects[A]["data"]["size"] == "1"
        assert statuses(home) == ["deployed"]


async def test_a_release_whose_chart_cannot_be_had_says_so_and_heals(home: Home) -> None:
    home.charts["app"] = Chart(lambda request: [config_map("a")])
    good = home.release("app")
    problem = Problem("ChartNotFound", "release apps/app: no such chart", unit="apps/app", retryable=True)
    async with layering(home) as base:
        await base.put(home.content(releases=[replace(good, chart=None, problem=problem, digest="?")]))
        assert base.phase == "Failed"
        assert "no such chart" in base.message
        await base.put(home.content(releases=[good]))
        assert base.layer.facts.done


async def test_crds_of_a_chart_come_before_its_hooks_and_objects(home: Home) -> None:
    home.charts["app"] = Chart(
        lambda request: [config_map("a")], hooks=[hook(job("migrate"), "pre-install")], crds=[crd("Widget")]
    )
    controllers(home.cluster)
    async with layering(home) as base:
        await base.put(home.content(releases=[home.release("app")]))
        await base.ready()
    made = [call.ref for call in home.cluster.writes if call.verb in ("apply", "create")]
    order = [ref.kind for ref in made if ref.name in ("widgets.example.com", "migrate", "a")]
    assert order == ["CustomResourceDefinition", "Job", "ConfigMap"]


async def test_nothing_of_a_release_is_swept_while_the_hooks_of_its_upgrade_run(home: Home) -> None:
    home.charts["app"] = Chart(
        lambda request: [*sized(request), *([config_map("old")] if request.revision == 1 else [])],
        hooks=[hook(job("migrate"), "pre-upgrade")],
        crds=[crd("Widget")],
    )
    home.cluster.put(values("1"))
    controllers(home.cluster, delay=60.0)
    charts = [
        {
            "name": "app",
            "namespace": "apps",
            "repo": "https://charts",
            "chart": "app",
            "valuesFrom": [{"kind": "Secret", "name": "settings"}],
        }
    ]
    async with stacking(home, layer("base", charts=charts), layer("side", config_map("c"))) as bench:
        await bench.ready("base", "side")
        home.cluster.put(values("2"))
        await home.clock.advance(5)
        assert MIGRATE in home.cluster.objects
        await bench.update([layer("base", charts=charts), layer("side", config_map("c", key="2"))])
        await home.clock.advance(20)
        assert home.cluster.objects[A]["data"]["size"] == "1"
        assert ref_of(config_map("old")) in home.cluster.objects
        await home.clock.until(lambda: ref_of(config_map("old")) not in home.cluster.objects)
        assert home.cluster.objects[A]["data"]["size"] == "2"
        assert statuses(home) == ["superseded", "deployed"]
    assert set(home.cluster.of("delete")) <= {ref_of(config_map("old")), MIGRATE}


async def _refuse(request: HelmRequest, lookup: Lookup) -> None:
    raise RenderError("size: Invalid type", reason="ValuesRejected")
