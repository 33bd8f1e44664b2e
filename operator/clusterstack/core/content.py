"""What a layer wants, as values with digests: known before any gate opens."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

import msgspec

from clusterstack.core.objects import Manifest, ObjectRef, digest
from clusterstack.core.ownership import MANAGER


class Mode(StrEnum):
    """How one object is kept: Flux's `kustomize.toolkit.fluxcd.io/ssa` by other words."""

    APPLY = "Apply"
    IF_NOT_PRESENT = "IfNotPresent"
    IGNORE = "Ignore"


@dataclass(frozen=True, slots=True)
class Desired:
    """One object as we want it: stamped, with the digest that its live copy must carry.

    It lives as long as its layer, and is read only to be written: so it is kept as JSON, a fifth of the dictionary.
    """

    ref: ObjectRef
    api_version: str
    json: bytes = field(repr=False)
    want: str
    mode: Mode = Mode.APPLY
    manager: str = MANAGER
    awaited: bool = True

    @classmethod
    def of(
        cls,
        ref: ObjectRef,
        manifest: Manifest,
        want: str,
        *,
        mode: Mode = Mode.APPLY,
        manager: str = MANAGER,
        awaited: bool = True,
    ) -> Desired:
        """A stamped manifest and its digest."""
        return cls(ref, manifest["apiVersion"], msgspec.json.encode(manifest), want, mode, manager, awaited)

    @property
    def manifest(self) -> Manifest:
        """The object, read afresh on each call."""
        decoded: Manifest = msgspec.json.decode(self.json)
        return decoded


@dataclass(frozen=True, slots=True)
class Problem:
    """Something of a layer that cannot be built; its neighbours go on. `unit` empty: the layer's own manifests.

    It `waits` when all that is wrong is that `ref` does not exist yet.
    """

    reason: str
    message: str
    unit: str = ""
    ref: ObjectRef | None = None
    retryable: bool = False
    waits: bool = False


@dataclass(frozen=True, slots=True)
class Claim:
    """A layer renders an object that another layer owns: applied once, by the owner, as the union of both."""

    ref: ObjectRef
    owner: str


def merge(
    layers: Sequence[tuple[str, Sequence[tuple[ObjectRef, Manifest]]]],
    *,
    held: Mapping[ObjectRef, str] = MappingProxyType({}),
) -> dict[str, tuple[list[tuple[ObjectRef, Manifest]], list[Claim]]]:
    """Objects that several layers render, merged before anything is applied.

    `layers` come in topological order: the first that renders an object owns it and wins conflicting fields; the union
    is applied once, by the owner; the others record a claim. Within one layer the last document of an object wins, as
    with `kubectl apply`. Objects in `held` stay with the layer that has them, whoever else renders them: its new state
    is not known, and its last one is kept up.
    """
    owners: dict[ObjectRef, str] = dict(held)
    merged: dict[str, dict[ObjectRef, Manifest]] = {}
    claims: dict[str, list[Claim]] = {}
    for layer, objects in layers:
        merged[layer], claims[layer] = {}, []
        for ref, manifest in objects:
            owner = owners.setdefault(ref, layer)
            if owner == layer:
                merged[layer][ref] = manifest
                continue
            claims[layer].append(Claim(ref, owner))
            if ref not in held:
                merged[owner][ref] = union(merged[owner][ref], manifest)
    return {layer: (list(merged[layer].items()), claims[layer]) for layer, _ in layers}


def union(owner: Manifest, other: Mapping[str, object]) -> Manifest:
    """The fields of both manifests, maps merged at every depth; the owner wins conflicts, and lists are the owner's."""
    result = dict(owner)
    for key, value in other.items():
        mine = result.get(key)
        if mine is None:
            result[key] = value
        elif isinstance(mine, dict) and isinstance(value, dict):
            result[key] = union(mine, value)
    return result


def content_digest(wants: Iterable[str], releases: Iterable[str], problems: Iterable[str]) -> str:
    """The digest of a layer's content, out of the digests of its parts."""
    return digest([sorted(wants), sorted(releases), sorted(problems)])
