"""Deleting needs proof: which of a stack's objects are stale, and which of them may be deleted at all."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from clusterstack.api.common import GROUP
from clusterstack.core.inventory import Entry, Origin
from clusterstack.core.objects import GroupKind, Manifest, ObjectRef
from clusterstack.core.ownership import PRUNE_ANNOTATION, Owner, owner_of

NEVER = frozenset(
    {
        GroupKind("", "Namespace"),
        GroupKind("", "PersistentVolume"),
        GroupKind("", "PersistentVolumeClaim"),
        GroupKind("apiextensions.k8s.io", "CustomResourceDefinition"),
    }
)
OWN = frozenset({GroupKind(GROUP, "ClusterStack")})
SYSTEM_NAMESPACES = frozenset({"kube-system", "kube-public", "kube-node-lease", "default"})
_FLUX_PRUNE = "kustomize.toolkit.fluxcd.io/prune"
_KEEP = "helm.sh/resource-policy"


class Fate(StrEnum):
    """What becomes of an object that nobody wants any more."""

    DELETE = "delete"
    RELEASE = "release"
    """Forgotten: it leaves the inventory and stays in the cluster."""


@dataclass(frozen=True, slots=True)
class Stale:
    """An inventory entry that no unit of the stack renders any more; `handed_over`: another layer has it now."""

    layer: str
    entry: Entry
    handed_over: bool = False


def stale(inventories: Mapping[str, Iterable[Entry]], wanted: Mapping[str, Collection[ObjectRef]]) -> tuple[Stale, ...]:
    """What nobody renders any more, and what another layer renders now: a move deletes nothing."""
    owners = {ref: layer for layer, refs in wanted.items() for ref in refs}
    found = []
    for layer, entries in inventories.items():
        for entry in entries:
            owner = owners.get(entry.ref)
            if owner != layer:
                found.append(Stale(layer, entry, handed_over=owner is not None))
    return tuple(found)


def fate(entry: Entry, live: Manifest, *, installation: str, stack: str, teardown: bool = False) -> Fate:
    """Whether a live object may be deleted: all three witnesses agree (inventory, mark, UID), and nothing protects it.

    A teardown also takes CRDs and Namespaces that we created, once they hold nothing foreign, which the caller sees to.
    """
    metadata = live.get("metadata") or {}
    annotations = metadata.get("annotations") or {}
    owner: Owner | None = owner_of(entry.ref, annotations)
    ours = owner is not None and (owner.installation, owner.stack) == (installation, stack)
    witnesses = ours and entry.origin is Origin.CREATED and entry.uid == metadata.get("uid")
    if not witnesses or _protected(entry.ref, metadata, teardown=teardown):
        return Fate.RELEASE
    return Fate.DELETE


def _protected(ref: ObjectRef, metadata: Manifest, *, teardown: bool) -> bool:
    marks = {**(metadata.get("labels") or {}), **(metadata.get("annotations") or {})}
    if "disabled" in (str(marks.get(PRUNE_ANNOTATION, "")).lower(), str(marks.get(_FLUX_PRUNE, "")).lower()):
        return True
    if ref.group_kind in OWN:
        return True
    if ref.kind == "Namespace" and ref.group == "" and ref.name in SYSTEM_NAMESPACES:
        return True
    if teardown:
        return ref.group_kind in (GroupKind("", "PersistentVolume"), GroupKind("", "PersistentVolumeClaim"))
    return ref.group_kind in NEVER or str(marks.get(_KEEP, "")).lower() == "keep"
