"""The verbs against a real API server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

import pytest

from clusterstack.errors import ApiError
from clusterstack.kube.client import KubeClient
from clusterstack.kube.resource import CONFIG_MAP, NAMESPACE, SECRET, Resource
from clusterstack.kube.slots import Slots
from testbed.controlplane import Cluster
from tests.cluster.kube_world import config_map, world

pytestmark = pytest.mark.cluster
CLUSTER_ROLE_BINDING = Resource(
    "rbac.authorization.k8s.io", "v1", "ClusterRoleBinding", "clusterrolebindings", namespaced=False
)


async def test_apply_creates_then_changes_then_writes_nothing(
    control_plane: Cluster, unique: Callable[[str], str]
) -> None:
    async with world(control_plane.kubeconfig) as here:
        namespace = await here.namespace(unique("kube"))
        first = await here.client.apply(CONFIG_MAP, config_map(namespace, k="1"), manager="clusterstack")
        second = await here.client.apply(CONFIG_MAP, config_map(namespace, k="2"), manager="clusterstack")
        third = await here.client.apply(CONFIG_MAP, config_map(namespace, k="2"), manager="clusterstack")
        versions = [written.object["metadata"]["resourceVersion"] for written in (first, second, third)]
        assert [first.created, second.created] == [True, False]
        assert versions[0] != versions[1] == versions[2]
        assert third.object["data"] == {"k": "2"}
        assert third.object["metadata"]["managedFields"][0]["manager"] == "clusterstack"


async def test_without_force_a_conflict_names_the_field_and_its_owner(
    control_plane: Cluster, unique: Callable[[str], str]
) -> None:
    async with world(control_plane.kubeconfig) as here:
        namespace = await here.namespace(unique("kube"))
        await here.client.apply(CONFIG_MAP, config_map(namespace, k="1"), manager="someone")
        with pytest.raises(ApiError) as caught:
            await here.client.apply(CONFIG_MAP, config_map(namespace, k="2"), manager="clusterstack", force=False)
        assert (caught.value.status, caught.value.reason) == (409, "Conflict")
        assert any("someone" in cause and ".data.k" in cause for cause in caught.value.causes)


async def test_a_dry_run_changes_nothing(control_plane: Cluster, unique: Callable[[str], str]) -> None:
    async with world(control_plane.kubeconfig) as here:
        namespace = await here.namespace(unique("kube"))
        written = await here.client.apply(CONFIG_MAP, config_map(namespace, k="1"), manager="m", dry_run=True)
        assert written.created
        assert await here.client.find(CONFIG_MAP, namespace, "a") is None


async def test_an_object_of_a_missing_namespace_and_a_missing_kind_are_told_apart(
    control_plane: Cluster, unique: Callable[[str], str]
) -> None:
    async with world(control_plane.kubeconfig) as here:
        with pytest.raises(ApiError) as caught:
            await here.client.apply(CONFIG_MAP, config_map(unique("nowhere")), manager="m")
        assert (caught.value.status, caught.value.reason) == (404, "NotFound")
        assert await here.client.find(CONFIG_MAP, unique("nowhere"), "a") is None
        missing = Resource("example.dev", "v1", "Missing", "missings", namespaced=True)
        for verb in (
            here.client.find(missing, "default", "a"),
            here.client.delete(missing, "default", "a"),
            here.client.list(missing),
        ):
            with pytest.raises(ApiError) as caught:
                await verb
            assert (caught.value.status, caught.value.reason) == (404, "KindNotServed")


async def test_a_replace_is_refused_when_the_object_changed_since(
    control_plane: Cluster, unique: Callable[[str], str]
) -> None:
    async with world(control_plane.kubeconfig) as here:
        namespace = await here.namespace(unique("kube"))
        made = await here.client.create(CONFIG_MAP, config_map(namespace, k="1"), manager="m")
        with pytest.raises(ApiError) as caught:
            await here.client.create(CONFIG_MAP, config_map(namespace, k="1"), manager="m")
        assert (caught.value.status, caught.value.reason) == (409, "AlreadyExists")
        changed = await here.client.replace(CONFIG_MAP, made | {"data": {"k": "2"}}, manager="m")
        assert changed["data"] == {"k": "2"}
        with pytest.raises(ApiError) as caught:
            await here.client.replace(CONFIG_MAP, made | {"data": {"k": "3"}}, manager="m")
        assert (caught.value.status, caught.value.reason) == (409, "Conflict")


async def test_patches_of_both_kinds_and_of_the_status(control_plane: Cluster, unique: Callable[[str], str]) -> None:
    async with world(control_plane.kubeconfig) as here:
        namespace = await here.namespace(unique("kube"))
        await here.client.create(CONFIG_MAP, config_map(namespace, k="1"), manager="m")
        merged = await here.client.patch_merge(CONFIG_MAP, namespace, "a", {"data": {"l": "2"}}, manager="m")
        assert merged["data"] == {"k": "1", "l": "2"}
        operations = [{"op": "test", "path": "/data/k", "value": "1"}, {"op": "remove", "path": "/data/k"}]
        patched = await here.client.patch_json(CONFIG_MAP, namespace, "a", operations, manager="m")
        assert patched["data"] == {"l": "2"}
        with pytest.raises(ApiError) as caught:
            await here.client.patch_json(CONFIG_MAP, namespace, "a", operations, manager="m")
        assert caught.value.status == 422
        status = await here.client.patch_status(
            NAMESPACE, "", namespace, {"conditions": [{"type": "Seen", "status": "True"}]}, manager="m"
        )
        assert status["status"]["conditions"][0]["type"] == "Seen"


async def test_a_delete_of_another_uid_is_refused_and_of_nothing_is_done(
    control_plane: Cluster, unique: Callable[[str], str]
) -> None:
    async with world(control_plane.kubeconfig) as here:
        namespace = await here.namespace(unique("kube"))
        made = await here.client.create(CONFIG_MAP, config_map(namespace), manager="m")
        with pytest.raises(ApiError) as caught:
            await here.client.delete(CONFIG_MAP, namespace, "a", uid="another")
        assert (caught.value.status, caught.value.reason) == (409, "Conflict")
        assert await here.client.delete(CONFIG_MAP, namespace, "a", uid=made["metadata"]["uid"]) is None
        assert await here.client.delete(CONFIG_MAP, namespace, "a") is None
        assert await here.client.find(CONFIG_MAP, namespace, "a") is None


async def test_a_delete_held_by_a_finalizer_returns_the_object(
    control_plane: Cluster, unique: Callable[[str], str]
) -> None:
    async with world(control_plane.kubeconfig) as here:
        namespace = await here.namespace(unique("kube"))
        held = config_map(namespace)
        held["metadata"]["finalizers"] = ["clusterstack.dev/test"]
        await here.client.create(CONFIG_MAP, held, manager="m")
        left = await here.client.delete(CONFIG_MAP, namespace, "a")
        assert left is not None
        assert left["metadata"]["deletionTimestamp"]
        await here.client.patch_merge(CONFIG_MAP, namespace, "a", {"metadata": {"finalizers": None}}, manager="m")
        assert await here.client.find(CONFIG_MAP, namespace, "a") is None
        assert await here.client.delete(NAMESPACE, "", namespace) is not None  # the namespace's contents come first


async def test_writes_are_made_as_the_account_that_is_named(
    control_plane: Cluster, unique: Callable[[str], str]
) -> None:
    async with world(control_plane.kubeconfig) as here:
        namespace = await here.namespace(unique("kube"))
        account = f"system:serviceaccount:{namespace}:deployer"
        with pytest.raises(ApiError) as caught:
            await here.client.apply(CONFIG_MAP, config_map(namespace), manager="m", impersonate=account)
        assert (caught.value.status, caught.value.reason) == (403, "Forbidden")
        assert account in str(caught.value)
        binding = {
            "metadata": {"name": namespace},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
            "subjects": [{"kind": "ServiceAccount", "namespace": namespace, "name": "deployer"}],
        }
        await here.client.create(CLUSTER_ROLE_BINDING, binding, manager="m")
        async with asyncio.timeout(10):
            written = None
            while written is None:  # the authorizer learns of the binding by a watch of its own
                with contextlib.suppress(ApiError):
                    written = await here.client.apply(
                        CONFIG_MAP, config_map(namespace), manager="m", impersonate=account
                    )
        assert written.created
        await here.client.delete(CLUSTER_ROLE_BINDING, "", namespace)


async def test_a_refused_secret_is_not_quoted(control_plane: Cluster, unique: Callable[[str], str]) -> None:
    async with world(control_plane.kubeconfig) as here:
        namespace = await here.namespace(unique("kube"))
        metadata = {"namespace": namespace, "name": "s"}
        for content in ({"data": {"k": "canary!"}}, {"stringData": {"k": 7412369}}, {"data": {"k": {"x": "canary!"}}}):
            secret = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, **content}
            with pytest.raises(ApiError) as caught:
                await here.client.apply(SECRET, secret, manager="m")
            assert "canary" not in f"{caught.value}{caught.value.causes}"
            assert "7412369" not in f"{caught.value}{caught.value.causes}"


async def test_lists_cross_their_pages_whole(control_plane: Cluster, unique: Callable[[str], str]) -> None:
    async with world(control_plane.kubeconfig) as here:
        namespace = await here.namespace(unique("kube"))
        async with asyncio.TaskGroup() as group:
            for number in range(620):
                manifest = config_map(namespace, f"c{number}", managed=False)
                group.create_task(here.client.create(CONFIG_MAP, manifest, manager="m", lane=str(number % 3)))
        items = await here.client.list(CONFIG_MAP, namespace, field_selector="metadata.name!=kube-root-ca.crt")
        assert {item["metadata"]["name"] for item in items} == {f"c{number}" for number in range(620)}
        only = await here.client.list(CONFIG_MAP, namespace, metadata_only=True)
        assert all("data" not in item and item["kind"] == "ConfigMap" for item in only)


async def test_a_status_is_applied_by_its_own_manager(control_plane: Cluster, unique: Callable[[str], str]) -> None:
    async with world(control_plane.kubeconfig) as here:
        name = unique("kube")
        await here.namespace(name)
        condition = {"type": "Seen", "status": "True", "reason": "Test", "message": "", "lastTransitionTime": None}
        manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        answer = await here.client.apply_status(
            NAMESPACE, manifest | {"status": {"conditions": [condition]}}, manager="clusterstack-status"
        )
        managers = {(entry["manager"], entry.get("subresource")) for entry in answer["metadata"]["managedFields"]}
        assert ("clusterstack-status", "status") in managers


async def test_one_lane_with_much_to_do_does_not_hold_up_another(
    control_plane: Cluster, unique: Callable[[str], str]
) -> None:
    async with world(control_plane.kubeconfig) as here:
        namespace = await here.namespace(unique("kube"))
        client = KubeClient(here.connection, Slots(4))
        done: list[str] = []

        async def write(lane: str, number: int) -> None:
            await client.apply(CONFIG_MAP, config_map(namespace, f"{lane}{number}"), manager="m", lane=lane)
            done.append(lane)

        async with asyncio.TaskGroup() as group:
            for number in range(300):
                group.create_task(write("long", number))
            for number in range(4):
                group.create_task(write("short", number))
        assert max(index for index, lane in enumerate(done) if lane == "short") < 30
