"""Our own finalizer on a ClusterStack: there while something must be taken down when it is deleted."""

from __future__ import annotations

from clusterstack.api.common import API_VERSION
from clusterstack.core.objects import Manifest
from clusterstack.core.ownership import FINALIZER, MANAGER
from clusterstack.engine.world import Cluster
from clusterstack.errors import ApiError

OWN_CRD = "clusterstacks.clusterstack.dev"


async def set_finalizer(cluster: Cluster, stack: str, *, present: bool) -> None:
    """Add or remove it; nothing is written when it is as it should be. Raises ApiError, TransportError."""
    while True:
        found = await cluster.get(API_VERSION, "ClusterStack", "", stack)
        if found is None:
            return
        finalizers: list[str] = list(found["metadata"].get("finalizers") or [])
        if (FINALIZER in finalizers) is present:
            return
        changed = [*finalizers, FINALIZER] if present else [item for item in finalizers if item != FINALIZER]
        patch: Manifest = {"metadata": {"finalizers": changed, "resourceVersion": found["metadata"]["resourceVersion"]}}
        try:
            await cluster.patch(found, patch, manager=MANAGER)
        except ApiError as error:
            if error.status == 404:
                return
            if error.status != 409:
                raise


async def crd_going(cluster: Cluster) -> bool:
    """Whether our own CRD is being deleted: then everything is orphaned, for a deleted CRD must not cascade."""
    crd = await cluster.get("apiextensions.k8s.io/v1", "CustomResourceDefinition", "", OWN_CRD)
    return crd is None or bool(crd["metadata"].get("deletionTimestamp"))
