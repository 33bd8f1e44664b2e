"""The watches that one unit holds, each once, until it lets go of them."""

from __future__ import annotations

from collections.abc import Collection, Hashable

from clusterstack.core.objects import GroupKind, ObjectRef
from clusterstack.engine.world import Cluster
from clusterstack.kube.facts import object_key
from clusterstack.kube.observer import Watch
from clusterstack.kube.resource import CONFIG_MAP, NAMESPACE, SECRET, Resource

ENDPOINT_SLICE = GroupKind("discovery.k8s.io", "EndpointSlice")


class Reads:
    """Named objects that builds read, each watched for as long as some build does."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._held: dict[ObjectRef, Watch] = {}

    def keep(self, refs: Collection[ObjectRef]) -> None:
        """Watch exactly these ConfigMaps and Secrets."""
        for ref in [ref for ref in self._held if ref not in refs]:
            self._held.pop(ref).release()
        for ref in refs:
            if ref not in self._held:
                resource = SECRET if ref.kind == "Secret" else CONFIG_MAP
                self._held[ref] = self._cluster.watch_object(resource, ref.namespace, ref.name)

    def keys(self) -> list[Hashable]:
        """The bus keys on which their changes are published."""
        return [object_key(ref) for ref in self._held]


class Watches:
    """Opens a watch when it is first asked for."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._held: dict[Hashable, Watch] = {}

    def kind(self, resource: Resource) -> Watch:
        """Everything of ours of one kind."""
        key = ("kind", resource.group, resource.kind)
        if key not in self._held:
            self._held[key] = self._cluster.watch_kind(resource)
        return self._held[key]

    def one(self, ref: ObjectRef, resource: Resource | None = None) -> None:
        """One object, whoever made it; nothing while its kind is not served."""
        served = resource or (NAMESPACE if ref.kind == "Namespace" else self._cluster.preferred(ref.group_kind))
        if ("one", ref) not in self._held and served is not None:
            self._held["one", ref] = self._cluster.watch_object(served, ref.namespace, ref.name)

    def children(self, of: ObjectRef, resource: Resource, namespace: str, selector: str) -> Watch:
        """The objects that belong to another one."""
        key = ("children", of)
        if key not in self._held:
            self._held[key] = self._cluster.watch_children(resource, namespace, selector)
        return self._held[key]

    def endpoints(self, namespace: str, service: str) -> tuple[Hashable, ...]:
        """A webhook's endpoints: when they appear, it may answer. The keys under which they are published."""
        resource = self._cluster.preferred(ENDPOINT_SLICE)
        if resource is None:
            return ()
        of = ObjectRef("", "Service", namespace, service)
        return (self.children(of, resource, namespace, f"kubernetes.io/service-name={service}").key,)

    def childless(self, ref: ObjectRef) -> None:
        """The children of an object are of no interest any more."""
        if watch := self._held.pop(("children", ref), None):
            watch.release()

    def close(self) -> None:
        for watch in self._held.values():
            watch.release()
        self._held.clear()
