"""What of a manifest is not ours to say, whoever wrote it down."""

from __future__ import annotations

from clusterstack.core.objects import Manifest, group_of

_SERVER_FIELDS = ("creationTimestamp", "generation", "managedFields", "resourceVersion", "selfLink", "uid")


def clean(manifest: Manifest) -> Manifest:
    """A copy without what the API server or a controller of Kubernetes writes itself.

    An aggregated ClusterRole's `rules` belong to its controller (kube-controller-manager's aggregation): to own
    them would be a fight without end.
    """
    metadata = {key: value for key, value in (manifest.get("metadata") or {}).items() if key not in _SERVER_FIELDS}
    cleaned = {key: value for key, value in manifest.items() if key != "status"} | {"metadata": metadata}
    aggregated = manifest.get("kind") == "ClusterRole" and manifest.get("aggregationRule")
    if aggregated and group_of(str(manifest.get("apiVersion", ""))) == "rbac.authorization.k8s.io":
        cleaned.pop("rules", None)
    return cleaned
