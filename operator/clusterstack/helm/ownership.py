"""What Helm writes on the objects of a release, and what it must leave alone."""

from __future__ import annotations

from collections.abc import Mapping

from clusterstack.core.objects import Manifest

MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"
MANAGED_BY_HELM = "Helm"
RELEASE_NAME_ANNOTATION = "meta.helm.sh/release-name"
RELEASE_NAMESPACE_ANNOTATION = "meta.helm.sh/release-namespace"
RESOURCE_POLICY_ANNOTATION = "helm.sh/resource-policy"
KEEP = "keep"


def stamp(manifest: Manifest, *, release_name: str, release_namespace: str) -> Manifest:
    """A copy of a manifest with the marks by which Helm knows its own (action.setMetadataVisitor)."""
    return with_common(
        manifest,
        labels={MANAGED_BY_LABEL: MANAGED_BY_HELM},
        annotations={RELEASE_NAME_ANNOTATION: release_name, RELEASE_NAMESPACE_ANNOTATION: release_namespace},
    )


def with_common(manifest: Manifest, labels: Mapping[str, str], annotations: Mapping[str, str]) -> Manifest:
    """A copy of a manifest with these labels and annotations over its own; pod templates and selectors stay."""
    if not labels and not annotations:
        return manifest
    metadata = dict(manifest.get("metadata") or {})
    if labels:
        metadata["labels"] = {**(metadata.get("labels") or {}), **labels}
    if annotations:
        metadata["annotations"] = {**(metadata.get("annotations") or {}), **annotations}
    return {**manifest, "metadata": metadata}


def owner(manifest: Manifest) -> tuple[str, str] | None:
    """The release that an object says it belongs to, as (namespace, name); None unless all three marks are there."""
    metadata = manifest.get("metadata") or {}
    annotations = metadata.get("annotations") or {}
    if (metadata.get("labels") or {}).get(MANAGED_BY_LABEL) != MANAGED_BY_HELM:
        return None
    name, namespace = annotations.get(RELEASE_NAME_ANNOTATION), annotations.get(RELEASE_NAMESPACE_ANNOTATION)
    return (namespace, name) if name and namespace else None


def conflict(live: Manifest, *, release_name: str, release_namespace: str) -> str:
    """Who else's release a live object belongs to, as `namespace/name`; empty when nobody else's."""
    found = owner(live)
    if found is None or found == (release_namespace, release_name):
        return ""
    return "/".join(found)


def kept(manifest: Manifest) -> bool:
    """Whether Helm leaves an object in place when its release drops it or goes (`helm.sh/resource-policy: keep`)."""
    annotations = (manifest.get("metadata") or {}).get("annotations") or {}
    return str(annotations.get(RESOURCE_POLICY_ANNOTATION, "")).strip().lower() == KEEP
