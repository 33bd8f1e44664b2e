"""What a layer has, or may have, put into the cluster: written before the first apply, shrunk after a proven delete."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from clusterstack.core.objects import ObjectRef

SHARD_SIZE = 4000
FORMAT = 1


class Origin(StrEnum):
    """How an object came to be ours; only what we created may ever be deleted."""

    ANNOUNCED = "announced"
    CREATED = "created"
    ADOPTED = "adopted"


@dataclass(frozen=True, slots=True)
class Entry:
    """One object. `want` and `fields` are digests: of what we applied, and of our managedFields entry afterwards.
    `end` is how a Job with a time to live ended that was seen to (`core.health.finished`): gone, it is not run again.
    """

    ref: ObjectRef
    api_version: str
    unit: str = ""
    origin: Origin = Origin.ANNOUNCED
    uid: str = ""
    want: str = ""
    fields: str = ""
    announced: str = ""
    end: str = ""


@dataclass(frozen=True, slots=True)
class Inventory:
    """The entries of one layer, and the digest of the content that was last applied in full (empty: none yet)."""

    layer: str
    applied: str = ""
    entries: Mapping[ObjectRef, Entry] = field(default_factory=dict)

    def announced(self, entries: Iterable[Entry]) -> Inventory:
        """The union of what is there and what is about to be applied; what is known of an object stays known."""
        union = dict(self.entries)
        for entry in entries:
            known = union.get(entry.ref)
            union[entry.ref] = (
                entry if known is None else replace(known, unit=entry.unit, api_version=entry.api_version)
            )
        return replace(self, entries=union)

    def without(self, refs: Iterable[ObjectRef]) -> Inventory:
        gone = set(refs)
        return replace(self, entries={ref: entry for ref, entry in self.entries.items() if ref not in gone})


def settle_origin(entry: Entry, *, created: bool, creation_timestamp: str, uid: str, marked: bool) -> Origin:
    """Whether an object that we just wrote is ours from birth.

    The answer of the first write says so (201); after a crash between write and record, an object of the same UID keeps
    its origin, and one born after it was announced, that bore our mark before we wrote it, can only be ours.
    """
    if created:
        return Origin.CREATED
    if entry.origin is not Origin.ANNOUNCED:
        return entry.origin if marked or entry.uid in ("", uid) else Origin.ADOPTED
    born_after = marked and bool(entry.announced) and creation_timestamp >= entry.announced
    return Origin.CREATED if born_after else Origin.ADOPTED


def encode(inventory: Inventory, *, shard_size: int = SHARD_SIZE) -> list[bytes]:
    """The shards of an inventory, gzip of JSON, byte for byte the same for the same content; at least one."""
    rows = [
        [
            e.ref.group,
            e.ref.kind,
            e.ref.namespace,
            e.ref.name,
            e.api_version,
            e.unit,
            e.origin,
            e.uid,
            e.want,
            e.fields,
            e.announced,
            *([e.end] if e.end else ()),
        ]
        for _, e in sorted(inventory.entries.items())
    ]
    chunks = [rows[start : start + shard_size] for start in range(0, len(rows), shard_size)] or [[]]
    return [
        gzip.compress(
            json.dumps(
                {
                    "format": FORMAT,
                    "layer": inventory.layer,
                    "applied": inventory.applied,
                    "of": len(chunks),
                    "entries": chunk,
                },
                separators=(",", ":"),
            ).encode(),
            mtime=0,
        )
        for chunk in chunks
    ]


def decode(shards: Iterable[bytes]) -> Inventory:
    """An inventory from its shards; a missing shard is a `ValueError`, for half an inventory proves nothing."""
    documents = [json.loads(gzip.decompress(shard)) for shard in shards]
    if not documents or any(document["of"] != len(documents) for document in documents):
        raise ValueError("an inventory shard is missing")
    entries: dict[ObjectRef, Entry] = {}
    for document in documents:
        for group, kind, namespace, name, api_version, unit, origin, *rest in document["entries"]:
            ref = ObjectRef(group, kind, namespace, name)
            entries[ref] = Entry(ref, api_version, unit, Origin(origin), *rest)
    return Inventory(documents[0]["layer"], documents[0]["applied"], entries)
