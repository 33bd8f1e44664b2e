"""Discovery against a real API server: what is served, when that changes, and what a dead aggregated API does to it."""

from __future__ import annotations

import asyncio

import pytest

from clusterstack.core.objects import GroupKind
from clusterstack.kube.facts import kind_key
from clusterstack.kube.resource import API_SERVICE, CUSTOM_RESOURCE_DEFINITION, Resource
from testbed.pytest_plugin import StartControlPlane
from tests.cluster.kube_world import DEPLOYMENT, crd, world

pytestmark = pytest.mark.cluster
FOO = GroupKind("example.dev", "Foo")


async def test_it_finds_kinds_versions_and_capabilities(own_control_plane: StartControlPlane) -> None:
    plane = own_control_plane(controllers=False, kwok=False, webhooks=False)
    async with world(plane.kubeconfig) as here:
        discovery = here.discovery
        found = discovery.resource("apps/v1", "Deployment")
        assert found is not None
        assert (found.plural, found.namespaced, found.path("a", "b")) == (
            "deployments",
            True,
            DEPLOYMENT.path("a", "b"),
        )
        assert "watch" in found.verbs
        assert found.status
        config_maps = discovery.resource("v1", "ConfigMap")
        assert config_maps is not None
        assert not config_maps.status
        assert discovery.resource("v1", "Namespace") is not None
        assert discovery.resource("apps/v1beta1", "Deployment") is None
        scaler = discovery.preferred("autoscaling", "HorizontalPodAutoscaler")
        assert scaler is not None
        assert scaler.version == "v2"
        assert discovery.resource("autoscaling/v1", "HorizontalPodAutoscaler") is not None
        assert {"v1", "apps/v1", "apps/v1/Deployment", "v1/Pod"} <= set(discovery.api_versions())
        assert "apps/v1/Scale" not in discovery.api_versions()
        assert discovery.server_version.startswith("v1.")
        assert (discovery.version.major, discovery.incomplete) == ("1", frozenset())


async def test_a_new_kind_is_told_and_can_be_written_at_once_and_its_end_is_told(
    own_control_plane: StartControlPlane,
) -> None:
    plane = own_control_plane(controllers=False, kwok=False, webhooks=False)
    async with world(plane.kubeconfig) as here:
        generation, seen = here.discovery.generation, here.bus.now
        assert await here.discovery.find("example.dev/v1", "Foo") is None
        await here.client.apply(CUSTOM_RESOURCE_DEFINITION, crd("Foo", "example.dev", "v1", "v2"), manager="m")
        async with asyncio.timeout(10):
            await here.bus.wait((kind_key(FOO),), seen)
        resource = here.discovery.resource("example.dev/v1", "Foo")
        assert resource is not None
        assert here.discovery.generation > generation
        preferred = here.discovery.preferred("example.dev", "Foo")
        assert preferred is not None
        assert preferred.version == "v2"
        foo = {"apiVersion": "example.dev/v1", "kind": "Foo", "metadata": {"namespace": "default", "name": "f"}}
        assert (await here.client.apply(resource, foo, manager="m")).created

        changed = crd("Foo", "example.dev", "v1", "v2")
        changed["spec"]["versions"][1]["served"] = False
        await here.client.apply(CUSTOM_RESOURCE_DEFINITION, changed, manager="m")
        async with asyncio.timeout(10):
            await here.until(lambda: here.discovery.resource("example.dev/v2", "Foo") is None, kind_key(FOO))
        assert here.discovery.preferred("example.dev", "Foo") == resource

        await here.client.delete(CUSTOM_RESOURCE_DEFINITION, "", "foos.example.dev")
        async with asyncio.timeout(20):
            await here.until(lambda: here.discovery.preferred("example.dev", "Foo") is None, kind_key(FOO))


async def test_questions_asked_together_share_an_answer_and_unchanged_ones_change_nothing(
    own_control_plane: StartControlPlane,
) -> None:
    plane = own_control_plane(controllers=False, kwok=False, webhooks=False)
    async with world(plane.kubeconfig) as here:
        asked: list[int] = []
        generation = here.discovery.generation
        here.client.on_request = lambda log: asked.append(log.status)
        async with asyncio.TaskGroup() as group:
            for number in range(200):
                group.create_task(here.discovery.find("example.dev/v1", f"Missing{number}"))
        raw = [status for status in asked if status in {200, 304}]
        assert len(raw) <= 6  # two documents, and at most two more rounds by the observer's own watches
        assert 304 in raw
        assert here.discovery.generation == generation


async def test_an_aggregated_api_that_does_not_answer_is_incomplete_and_hides_nothing_else(
    own_control_plane: StartControlPlane,
) -> None:
    plane = own_control_plane(controllers=False, kwok=False, webhooks=False)
    async with world(plane.kubeconfig) as here:
        service = Resource("", "v1", "Service", "services", namespaced=True)
        metadata = {"namespace": "default", "name": "nobody"}
        await here.client.create(service, {"metadata": metadata, "spec": {"ports": [{"port": 443}]}}, manager="m")
        api_service = {
            "metadata": {"name": "v1beta1.metrics.example.dev"},
            "spec": {
                "group": "metrics.example.dev",
                "version": "v1beta1",
                "groupPriorityMinimum": 100,
                "versionPriority": 100,
                "insecureSkipTLSVerify": True,
                "service": {**metadata, "port": 443},
            },
        }
        await here.client.create(API_SERVICE, api_service, manager="m")
        async with asyncio.timeout(30):
            while "metrics.example.dev/v1beta1" not in here.discovery.incomplete:
                await here.discovery.refresh()
        assert here.discovery.resource("apps/v1", "Deployment") is not None
        assert await here.discovery.find("apps/v1", "Deployment") is not None
