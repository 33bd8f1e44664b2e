"""The cache: immutable content under names made of its digest, in a directory that may vanish at any time.

    blobs/sha256/<hex>     files, named by what they hold
    trees/<key>/content    directories, complete or absent; trees/<key>/meta.json says what they are
    notes/<kind>/<hex>     small JSON values: what a question was answered with, and when
    git/<hex>.git          bare repositories, only there to make the next fetch small
    tmp/  locks/

Everything is written aside and renamed, so processes that share the directory never see half of anything. Nothing here
is the only copy of anything: whatever is gone or damaged is fetched again.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clusterstack.errors import SourceError

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_GRACE = 600.0
_LOCK_PAUSE = 0.02
_STALE_SCRATCH = 86_400.0


@dataclass(frozen=True, slots=True)
class Tree:
    """An immutable directory of the cache and what was noted about it."""

    path: Path
    meta: dict[str, Any]


class BlobWriter:
    """A file being written aside: `write` chunks, then `commit`."""

    def __init__(self, blobs: Path, scratch: Path) -> None:
        self._blobs = blobs
        handle, name = tempfile.mkstemp(dir=scratch)
        self._file = os.fdopen(handle, "wb")
        self._path = Path(name)
        self._hash = hashlib.sha256()
        self.size = 0

    def write(self, chunk: bytes) -> None:
        self._file.write(chunk)
        self._hash.update(chunk)
        self.size += len(chunk)

    def commit(self, *, expected: str = "") -> str:
        """Publish the blob; returns `sha256:<hex>`. Raises SourceError (DigestMismatch) when another was expected."""
        digest = "sha256:" + self._hash.hexdigest()
        if expected and digest != expected:
            raise SourceError(
                f"the content has digest {digest}, expected {expected}",
                reason="DigestMismatch",
                hint="the remote or something between changed the file; it was not used",
            )
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._blobs.mkdir(parents=True, exist_ok=True)
        self._path.replace(self._blobs / digest.removeprefix("sha256:"))
        return digest

    def discard(self) -> None:
        """Forget what was not committed; harmless afterwards."""
        self._file.close()
        self._path.unlink(missing_ok=True)


class Store:
    """The cache directory; several processes may share it. Blocking work runs in threads."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self._blobs = self.root / "blobs" / "sha256"
        self._trees = self.root / "trees"
        self._verified: dict[str, tuple[int, int]] = {}

    def scratch(self) -> Path:
        """The directory for unfinished things; on the same file system as the rest."""
        path = self.root / "tmp"
        path.mkdir(parents=True, exist_ok=True)
        return path

    # -- blobs

    @contextlib.contextmanager
    def writer(self) -> Iterator[BlobWriter]:
        """A blob to be written in chunks; gone again unless committed."""
        writer = BlobWriter(self._blobs, self.scratch())
        try:
            yield writer
        finally:
            writer.discard()

    async def put_blob(self, data: bytes) -> str:
        """Keep the bytes; returns `sha256:<hex>`."""
        return await asyncio.to_thread(self._put, data)

    def _put(self, data: bytes) -> str:
        with self.writer() as writer:
            writer.write(data)
            return writer.commit()

    async def get(self, digest: str) -> Path | None:
        """The file with this content, or None. Read back once per process: a damaged file is dropped and absent."""
        return await asyncio.to_thread(self._get, digest)

    def _get(self, digest: str) -> Path | None:
        if not _DIGEST.fullmatch(digest):
            return None
        path = self._blobs / digest.removeprefix("sha256:")
        try:
            state = path.stat()
            identity = (state.st_ino, state.st_size)
            if self._verified.get(digest) != identity:
                if _sha256(path) != digest:
                    path.unlink(missing_ok=True)
                    return None
                self._verified[digest] = identity
            os.utime(path, ns=(time.time_ns(), state.st_mtime_ns))
        except FileNotFoundError:
            self._verified.pop(digest, None)
            return None
        return path

    # -- trees

    async def tree(self, key: str) -> Tree | None:
        """The finished directory under this key, or None."""
        return await asyncio.to_thread(self._tree, key)

    def _tree(self, key: str) -> Tree | None:
        home = self._trees / key
        try:
            meta = json.loads((home / "meta.json").read_bytes())
            os.utime(home / "meta.json")
        except (FileNotFoundError, ValueError):
            return None
        return Tree(home / "content", meta) if (home / "content").is_dir() else None

    async def build_tree(self, key: str, build: Callable[[Path], Awaitable[dict[str, Any]]]) -> Tree:
        """The directory under this key, made by `build(empty directory) -> meta` unless it is there."""
        if found := await self.tree(key):
            return found
        home = await asyncio.to_thread(tempfile.mkdtemp, dir=self.scratch())
        try:
            content = Path(home) / "content"
            await asyncio.to_thread(content.mkdir)
            meta = await build(content)
            await asyncio.to_thread(self._publish, Path(home), key, meta)
        finally:
            await asyncio.to_thread(shutil.rmtree, home, ignore_errors=True)
        found = await self.tree(key)
        if found is None:
            raise SourceError("the cache directory was emptied while it was written to", reason="CacheFailed")
        return found

    def _publish(self, home: Path, key: str, meta: dict[str, Any]) -> None:
        (home / "meta.json").write_text(json.dumps(meta))
        self._trees.mkdir(parents=True, exist_ok=True)
        for _ in range(2):
            with contextlib.suppress(OSError):
                home.rename(self._trees / key)
                return
            if self._tree(key):  # another process was first, with the same content
                return
            self._remove(self._trees / key)

    # -- notes

    async def note(self, kind: str, key: str) -> dict[str, Any] | None:
        """What was noted under this key; None when nothing was, or it cannot be read."""
        return await asyncio.to_thread(_read_note, self._note_path(kind, key))

    async def put_note(self, kind: str, key: str, value: dict[str, Any]) -> None:
        await asyncio.to_thread(self._write_note, self._note_path(kind, key), value)

    def _note_path(self, kind: str, key: str) -> Path:
        return self.root / "notes" / kind / hashlib.sha256(key.encode()).hexdigest()

    def _write_note(self, path: Path, value: dict[str, Any]) -> None:
        handle, name = tempfile.mkstemp(dir=self.scratch())
        with os.fdopen(handle, "w") as file:
            json.dump(value, file)
        path.parent.mkdir(parents=True, exist_ok=True)
        Path(name).replace(path)

    # -- repositories and locks

    def repository(self, url: str) -> Path:
        """Where the bare repository that serves this URL belongs."""
        return self.root / "git" / (hashlib.sha256(url.encode()).hexdigest()[:24] + ".git")

    @contextlib.asynccontextmanager
    async def lock(self, name: str) -> AsyncIterator[None]:
        """Held by one task of one process at a time; freed by the kernel when its process ends."""
        path = self.root / "locks" / name
        await asyncio.to_thread(path.parent.mkdir, parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            while not _try_lock(handle):  # noqa: ASYNC110 - another process cannot set our event
                await asyncio.sleep(_LOCK_PAUSE)  # a blocking lock would hold a thread past cancellation
            yield
        finally:
            os.close(handle)

    # -- housekeeping

    async def collect(
        self, *, keep: Collection[Path] = (), max_age: float = 7 * 86_400.0, max_bytes: int = 4 << 30
    ) -> int:
        """Drop what was not asked for in `max_age` seconds, then the oldest until `max_bytes` fit; returns bytes freed.

        What was used in the last ten minutes stays, and so does every tree or blob in `keep`.
        """
        return await asyncio.to_thread(self._collect, frozenset(keep), max_age, max_bytes)

    def _collect(self, keep: frozenset[Path], max_age: float, max_bytes: int) -> int:
        now = time.time()
        entries = sorted(self._entries(keep), key=lambda entry: entry[0])
        total = sum(size for _, size, _ in entries)
        freed = 0
        for used, size, path in entries:
            idle = now - used
            if idle > max_age or (total - freed > max_bytes and idle > _GRACE):
                self._remove(path)
                freed += size
        for path in _children(self.root / "tmp"):
            with contextlib.suppress(FileNotFoundError):
                if now - path.stat().st_mtime > _STALE_SCRATCH:
                    self._remove(path)
        return freed

    def _entries(self, keep: frozenset[Path]) -> Iterator[tuple[float, int, Path]]:
        """Last use, size and path of everything that may be dropped."""
        kept = {path.absolute() for path in keep}
        for path in (*_children(self._blobs), *(n for kind in _children(self.root / "notes") for n in _children(kind))):
            with contextlib.suppress(FileNotFoundError):
                state = path.stat()
                if path not in kept:
                    yield max(state.st_atime, state.st_mtime), state.st_size, path
        for path in (*_children(self._trees), *_children(self.root / "git")):
            with contextlib.suppress(FileNotFoundError):
                marker = path / "meta.json" if path.parent == self._trees else path / "FETCHED"
                used = (marker if marker.exists() else path).stat().st_mtime
                if not any(one.is_relative_to(path) for one in kept):
                    yield used, _size(path), path

    def _remove(self, path: Path) -> None:
        """Take the entry out of sight in one step, then delete it."""
        if not path.is_dir():
            path.unlink(missing_ok=True)
            return
        aside = Path(tempfile.mkdtemp(dir=self.scratch()))
        with contextlib.suppress(FileNotFoundError):
            path.rename(aside / "old")
        shutil.rmtree(aside, ignore_errors=True)

    async def forget(self, path: Path) -> None:
        """Drop one file or directory of the cache."""
        await asyncio.to_thread(self._remove, path)


def _read_note(path: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(path.read_bytes())
        os.utime(path)
    except (FileNotFoundError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def _try_lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _children(path: Path) -> list[Path]:
    try:
        return list(path.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _size(path: Path) -> int:
    total = 0
    for folder, _, files in os.walk(path):
        for name in files:
            with contextlib.suppress(FileNotFoundError):
                total += os.lstat(Path(folder) / name).st_size
    return total
