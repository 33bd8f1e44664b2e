from __future__ import annotations

import asyncio
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from clusterstack.errors import SourceError
from clusterstack.sources.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "cache")


def age(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


async def test_a_blob_is_found_by_its_content(store: Store) -> None:
    digest = await store.put_blob(b"hello")
    path = await store.get(digest)
    assert path is not None
    assert path.read_bytes() == b"hello"
    assert path.name == digest.removeprefix("sha256:")


async def test_a_damaged_blob_is_dropped(store: Store) -> None:
    digest = await store.put_blob(b"hello")
    path = await store.get(digest)
    assert path is not None
    path.write_bytes(b"hell")
    assert await Store(store.root).get(digest) is None
    assert not path.exists()


async def test_a_digest_cannot_name_another_place(store: Store) -> None:
    await store.put_blob(b"x")
    assert await store.get("") is None
    assert await store.get("sha256:../../notes") is None


async def test_what_is_not_committed_leaves_nothing(store: Store) -> None:
    with store.writer() as writer:
        writer.write(b"half")
    assert list(store.scratch().iterdir()) == []


async def test_unexpected_content_is_refused(store: Store) -> None:
    with store.writer() as writer:
        writer.write(b"other")
        with pytest.raises(SourceError, match="expected sha256:00") as caught:
            writer.commit(expected="sha256:" + "0" * 64)
    assert caught.value.reason == "DigestMismatch"


async def test_a_tree_is_built_once_and_complete_or_absent(store: Store) -> None:
    builds: list[Path] = []

    async def build(content: Path) -> dict[str, Any]:
        builds.append(content)
        (content / "file").write_text("x")
        return {"n": 1}

    async def broken(content: Path) -> dict[str, Any]:
        (content / "file").write_text("half")
        raise SourceError("broke off")

    with pytest.raises(SourceError, match="broke off"):
        await store.build_tree("key", broken)
    assert await store.tree("key") is None
    first = await store.build_tree("key", build)
    second = await store.build_tree("key", build)
    assert first == second
    assert first.meta == {"n": 1}
    assert (first.path / "file").read_text() == "x"
    assert len(builds) == 1


async def test_two_builders_of_one_tree_both_get_it(tmp_path: Path) -> None:
    one, other = Store(tmp_path / "cache"), Store(tmp_path / "cache")
    both = asyncio.Barrier(2)

    async def build(content: Path) -> dict[str, Any]:
        (content / "file").write_text("same")
        await both.wait()
        return {}

    trees = await asyncio.gather(one.build_tree("key", build), other.build_tree("key", build))
    assert trees[0].path == trees[1].path
    assert (trees[0].path / "file").read_text() == "same"
    assert list(one.scratch().iterdir()) == []


async def test_everything_works_after_the_directory_was_deleted(store: Store) -> None:
    digest = await store.put_blob(b"hello")
    await store.put_note("kind", "key", {"a": 1})
    shutil.rmtree(store.root)
    assert await store.get(digest) is None
    assert await store.note("kind", "key") is None
    assert await store.collect() == 0
    assert await store.put_blob(b"hello") == digest
    assert await store.get(digest) is not None


async def test_a_note_that_cannot_be_read_is_none(store: Store) -> None:
    await store.put_note("kind", "key", {"a": 1})
    assert await store.note("kind", "key") == {"a": 1}
    next((store.root / "notes" / "kind").iterdir()).write_text("{")
    assert await store.note("kind", "key") is None


async def test_a_lock_is_held_by_one_at_a_time(tmp_path: Path) -> None:
    order: list[str] = []

    async def work(store: Store, name: str) -> None:
        async with store.lock("it"):
            order.append(f"{name} in")
            await asyncio.sleep(0)
            order.append(f"{name} out")

    await asyncio.gather(work(Store(tmp_path), "a"), work(Store(tmp_path), "b"))
    assert [word.split()[0] for word in order] in (["a", "a", "b", "b"], ["b", "b", "a", "a"])


async def test_collecting_drops_what_is_old_and_keeps_what_is_used(store: Store) -> None:
    async def build(content: Path) -> dict[str, Any]:
        (content / "file").write_text("x" * 100)
        return {}

    old, used = await store.put_blob(b"old"), await store.put_blob(b"used")
    kept, dropped = await store.build_tree("kept", build), await store.build_tree("dropped", build)
    for path in (store.root / "blobs" / "sha256").iterdir():
        age(path, 1000)
    for tree in (kept, dropped):
        age(tree.path.parent / "meta.json", 1000)
    await store.get(used)
    freed = await store.collect(keep=[kept.path], max_age=500)
    assert freed >= 103
    assert await store.get(old) is None
    assert await store.get(used) is not None
    assert kept.path.exists()
    assert not dropped.path.exists()


async def test_collecting_drops_the_oldest_until_the_rest_fits(store: Store) -> None:
    digests = [await store.put_blob(bytes([number]) * 1000) for number in range(4)]
    for number, digest in enumerate(digests):
        age(store.root / "blobs" / "sha256" / digest.removeprefix("sha256:"), 5000 - number)
    assert await store.collect(max_bytes=2500) == 2000
    assert [await store.get(digest) is not None for digest in digests] == [False, False, True, True]


async def test_collecting_never_drops_what_was_just_used(store: Store) -> None:
    digest = await store.put_blob(b"x" * 1000)
    assert await store.collect(max_bytes=0) == 0
    assert await store.get(digest) is not None
