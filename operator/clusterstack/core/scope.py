"""Which namespace an object lands in, known from discovery or from the CRD that is about to be applied."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from clusterstack.core.objects import GroupKind, Manifest, ObjectRef, ref_of

BUILTIN_CLUSTER_SCOPED = frozenset(
    {
        GroupKind("", "Namespace"),
        GroupKind("", "PersistentVolume"),
        GroupKind("", "Node"),
        GroupKind("rbac.authorization.k8s.io", "ClusterRole"),
        GroupKind("rbac.authorization.k8s.io", "ClusterRoleBinding"),
        GroupKind("apiextensions.k8s.io", "CustomResourceDefinition"),
        GroupKind("apiregistration.k8s.io", "APIService"),
        GroupKind("admissionregistration.k8s.io", "ValidatingWebhookConfiguration"),
        GroupKind("admissionregistration.k8s.io", "MutatingWebhookConfiguration"),
        GroupKind("storage.k8s.io", "StorageClass"),
        GroupKind("scheduling.k8s.io", "PriorityClass"),
        GroupKind("node.k8s.io", "RuntimeClass"),
    }
)


def scopes_of(manifests: Iterable[Manifest]) -> Mapping[GroupKind, bool]:
    """Kind to "is namespaced", for the kinds whose CRDs are among the manifests."""
    scopes: dict[GroupKind, bool] = {}
    for manifest in manifests:
        if manifest.get("kind") != "CustomResourceDefinition":
            continue
        spec: dict[str, Any] = manifest.get("spec") or {}
        kind = (spec.get("names") or {}).get("kind")
        if kind:
            scopes[GroupKind(str(spec.get("group", "")), str(kind))] = spec.get("scope") == "Namespaced"
    return scopes


def place(manifest: Manifest, *, namespaced: bool | None, default: str) -> tuple[ObjectRef, Manifest]:
    """The object's identity and manifest with its namespace settled.

    A cluster-scoped object loses a namespace that a chart wrote into it, as the API server ignores it; a namespaced one
    without any gets `default`, and so does one whose kind nobody serves yet (most custom kinds are namespaced).
    """
    ref = ref_of(manifest)
    namespace = "" if namespaced is False else ref.namespace or default
    if namespace == ref.namespace:
        return ref, manifest
    metadata = {key: value for key, value in (manifest.get("metadata") or {}).items() if key != "namespace"}
    if namespace:
        metadata["namespace"] = namespace
    placed = {**manifest, "metadata": metadata}
    return ref_of(placed), placed
