"""Events on a real API server: posted, counted, cut when there are too many."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from clusterstack.kube.events import BURST, EventRecorder
from clusterstack.kube.resource import CONFIG_MAP, EVENT, NAMESPACE
from testbed.controlplane import Cluster
from tests.cluster.kube_world import World, config_map, world

pytestmark = pytest.mark.cluster


@asynccontextmanager
async def recorder(here: World) -> AsyncIterator[EventRecorder]:
    events = EventRecorder(here.client, instance="test")
    posting = asyncio.create_task(events.run())
    yield events
    posting.cancel()


async def test_an_event_is_posted_and_its_repetition_counted(
    control_plane: Cluster, unique: Callable[[str], str]
) -> None:
    async with world(control_plane.kubeconfig) as here, recorder(here) as events:
        namespace = await here.namespace(unique("kube"))
        made = await here.client.create(CONFIG_MAP, config_map(namespace), manager="m")
        for _ in range(3):
            events.record(made, kind="Warning", reason="ApplyFailed", message="no such kind")
        events.record(made, kind="Normal", reason="Applied", message="é" * 2000)
        await events.flush(10)
        posted = {event["reason"]: event for event in await here.client.list(EVENT, namespace)}
        failed = posted["ApplyFailed"]
        assert failed["series"]["count"] == 3
        assert (failed["type"], failed["note"]) == ("Warning", "no such kind")
        assert failed["regarding"]["uid"] == made["metadata"]["uid"]
        assert failed["reportingController"] == "clusterstack.dev/clusterstack"
        assert len(posted["Applied"]["note"].encode()) <= 1024
        assert events.dropped == 0


async def test_an_event_of_a_cluster_scoped_object_goes_to_default(
    control_plane: Cluster, unique: Callable[[str], str]
) -> None:
    async with world(control_plane.kubeconfig) as here, recorder(here) as events:
        name = await here.namespace(unique("kube"))
        events.record(await here.client.get(NAMESPACE, "", name), kind="Normal", reason="Seen", message="here")
        await events.flush(10)
        found = await here.client.list(EVENT, "default", field_selector=f"regarding.name={name}")
        assert [event["reason"] for event in found] == ["Seen"]


async def test_a_flood_is_cut_and_blocks_nobody(control_plane: Cluster, unique: Callable[[str], str]) -> None:
    async with world(control_plane.kubeconfig) as here, recorder(here) as events:
        namespace = await here.namespace(unique("kube"))
        made = await here.client.create(CONFIG_MAP, config_map(namespace), manager="m")
        for number in range(5000):
            events.record(made, kind="Normal", reason="Applied", message=f"number {number}")
        await events.flush(20)
        posted = await here.client.list(EVENT, namespace)
        assert len(posted) == BURST
        assert events.dropped == 5000 - BURST


async def test_an_event_in_a_namespace_that_is_gone_is_dropped_quietly(
    control_plane: Cluster, unique: Callable[[str], str]
) -> None:
    async with world(control_plane.kubeconfig) as here, recorder(here) as events:
        events.record(config_map(unique("nowhere")), kind="Normal", reason="Seen", message="lost")
        await events.flush(10)
        assert events.dropped == 1
