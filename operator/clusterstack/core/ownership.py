"""Whose object this is: the labels that select, and the one annotation that proves it.

Labels get copied to children by other controllers; the owner annotation names its own bearer, and a mark on any other
object is ignored.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

from clusterstack.core.objects import Manifest, ObjectRef, digest

STACK_LABEL = "clusterstack.dev/stack"
LAYER_LABEL = "clusterstack.dev/layer"
OWNER_ANNOTATION = "clusterstack.dev/owner"
DIGEST_ANNOTATION = "clusterstack.dev/digest"
PRUNE_ANNOTATION = "clusterstack.dev/prune"
RECONCILE_ANNOTATION = "clusterstack.dev/reconcileAt"
FINALIZER = "clusterstack.dev/finalizer"
MANAGER = "clusterstack"
HELM_MANAGER = "helm"


@dataclass(frozen=True, slots=True)
class Owner:
    """The layer that owns an object; `installation` tells two operators of one cluster apart."""

    installation: str
    stack: str
    layer: str

    def mark(self, ref: ObjectRef) -> str:
        """The owner annotation of one object: it names its bearer, so a copy of it on another object proves nothing."""
        return "/".join((self.installation, self.stack, self.layer, ref.group, ref.kind, ref.namespace, ref.name))


def stamp(manifest: Manifest, ref: ObjectRef, owner: Owner, *, key: bytes) -> tuple[Manifest, str]:
    """A copy of a manifest with our marks, and the digest of what we want, which it carries as an annotation."""
    stamped = {**manifest, "metadata": copy.deepcopy(manifest.get("metadata") or {})}
    metadata = stamped["metadata"]
    metadata["labels"] = {**(metadata.get("labels") or {}), STACK_LABEL: owner.stack, LAYER_LABEL: owner.layer}
    annotations = {**(metadata.get("annotations") or {}), OWNER_ANNOTATION: owner.mark(ref)}
    metadata["annotations"] = annotations
    want = digest(stamped, key=key)
    annotations[DIGEST_ANNOTATION] = want
    return stamped, want


def owner_of(ref: ObjectRef, annotations: Mapping[str, str]) -> Owner | None:
    """The owner that a live object's annotation names, if the annotation was made for this very object."""
    parts = (annotations.get(OWNER_ANNOTATION) or "").split("/", 3)
    if len(parts) != 4:
        return None
    owner = Owner(*parts[:3])
    return owner if owner.mark(ref) == annotations[OWNER_ANNOTATION] else None
