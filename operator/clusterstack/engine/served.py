"""Why a kind is not served, or not to be seen, as far as the caches tell."""

from __future__ import annotations

from clusterstack.core.board import SYNCING
from clusterstack.core.content import Desired
from clusterstack.core.objects import GroupKind, group_of
from clusterstack.core.outcome import Park, kind_not_served
from clusterstack.core.served import CRD, api_service_of, unavailable, unestablished, unserved_version
from clusterstack.engine.watches import Watches
from clusterstack.engine.world import Cluster
from clusterstack.errors import ApiError
from clusterstack.kube.observer import Watch
from clusterstack.kube.resource import API_SERVICE, Resource


def explained(park: Park, cluster: Cluster, watches: Watches, desired: Desired) -> Park:
    """A refused write, in the words of the APIService behind it where that is why."""
    down = park.reason == "ApiServerError" and desired.api_version in cluster.unanswered()
    if down or park.reason == "KindNotServed":
        return not_served(cluster, watches, desired.api_version, desired.ref.kind)
    return park


def not_served(cluster: Cluster, watches: Watches, api_version: str, kind: str) -> Park:
    """What an object of such a kind waits for: another version, an aggregated API, a CRD in trouble, or any CRD."""
    group_kind = GroupKind(group_of(api_version), kind)
    if api_version in cluster.unanswered():
        ref = api_service_of(api_version)
        watches.one(ref, API_SERVICE)
        live = cluster.live(ref)
        return unavailable(group_kind, api_version, live.manifest() if live is not None else None)
    version, served = api_version.rpartition("/")[2], cluster.versions(group_kind)
    if served and version not in served:
        return unserved_version(group_kind, version, served)
    suffix = f".{group_kind.group}"
    for live in cluster.lives(CRD):
        if live.ref.name.endswith(suffix):
            crd = live.manifest()
            if (crd.get("spec") or {}).get("names", {}).get("kind") == kind:
                return unestablished(group_kind, live.ref.name, crd)
    return kind_not_served(group_kind)


def unread(resource: Resource, watch: Watch) -> Park:
    """What nothing is known of yet: its kind is being read, or cannot be, for want of a right or of a connection."""
    error = watch.error
    if error is None:
        return Park(SYNCING, f"reading {resource.plural}", (watch.key,))
    refused = isinstance(error, ApiError) and error.status in (401, 403)
    return Park(error.reason if refused else SYNCING, f"cannot read {resource.plural}: {error}", (watch.key,))
