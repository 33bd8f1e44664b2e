"""Watches against a real API server: what is seen, and what a break or a restored backup does to it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from clusterstack.core.objects import GroupKind, Manifest, ObjectRef
from clusterstack.kube.facts import kind_key, object_key
from clusterstack.kube.resource import CONFIG_MAP, CUSTOM_RESOURCE_DEFINITION, NAMESPACE, SECRET, Resource
from clusterstack.kube.stream import StreamState
from testbed.controlplane import Cluster
from testbed.pytest_plugin import StartControlPlane
from tests.cluster.kube_world import DEPLOYMENT, MANAGED, config_map, crd, ref_of_config_map, world

pytestmark = pytest.mark.cluster
POD = Resource("", "v1", "Pod", "pods", namespaced=True)


async def test_it_sees_managed_objects_of_all_namespaces_and_no_others(
    control_plane: Cluster, unique: Callable[[str], str]
) -> None:
    async with world(control_plane.kubeconfig) as here:
        namespace = await here.namespace(unique("kube"))
        await here.client.create(CONFIG_MAP, config_map(namespace, "before", k="canary"), manager="m")
        await here.client.create(CONFIG_MAP, config_map(namespace, "foreign", managed=False), manager="m")
        handle = await here.synced(here.observer.watch_kind(CONFIG_MAP))
        live = here.observer.get(ref_of_config_map(namespace, "before"))
        assert live is not None
        assert "canary" not in repr(live)
        assert live.managers[0].manager == "m"
        assert here.observer.get(ref_of_config_map(namespace, "foreign")) is None
        assert {live.ref.name for live in here.observer.members(handle) if live.ref.namespace == namespace} == {
            "before"
        }


async def test_what_we_write_is_known_when_the_verb_returns_and_what_others_write_soon(
    control_plane: Cluster, unique: Callable[[str], str]
) -> None:
    async with world(control_plane.kubeconfig) as here, world(control_plane.kubeconfig) as other:
        namespace = await here.namespace(unique("kube"))
        ref = ref_of_config_map(namespace)
        await here.synced(here.observer.watch_kind(CONFIG_MAP))
        written = await here.client.apply(CONFIG_MAP, config_map(namespace, k="1"), manager="clusterstack")
        live = here.observer.get(ref)
        assert live is not None
        assert live.resource_version == written.object["metadata"]["resourceVersion"]
        digest = live.fields_digest("clusterstack")
        assert digest

        await other.client.patch_merge(CONFIG_MAP, namespace, "a", {"data": {"l": "2"}}, manager="human")
        changed = await here.seen(ref, lambda live: live is not None and len(live.managers) == 2)
        assert changed is not None
        assert changed.fields_digest("clusterstack") == digest  # a field beside ours is nobody's drift

        await other.client.apply(CONFIG_MAP, config_map(namespace, k="9"), manager="human")
        taken = await here.seen(
            ref,
            lambda live: live is not None and live.fields_digest("human") != "" and live.revision > changed.revision,
        )
        assert taken is not None

        await other.client.delete(CONFIG_MAP, namespace, "a")
        assert await here.seen(ref, lambda live: live is None) is None
        grave = here.observer.tombstone(ref)
        assert grave is not None
        assert (grave.uid, grave.final) == (live.uid, False)


async def test_a_stripped_label_looks_like_a_deletion_until_the_server_is_asked(
    control_plane: Cluster, unique: Callable[[str], str]
) -> None:
    async with world(control_plane.kubeconfig) as here, world(control_plane.kubeconfig) as other:
        namespace = await here.namespace(unique("kube"))
        ref = ref_of_config_map(namespace)
        await here.synced(here.observer.watch_kind(CONFIG_MAP))
        await here.client.apply(CONFIG_MAP, config_map(namespace), manager="clusterstack")
        labels = {"metadata": {"labels": dict.fromkeys(MANAGED)}}
        await other.client.patch_merge(CONFIG_MAP, namespace, "a", labels, manager="human")
        await here.seen(ref, lambda live: live is None)
        confirmed = await here.observer.confirm(CONFIG_MAP, ref)
        assert confirmed is not None
        assert confirmed.labels == {}
        await here.client.apply(CONFIG_MAP, config_map(namespace), manager="clusterstack")
        assert here.observer.get(ref) is not None
        await other.client.delete(CONFIG_MAP, namespace, "a")
        assert await here.observer.confirm(CONFIG_MAP, ref) is None
        assert here.observer.get(ref) is None


async def test_our_own_delete_is_final(control_plane: Cluster, unique: Callable[[str], str]) -> None:
    async with world(control_plane.kubeconfig) as here:
        namespace = await here.namespace(unique("kube"))
        ref = ref_of_config_map(namespace)
        await here.synced(here.observer.watch_kind(CONFIG_MAP))
        written = await here.client.apply(CONFIG_MAP, config_map(namespace), manager="m")
        uid = written.object["metadata"]["uid"]
        assert await here.client.delete(CONFIG_MAP, namespace, "a", uid=uid) is None
        assert here.observer.get(ref) is None
        grave = here.observer.tombstone(ref)
        assert grave is not None
        assert (grave.uid, grave.final) == (uid, True)
        assert here.observer.absorb(written.object) is None  # the late answer of an earlier write
        await here.client.apply(CONFIG_MAP, config_map(namespace), manager="m")
        assert here.observer.get(ref) is not None


async def test_a_foreign_object_is_watched_by_name_and_children_by_label(
    control_plane: Cluster, unique: Callable[[str], str]
) -> None:
    async with world(control_plane.kubeconfig, linger=0.0) as here:
        namespace = await here.namespace(unique("kube"))
        ref = ObjectRef("", "Secret", namespace, "auth")
        with await here.synced(here.observer.watch_object(SECRET, namespace, "auth")) as by_name:
            assert here.observer.members(by_name) == ()
            secret = {"metadata": {"namespace": namespace, "name": "auth"}, "data": {"k": "Y2FuYXJ5"}}
            await here.client.create(SECRET, secret, manager="m")
            live = here.observer.get(ref)
            assert live is not None
            assert "Y2FuYXJ5" not in repr(live)
        await here.until_gone(ref)
        with await here.synced(here.observer.watch_children(POD, namespace, "app=web")) as children:
            for name, app in (("web-1", "web"), ("web-2", "web"), ("db-1", "db")):
                pod = {
                    "metadata": {"namespace": namespace, "name": name, "labels": {"app": app}},
                    "spec": {"containers": [{"name": "c", "image": "i"}]},
                }
                await here.client.create(POD, pod, manager="m")
            assert {live.ref.name for live in here.observer.members(children)} == {"web-1", "web-2"}


async def test_readers_share_a_watch_and_the_last_one_ends_it(
    control_plane: Cluster, unique: Callable[[str], str]
) -> None:
    async with world(control_plane.kubeconfig, linger=0.0) as here:
        first = await here.synced(here.observer.watch_kind(DEPLOYMENT))
        second = here.observer.watch_kind(DEPLOYMENT)
        assert here.observer.synced(second)
        first.release()
        first.release()
        assert second.key in here.observer._watches
        second.release()
        third = here.observer.watch_kind(DEPLOYMENT)  # taken up again before it ended
        await asyncio.sleep(0.05)
        assert here.observer.synced(third)
        third.release()
        while third.key in here.observer._watches:  # noqa: ASYNC110 - a timer's turn
            await asyncio.sleep(0)


async def test_a_namespace_of_objects_can_go_at_once(control_plane: Cluster, unique: Callable[[str], str]) -> None:
    async with world(control_plane.kubeconfig) as here:
        namespace = await here.namespace(unique("kube"))
        await here.synced(here.observer.watch_kind(CONFIG_MAP))
        names = [f"c{number}" for number in range(50)]
        async with asyncio.TaskGroup() as group:
            for name in names:
                group.create_task(here.client.apply(CONFIG_MAP, config_map(namespace, name), manager="m"))
        refs = [ref_of_config_map(namespace, name) for name in names]
        assert all(here.observer.get(ref) for ref in refs)
        await here.client.delete(NAMESPACE, "", namespace)
        async with asyncio.timeout(60):
            await here.until(
                lambda: not any(here.observer.get(ref) for ref in refs), *(object_key(ref) for ref in refs)
            )


async def test_a_kind_served_later_is_watched_as_soon_as_it_is(own_control_plane: StartControlPlane) -> None:
    plane = own_control_plane(controllers=False, kwok=False, webhooks=False)
    foo = Resource("example.dev", "v1", "Foo", "foos", namespaced=True)
    ref = ObjectRef("example.dev", "Foo", "default", "f")
    async with world(plane.kubeconfig, backoff=(0.25, 300.0)) as here:
        handle = here.observer.watch_kind(foo)
        await here.until(lambda: handle.state is StreamState.DEGRADED, handle.key)
        assert handle.error is not None
        assert handle.error.reason == "KindNotServed"
        await here.client.apply(CUSTOM_RESOURCE_DEFINITION, crd("Foo", "example.dev", "v1"), manager="m")
        async with asyncio.timeout(10):
            await here.synced(handle)
        manifest = {"metadata": {"namespace": "default", "name": "f", "labels": MANAGED}, "spec": {"x": 1}}
        await here.client.create(foo, manifest | {"apiVersion": "example.dev/v1", "kind": "Foo"}, manager="m")
        live = here.observer.get(ref)
        assert live is not None
        assert live.manifest()["spec"] == {"x": 1}

        await here.client.delete(CUSTOM_RESOURCE_DEFINITION, "", "foos.example.dev")
        async with asyncio.timeout(20):
            await here.until(lambda: here.discovery.preferred("example.dev", "Foo") is None, kind_key(foo.group_kind))
            await here.until(lambda: not here.observer.synced(handle), handle.key)


async def test_a_version_that_is_no_longer_served_is_watched_in_another(own_control_plane: StartControlPlane) -> None:
    plane = own_control_plane(controllers=False, kwok=False, webhooks=False)
    async with world(plane.kubeconfig) as here:
        both = crd("Foo", "example.dev", "v1", "v2")
        await here.client.apply(CUSTOM_RESOURCE_DEFINITION, both, manager="m")
        key = kind_key(GroupKind("example.dev", "Foo"))
        async with asyncio.timeout(10):
            await here.until(lambda: here.discovery.resource("example.dev/v2", "Foo") is not None, key)
        old = here.discovery.resource("example.dev/v2", "Foo")
        assert old is not None
        handle = await here.synced(here.observer.watch_kind(old))
        both["spec"]["versions"][1]["served"] = False
        await here.client.apply(CUSTOM_RESOURCE_DEFINITION, both, manager="m")
        async with asyncio.timeout(10):
            await here.until(lambda: here.discovery.resource("example.dev/v2", "Foo") is None, key)
        new = here.discovery.resource("example.dev/v1", "Foo")
        assert new is not None
        manifest = {"metadata": {"namespace": "default", "name": "f", "labels": MANAGED}}
        ref = ObjectRef("example.dev", "Foo", "default", "f")
        async with world(plane.kubeconfig) as other:
            await other.client.create(new, manifest | {"apiVersion": "example.dev/v1", "kind": "Foo"}, manager="m")
        async with asyncio.timeout(20):
            live = await here.seen(ref, lambda live: live is not None)
        assert live is not None
        assert live.api_version == "example.dev/v1"
        assert handle.error is None


async def test_a_restored_backup_is_believed_though_its_revisions_are_older(
    own_control_plane: StartControlPlane,
) -> None:
    plane = own_control_plane(controllers=False, kwok=False, webhooks=False)
    async with world(plane.kubeconfig) as here:
        handle = await here.synced(here.observer.watch_kind(CONFIG_MAP))
        kept = await here.client.apply(CONFIG_MAP, config_map("default", "kept", k="1"), manager="m")
        backup = await asyncio.to_thread(plane.snapshot)
        for number in range(20):
            await here.client.apply(CONFIG_MAP, config_map("default", "kept", k=f"new {number}"), manager="m")
        await here.client.apply(CONFIG_MAP, config_map("default", "later"), manager="m")
        await asyncio.to_thread(plane.restore, backup)
        ref, later = ref_of_config_map("default", "kept"), ref_of_config_map("default", "later")
        async with asyncio.timeout(60):
            await here.seen(later, lambda live: live is None)
            live = await here.seen(ref, lambda live: live is not None)
            await here.synced(handle)
        assert live is not None
        assert live.resource_version == kept.object["metadata"]["resourceVersion"]
        await here.client.apply(CONFIG_MAP, config_map("default", "later"), manager="m")
        assert here.observer.get(later) is not None


async def test_nothing_is_missed_when_the_api_server_goes_and_comes_back(
    own_control_plane: StartControlPlane,
) -> None:
    plane = own_control_plane(controllers=False, kwok=False, webhooks=False)
    async with world(plane.kubeconfig) as here:
        handle = await here.synced(here.observer.watch_kind(CONFIG_MAP))
        await here.client.apply(CONFIG_MAP, config_map("default"), manager="m")
        backup = await asyncio.to_thread(plane.snapshot)  # stops and starts both servers
        await asyncio.to_thread(plane.restore, backup)
        async with world(plane.kubeconfig) as other, asyncio.timeout(60):
            await other.client.delete(CONFIG_MAP, "default", "a")
            await other.client.apply(CONFIG_MAP, config_map("default", "b"), manager="m")
            await here.seen(ref_of_config_map("default", "b"), lambda live: live is not None)
            await here.seen(ref_of_config_map("default", "a"), lambda live: live is None)
            await here.synced(handle)


async def test_events_are_watched_of_one_object_alone(control_plane: Cluster, unique: Callable[[str], str]) -> None:
    events = Resource("", "v1", "Event", "events", namespaced=True)

    def event(namespace: str, name: str, uid: str, message: str) -> Manifest:
        about = {"kind": "Pod", "namespace": namespace, "name": "p", "uid": uid}
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": namespace},
            "involvedObject": about,
            "message": message,
        }

    async with world(control_plane.kubeconfig) as here:
        namespace = await here.namespace(unique("kube"))
        await here.client.create(events, event(namespace, "before", "u1", "old"), manager="m")
        handle = here.observer.watch_fields(events, namespace, "involvedObject.uid=u1")
        await here.synced(handle)
        await here.client.create(events, event(namespace, "other", "u2", "not mine"), manager="m")
        await here.client.create(events, event(namespace, "after", "u1", "new"), manager="m")
        async with asyncio.timeout(10):
            while True:
                seen = here.bus.now
                if len(here.observer.members(handle)) > 1:
                    break
                await here.bus.wait((handle.key,), seen)
        told = {live.manifest()["message"] for live in here.observer.members(handle)}
        assert told == {"old", "new"}
