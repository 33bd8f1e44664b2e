"""What a layer's policy lets pass is shown as strictly judged: Ready as Flux would have it, Healthy as it is."""

from __future__ import annotations

from typing import Any

import pytest

from clusterstack.core.objects import Manifest, ObjectRef, ref_of
from clusterstack.errors import ChartError
from clusterstack.render.protocol import HelmRequest, Lookup
from tests.engine.charts import Chart
from tests.engine.clock import settle
from tests.engine.home import STACK, Home, LayerBench, available, config_map, deployment, layering

KAFKA: Manifest = {
    "apiVersion": "kafka.strimzi.io/v1beta2",
    "kind": "Kafka",
    "metadata": {"name": "main", "namespace": "kafka"},
    "spec": {},
}
CREATING = {"conditions": [{"type": "NotReady", "status": "True", "reason": "Creating"}]}
WEB = ref_of(deployment("web"))


def shown(home: Home, name: str, layer: str = "base") -> tuple[str, str]:
    """Status and message of a condition, as the cluster has it."""
    known = home.cluster.objects[ObjectRef("clusterstack.dev", "StackLayer", "", f"{STACK}.{layer}")]
    conditions: list[dict[str, Any]] = known.get("status", {}).get("conditions", [])
    return next(((one["status"], one["message"]) for one in conditions if one["type"] == name), ("", ""))


async def until_shown(home: Home, bench: LayerBench, name: str, status: str) -> str:
    await home.clock.until(lambda: shown(home, name)[0] == status, limit=60)
    return shown(home, name)[1]


def kafka_serving(home: Home) -> None:
    home.cluster.serve("kafka.strimzi.io/v1beta2", "Kafka", status=True)


def ready_kafka(home: Home) -> Manifest:
    generation = home.cluster.objects[ref_of(KAFKA)]["metadata"]["generation"]
    return {"observedGeneration": generation, "conditions": [{"type": "Ready", "status": "True"}]}


async def test_a_layer_gated_as_flux_gates_it_is_ready_while_its_kafka_is_shown_as_not_healthy(home: Home) -> None:
    kafka_serving(home)
    async with layering(home) as base:
        await base.put(home.content(KAFKA, config_map("a"), health={"policy": "KStatus"}))
        home.cluster.status(ref_of(KAFKA), CREATING)
        assert await base.ready() == 0
        await home.clock.until(lambda: "Creating" in shown(home, "Healthy")[1], limit=60)
        message = await until_shown(home, base, "Healthy", "False")
        assert message.startswith("Kafka kafka/main: ")
        assert shown(home, "Ready") == ("True", f"Ready, but not healthy: {message}")
        home.cluster.status(ref_of(KAFKA), ready_kafka(home))
        assert await until_shown(home, base, "Healthy", "True") == "2 objects are healthy"
        assert shown(home, "Ready")[0] == "True"


async def test_a_layer_gated_strictly_is_ready_only_once_its_kafka_is_healthy(home: Home) -> None:
    kafka_serving(home)
    async with layering(home) as base:
        await base.put(home.content(KAFKA))
        home.cluster.status(ref_of(KAFKA), CREATING)
        await home.clock.advance(60)
        assert base.phase == "Progressing"
        assert (shown(home, "Ready")[0], shown(home, "Healthy")[0]) == ("False", "False")
        home.cluster.status(ref_of(KAFKA), ready_kafka(home))
        await base.ready()
        assert await until_shown(home, base, "Healthy", "True")


async def test_a_layer_whose_objects_have_only_to_exist_shows_which_are_not_healthy(home: Home) -> None:
    async with layering(home) as base:
        await base.put(home.content(deployment("web"), config_map("a"), health={"policy": "Exists"}))
        await base.ready()
        assert "Deployment apps/web" in await until_shown(home, base, "Healthy", "False")
        assert base.layer.units[0].keeper.board.passed == 1
        available(home.cluster, WEB)
        await until_shown(home, base, "Healthy", "True")


async def test_a_regression_of_what_gates_nothing_is_shown_and_leaves_ready_alone(home: Home) -> None:
    kafka_serving(home)
    async with layering(home) as base:
        await base.put(home.content(KAFKA, health={"policy": "KStatus"}))
        home.cluster.status(ref_of(KAFKA), ready_kafka(home))
        await base.ready()
        await until_shown(home, base, "Healthy", "True")
        before = [call for call in home.cluster.done if call.verb == "apply_status"]
        home.cluster.status(ref_of(KAFKA), CREATING)
        await until_shown(home, base, "Healthy", "False")
        assert base.phase == "Ready"
        written = [call for call in home.cluster.done if call.verb == "apply_status"][len(before) :]
        assert len(written) == 1


async def test_an_object_that_is_to_be_ignored_is_healthy_in_every_respect(home: Home) -> None:
    kafka_serving(home)
    ignored = {**KAFKA, "metadata": {**KAFKA["metadata"], "annotations": {"clusterstack.dev/health": "ignore"}}}
    async with layering(home) as base:
        await base.put(home.content(ignored, health={"policy": "KStatus"}))
        home.cluster.status(ref_of(KAFKA), CREATING)
        await base.ready()
        await until_shown(home, base, "Healthy", "True")


@pytest.mark.parametrize(("group", "waits"), [("helm.toolkit.fluxcd.io", True), ("clusterstack.dev", False)])
async def test_a_helm_release_is_ready_once_its_objects_are_also_where_those_of_the_layer_have_only_to_exist(
    home: Home, group: str, waits: bool
) -> None:
    home.charts["app"] = Chart(lambda request: [deployment("web")])
    async with layering(home) as base:
        release = home.release("app", origin=ObjectRef(group, "HelmRelease", "apps", "app"))
        await base.put(home.content(releases=[release], health={"policy": "Exists"}))
        await base.ready()
        assert home.context.releases.get("apps/app", False) is not waits
        available(home.cluster, WEB)
        await until_shown(home, base, "Healthy", "True")
        assert home.context.releases["apps/app"]


@pytest.mark.parametrize("policy", ["Exists", "KStatus"])
async def test_a_helm_release_that_fails_holds_its_layer_only_where_flux_waits_for_it(home: Home, policy: str) -> None:
    async def broken(request: HelmRequest, lookup: Lookup) -> None:
        raise ChartError("its template is broken", reason="RenderFailed")

    home.charts["app"] = Chart(asked=broken)
    async with layering(home) as base:
        release = home.release("app", origin=ObjectRef("helm.toolkit.fluxcd.io", "HelmRelease", "apps", "app"))
        await base.put(home.content(config_map("a"), releases=[release], health={"policy": policy}))
        await until_shown(home, base, "Healthy", "False")
        assert base.phase == ("Ready" if policy == "Exists" else "Failed")


@pytest.mark.parametrize("policy", ["Exists", "KStatus", "Strict"])
async def test_objects_that_are_awaited_by_name_have_to_be_healthy_under_every_policy(home: Home, policy: str) -> None:
    check = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "namespace": "apps"}
    home.cluster.put(deployment("web"))
    async with layering(home) as base:
        await base.put(home.content(config_map("a"), health={"policy": policy, "checks": [check]}))
        await settle()
        assert base.phase == "Progressing"
        available(home.cluster, WEB)
        await base.ready()
