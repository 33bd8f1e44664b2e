"""What an inventory keeps of its objects from one process to the next."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace

import pytest

from clusterstack.core.inventory import Entry, Inventory, Origin, decode, encode
from clusterstack.core.objects import ObjectRef

JOB = ObjectRef("batch", "Job", "apps", "migrate")
ENTRY = Entry(JOB, "batch/v1", "unit", Origin.CREATED, "uid", "want", "fields", "2026-01-01T00:00:00Z")
ENDED = replace(ENTRY, end="Failed BackoffLimitExceeded: gave up")


@pytest.mark.parametrize("entry", [ENTRY, ENDED])
def test_what_is_written_is_what_is_read(entry: Entry) -> None:
    inventory = Inventory("base", "digest", {JOB: entry})
    assert decode(encode(inventory)) == inventory


def test_only_a_job_that_ended_takes_more_room_than_it_did() -> None:
    rows = [
        json.loads(gzip.decompress(encode(Inventory("base", "", {JOB: entry}))[0]))["entries"][0]
        for entry in (ENTRY, ENDED)
    ]
    assert [len(row) for row in rows] == [11, 12]


def test_an_announcement_forgets_nothing() -> None:
    known = Inventory("base", "", {JOB: ENDED})
    announced = known.announced([Entry(JOB, "batch/v1", "other", announced="2026-02-01T00:00:00Z")])
    assert announced.entries[JOB] == replace(ENDED, unit="other")


def test_half_an_inventory_is_none() -> None:
    refs = [ObjectRef("", "ConfigMap", "apps", str(number)) for number in range(3)]
    shards = encode(Inventory("base", "", {ref: Entry(ref, "v1") for ref in refs}), shard_size=2)
    assert len(shards) == 2
    with pytest.raises(ValueError, match="missing"):
        decode(shards[:1])
