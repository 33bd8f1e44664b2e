"""Kubernetes objects as plain dictionaries, and the names by which everything here refers to them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import msgspec

Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True, order=True)
class GroupKind:
    """What an object is, whatever the version: `Deployment.apps`."""

    group: str
    kind: str

    def __str__(self) -> str:
        return f"{self.kind}.{self.group}" if self.group else self.kind


JOB = GroupKind("batch", "Job")
"""The kind that runs to an end: what ended is neither changed nor, once it was collected, made again."""


@dataclass(frozen=True, slots=True, order=True)
class ObjectRef:
    """One object's identity in a cluster; `namespace` is empty for cluster-scoped objects."""

    group: str
    kind: str
    namespace: str
    name: str

    @property
    def group_kind(self) -> GroupKind:
        return GroupKind(self.group, self.kind)

    @property
    def id(self) -> str:
        """Flux's inventory identifier, `<namespace>_<name>_<group>_<kind>`, `:` as `__` (cli-utils ObjMetadata)."""
        return f"{self.namespace}_{self.name.replace(':', '__')}_{self.group}_{self.kind}"

    def __str__(self) -> str:
        """For people: `Deployment keda/keda-operator`."""
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


def group_of(api_version: str) -> str:
    """The group of an apiVersion; empty for the core group."""
    group, slash, _ = api_version.rpartition("/")
    return group if slash else ""


def ref_of(manifest: Manifest) -> ObjectRef:
    """The identity of a manifest as it stands; a missing namespace stays empty."""
    metadata = manifest.get("metadata") or {}
    return ObjectRef(
        group_of(manifest["apiVersion"]), manifest["kind"], metadata.get("namespace") or "", metadata.get("name") or ""
    )


def canonical(value: object) -> bytes:
    """The one JSON text of a value: sorted keys, no blanks."""
    return msgspec.json.encode(value, order="sorted")


def digest(value: object, *, key: bytes = b"") -> str:
    """64 bits of a value's content as 16 hex digits; keyed, so that a Secret's content cannot be guessed from it."""
    return hashlib.blake2b(canonical(value), digest_size=8, key=key).hexdigest()
