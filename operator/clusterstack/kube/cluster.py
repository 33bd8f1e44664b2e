"""The engine's cluster, on the real API server: client, discovery and observer as one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from clusterstack.core.objects import GroupKind, Manifest, ObjectRef, group_of, ref_of
from clusterstack.errors import ApiError
from clusterstack.kube.client import KubeClient
from clusterstack.kube.discovery import Discovery
from clusterstack.kube.facts import Bus
from clusterstack.kube.live import Live
from clusterstack.kube.observer import Handle, Observer, Watch
from clusterstack.kube.resource import Resource


class KubeCluster:
    """Verbs and facts of one cluster (the protocol `engine.world.Cluster`). Raises ApiError and TransportError."""

    def __init__(self, client: KubeClient, discovery: Discovery, observer: Observer, bus: Bus) -> None:
        self._client, self._discovery, self._observer = client, discovery, observer
        self.facts = bus

    async def resource(self, api_version: str, kind: str) -> Resource | None:
        return await self._discovery.find(api_version, kind)

    def preferred(self, group_kind: GroupKind) -> Resource | None:
        return self._discovery.preferred(group_kind.group, group_kind.kind)

    def namespaced(self, group_kind: GroupKind) -> bool | None:
        resource = self.preferred(group_kind)
        return None if resource is None else resource.namespaced

    def api_versions(self) -> Sequence[str]:
        return self._discovery.api_versions()

    def versions(self, group_kind: GroupKind) -> Sequence[str]:
        return self._discovery.versions(group_kind)

    def unanswered(self) -> frozenset[str]:
        return self._discovery.incomplete

    def server_version(self) -> str:
        return self._discovery.server_version

    def watch_kind(self, resource: Resource) -> Handle:
        return self._observer.watch_kind(resource)

    def watch_object(self, resource: Resource, namespace: str, name: str) -> Handle:
        return self._observer.watch_object(resource, namespace, name)

    def watch_children(self, resource: Resource, namespace: str, selector: str) -> Handle:
        return self._observer.watch_children(resource, namespace, selector)

    def watch_events(self, resource: Resource, namespace: str, uid: str) -> Handle:
        return self._observer.watch_fields(resource, namespace, f"involvedObject.uid={uid}")

    def synced(self, watch: Watch) -> bool:
        assert isinstance(watch, Handle)
        return self._observer.synced(watch)

    def members(self, watch: Watch) -> tuple[Live, ...]:
        assert isinstance(watch, Handle)
        return self._observer.members(watch)

    def live(self, ref: ObjectRef) -> Live | None:
        return self._observer.get(ref)

    def last(self, ref: ObjectRef) -> Live | None:
        grave = self._observer.tombstone(ref)
        return grave.last if grave is not None else None

    def lives(self, group_kind: GroupKind) -> Iterable[Live]:
        return self._observer.list(group_kind)

    async def apply(
        self, manifest: Manifest, resource: Resource, *, manager: str, account: str = "", lane: str = ""
    ) -> tuple[bool, Live]:
        written = await self._client.apply(resource, manifest, manager=manager, impersonate=account or None, lane=lane)
        return written.created, written.live  # what was written: the cache may already know what somebody wrote since

    async def rehearse(
        self, manifest: Manifest, resource: Resource, *, manager: str, account: str = "", lane: str = ""
    ) -> None:
        await self._client.apply(
            resource, manifest, manager=manager, dry_run=True, impersonate=account or None, lane=lane
        )

    async def get(
        self, api_version: str, kind: str, namespace: str, name: str, *, account: str = ""
    ) -> Manifest | None:
        resource = await self.resource(api_version, kind)
        if resource is None:
            return None
        try:
            return await self._client.find(resource, namespace, name, impersonate=account or None)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    async def list(
        self,
        api_version: str,
        kind: str,
        namespace: str = "",
        *,
        selector: str = "",
        account: str = "",
        metadata_only: bool = False,
    ) -> list[Manifest]:
        resource = await self.resource(api_version, kind)
        if resource is None:
            return []
        return await self._client.list(
            resource, namespace, label_selector=selector, metadata_only=metadata_only, impersonate=account or None
        )

    async def create(self, manifest: Manifest, *, manager: str, account: str = "") -> Manifest:
        resource = await self._served(manifest)
        return await self._client.create(resource, manifest, manager=manager, impersonate=account or None)

    async def replace(self, manifest: Manifest, *, manager: str, account: str = "") -> Manifest:
        resource = await self._served(manifest)
        return await self._client.replace(resource, manifest, manager=manager, impersonate=account or None)

    async def patch(self, manifest: Manifest, patch: Manifest, *, manager: str) -> Manifest:
        resource, ref = await self._served(manifest), ref_of(manifest)
        return await self._client.patch_merge(resource, ref.namespace, ref.name, patch, manager=manager)

    async def apply_status(self, manifest: Manifest, *, manager: str) -> Manifest:
        resource = await self._served(manifest)
        return await self._client.apply_status(resource, manifest, manager=manager)

    async def delete(
        self, api_version: str, ref: ObjectRef, *, uid: str = "", propagation: str = "Background", account: str = ""
    ) -> bool:
        resource = await self.resource(api_version, ref.kind)
        if resource is None:
            return True
        left = await self._client.delete(
            resource, ref.namespace, ref.name, uid=uid, propagation=propagation, impersonate=account or None
        )
        return left is None or not (left.get("metadata") or {}).get("deletionTimestamp")

    async def _served(self, manifest: Manifest) -> Resource:
        resource = await self.resource(manifest["apiVersion"], manifest["kind"])
        if resource is None:
            kind = GroupKind(group_of(manifest["apiVersion"]), manifest["kind"])
            raise ApiError(f"kind {kind} is not served", status=404, reason="NotFound")
        return resource
