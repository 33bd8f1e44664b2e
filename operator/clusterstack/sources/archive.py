"""Unpacking archives from strangers: regular files and directories only, inside one directory, within limits."""

from __future__ import annotations

import contextlib
import gzip
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, cast

from clusterstack.errors import SourceError

_MAX_ENTRIES = 50_000
_MAX_BYTES = 512 << 20
_MAX_FILE = 64 << 20
_MAX_DEPTH = 64
_CHUNK = 1 << 18
_MAX_HEADER = 1 << 20
_MAX_PADDING = 4096  # of headers and alignment, for each entry
_BROKEN = (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, UnicodeDecodeError, ValueError)


def extract(archive: Path, into: Path) -> tuple[str, ...]:
    """Unpack a .tar.gz into an empty directory; returns the names left out (links, devices).

    Raises SourceError: InvalidArchive (damaged, or a name that leads out), FetchTooLarge (past the limits).
    """
    skipped: list[str] = []
    with _reading():
        for tar, member in _members(archive):
            target = into / _inside(member.name)
            if member.isdir():
                target.mkdir(parents=True, exist_ok=True)
            elif member.isreg() and not member.issparse():
                source = tar.extractfile(member)
                if source is not None:
                    _write(source, target, member)
            else:
                skipped.append(member.name)
    return tuple(skipped)


def read_member(archive: Path, name: str, *, depth: int, limit: int = 1 << 20) -> bytes | None:
    """One small file of a .tar.gz, the first called `name` below `depth` directories; None when there is none.

    Raises SourceError as `extract`.
    """
    with _reading():
        for tar, member in _members(archive):
            path = _inside(member.name)
            if path.name == name and len(path.parts) == depth + 1 and member.isreg():
                source = tar.extractfile(member)
                return source.read(limit) if source else None
    return None


@contextlib.contextmanager
def _reading() -> Iterator[None]:
    """What goes wrong inside is the archive's fault."""
    try:
        yield
    except _BROKEN as error:
        raise _invalid(f"the archive cannot be read: {error or error.__class__.__name__}") from None
    except (FileExistsError, NotADirectoryError, IsADirectoryError):
        raise _invalid("the archive has a file and a directory of the same name") from None


def _members(archive: Path) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    """The archive's entries while they are within the limits; read to the very end, where the checksum is."""
    total = entries = 0
    with gzip.open(archive) as unpacked, _open(unpacked) as tar:
        for member in tar:
            entries += 1
            total += member.size
            _check(entries, total, member)
            yield tar, member
        if not entries:
            raise _invalid("the archive is empty")
        while unpacked.read(_CHUNK):
            _check(entries, unpacked.tell() - entries * _MAX_PADDING, tar.getmembers()[-1])


class _Bounded:
    """A decompressed stream in which neither one header nor the whole can be a bomb."""

    def __init__(self, inner: gzip.GzipFile) -> None:
        self._inner = inner

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _MAX_HEADER:  # file contents are read in smaller chunks, so this is a header's length
            raise _invalid("the archive has an oversized header")
        return self._inner.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        if whence or offset > _MAX_BYTES + _MAX_ENTRIES * _MAX_PADDING:
            raise _invalid("the archive is too large")
        return self._inner.seek(offset)

    def tell(self) -> int:
        return self._inner.tell()


def _open(unpacked: gzip.GzipFile) -> tarfile.TarFile:
    return tarfile.open(fileobj=cast("IO[bytes]", _Bounded(unpacked)), mode="r:")


def _write(source: IO[bytes], target: Path, member: tarfile.TarInfo) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    with target.open("wb") as file:
        while chunk := source.read(_CHUNK):
            file.write(chunk)
            written += len(chunk)
    if written != member.size:
        raise _invalid(f"the archive ends inside of {member.name}")
    if member.mode & 0o100:
        target.chmod(0o755)


def _inside(name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name or len(path.parts) > _MAX_DEPTH:
        raise _invalid(f"the archive holds a name that leads out of it: {name[:200]!r}")
    return path


def _check(entries: int, total: int, member: tarfile.TarInfo) -> None:
    if entries > _MAX_ENTRIES or total > _MAX_BYTES or member.size > _MAX_FILE:
        raise SourceError(
            f"the archive is too large ({entries} entries, {total >> 20} MiB so far; "
            f"limits {_MAX_ENTRIES}, {_MAX_BYTES >> 20} MiB, {_MAX_FILE >> 20} MiB a file)",
            reason="FetchTooLarge",
            retryable=False,
        )


def _invalid(message: str) -> SourceError:
    return SourceError(message, reason="InvalidArchive", hint="publish the archive anew", retryable=False)
