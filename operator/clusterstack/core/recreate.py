"""Which objects may be deleted and made anew when a field of theirs cannot be changed: never those that hold data."""

from __future__ import annotations

from clusterstack.core.inventory import Entry, Origin
from clusterstack.core.objects import JOB, GroupKind, Manifest

_DATA = frozenset(
    {
        GroupKind("", "Namespace"),
        GroupKind("", "PersistentVolume"),
        GroupKind("", "PersistentVolumeClaim"),
        GroupKind("apps", "StatefulSet"),
        GroupKind("apiextensions.k8s.io", "CustomResourceDefinition"),
    }
)
_FLUX_FORCE = "kustomize.toolkit.fluxcd.io/force"


def recreatable(entry: Entry | None, manifest: Manifest, *, force: bool) -> bool:
    """Whether to recreate: a Job that we created, whose new content is a new run; anything else only where the layer
    (`force`) or the object (Flux's `force: enabled`) says so."""
    if entry is None or entry.ref.group_kind in _DATA or entry.origin is not Origin.CREATED:
        return False
    metadata = manifest.get("metadata") or {}
    marks = {**(metadata.get("labels") or {}), **(metadata.get("annotations") or {})}
    return force or entry.ref.group_kind == JOB or str(marks.get(_FLUX_FORCE, "")).lower() == "enabled"
