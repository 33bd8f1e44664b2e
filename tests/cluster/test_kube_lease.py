"""The Lease on a real API server: two processes, one writer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from clusterstack.errors import ApiError
from clusterstack.kube.client import KubeClient
from clusterstack.kube.lease import Lease, LeaseLost
from clusterstack.kube.resource import CONFIG_MAP, LEASE
from clusterstack.kube.slots import Slots
from testbed.controlplane import Cluster
from tests.cluster.kube_world import World, config_map, world

pytestmark = pytest.mark.cluster


def lease(here: World, namespace: str, identity: str) -> Lease:
    """A Lease in a hurry, with a client of its own."""
    client = KubeClient(here.connection, Slots(2), timeout=1.0)
    return Lease(
        client,
        namespace=namespace,
        name="operator",
        identity=identity,
        duration=2,
        renew_deadline=1.5,
        retry_period=0.2,
    )


async def test_the_second_starts_when_the_first_leaves_and_only_then(
    control_plane: Cluster, unique: Callable[[str], str]
) -> None:
    async with world(control_plane.kubeconfig) as here:
        namespace = await here.namespace(unique("kube"))
        second = lease(here, namespace, "b")
        async with lease(here, namespace, "a") as first:
            waiting = asyncio.create_task(second.acquire())
            await asyncio.sleep(3)  # longer than the Lease lasts: renewals keep it
            first.check()
            assert not waiting.done()
            assert second.holder == "a"
            spec = (await here.client.get(LEASE, namespace, "operator"))["spec"]
            assert (spec["holderIdentity"], spec["leaseDurationSeconds"], spec["leaseTransitions"]) == ("a", 2, 0)
        async with asyncio.timeout(5):
            await waiting
        second.check()
        assert (await here.client.get(LEASE, namespace, "operator"))["spec"]["leaseTransitions"] == 1
        await second.release()
        assert (await here.client.get(LEASE, namespace, "operator"))["spec"]["holderIdentity"] == ""


async def test_whoever_is_robbed_of_it_writes_no_more(control_plane: Cluster, unique: Callable[[str], str]) -> None:
    async with world(control_plane.kubeconfig) as here, world(control_plane.kubeconfig) as thief:
        namespace = await here.namespace(unique("kube"))
        async with lease(here, namespace, "a") as held:
            here.client.fence = held.check
            await here.client.apply(CONFIG_MAP, config_map(namespace), manager="m")
            robbery = {"spec": {"holderIdentity": "b"}}
            await thief.client.patch_merge(LEASE, namespace, "operator", robbery, manager="thief")
            async with asyncio.timeout(5):
                with pytest.raises(LeaseLost):
                    await held.lost()
            with pytest.raises(LeaseLost):
                await here.client.apply(CONFIG_MAP, config_map(namespace, "b"), manager="m")
        with pytest.raises(ApiError):
            await thief.client.get(CONFIG_MAP, namespace, "b")
        assert (await thief.client.get(LEASE, namespace, "operator"))["spec"]["holderIdentity"] == "b"
