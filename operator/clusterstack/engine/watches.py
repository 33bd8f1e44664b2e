"""The watches that one unit holds, each once, until it lets go of them."""

from __future__ import annotations

from collections.abc import Collection, Hashable

from clusterstack.core.objects import GroupKind, ObjectRef
from clusterstack.core.webhooks import SERVICE_LABEL
from clusterstack.engine.world import Cluster
from clusterstack.kube.facts import object_key
from clusterstack.kube.observer import Watch
from clusterstack.kube.resource import CONFIG_MAP, NAMESPACE, SECRET, Resource

ENDPOINT_SLICE = GroupKind("discovery.k8s.io", "EndpointSlice")
MOST_EVENTS = 16
"""How many objects of a unit are explained by Events at a time: the API server does not cache these."""


def watch_server(cluster: Cluster, service: ObjectRef) -> tuple[Watch, ...]:
    """A Service, and its EndpointSlices; nothing while these kinds are not known."""
    services, slices = cluster.preferred(service.group_kind), cluster.preferred(ENDPOINT_SLICE)
    if services is None or slices is None:
        return ()
    return (
        cluster.watch_object(services, service.namespace, service.name),
        cluster.watch_children(slices, service.namespace, f"{SERVICE_LABEL}={service.name}"),
    )


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
        self._events: dict[ObjectRef, tuple[str, Watch]] = {}
        self._servers: dict[ObjectRef, dict[ObjectRef, tuple[Watch, ...]]] = {}

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

    def events(self, of: ObjectRef, resource: Resource, namespace: str, uid: str) -> Watch | None:
        """The Events of an object, or of a child that speaks for it; None when too many are being watched already."""
        known, watch = self._events.get(of, ("", None))
        if watch is not None and known == uid:
            return watch
        if watch is not None:
            watch.release()
        elif len(self._events) >= MOST_EVENTS:
            return None
        watch = self._cluster.watch_events(resource, namespace, uid)
        self._events[of] = uid, watch
        return watch

    def server(self, of: ObjectRef, service: ObjectRef) -> tuple[Watch, ...]:
        """A Service that an object needs, and its EndpointSlices; nothing while these kinds are not known."""
        held = self._servers.setdefault(of, {})
        if not held.get(service):
            held[service] = watch_server(self._cluster, service)
        return held[service]

    def childless(self, ref: ObjectRef) -> None:
        """The children of an object, its Events and its servers are of no interest any more."""
        if watch := self._held.pop(("children", ref), None):
            watch.release()
        for watches in self._servers.pop(ref, {}).values():
            for watch in watches:
                watch.release()
        if ref in self._events:
            self._events.pop(ref)[1].release()

    def close(self) -> None:
        for ref in list(self._servers):
            self.childless(ref)
        for watch in (*self._held.values(), *(watch for _, watch in self._events.values())):
            watch.release()
        self._held.clear()
        self._events.clear()
