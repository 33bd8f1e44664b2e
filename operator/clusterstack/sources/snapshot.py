"""A source's content at one revision, as a directory that never changes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from clusterstack.errors import SourceError, SpecError


@dataclass(frozen=True, slots=True)
class Snapshot:
    """An immutable directory with a hash for every directory in it; `revision` is for people and status.

    `skipped` names what is not in it on purpose: symbolic links, submodules, devices.
    """

    path: Path
    revision: str
    trees: Mapping[str, str] = field(default_factory=dict, repr=False)
    skipped: tuple[str, ...] = ()

    def tree_hash(self, path: str = "") -> str:
        """The hash of a directory or file: the same hash means the same content. From Git it is git's own.

        Raises SourceError (PathNotFound) when the path is not in the source, SpecError when it leads out of it.
        """
        name = inside(path)
        if name in self.trees:
            return self.trees[name]
        try:
            return blob_hash((self.path / name).read_bytes())
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise SourceError(
                f"{path!r} is not in the source at {self.revision}",
                reason="PathNotFound",
                hint="check the path, which counts from the root of the source",
                retryable=False,
            ) from None


def inside(path: str) -> str:
    """A path as git writes it, relative to the root, without `./` and a trailing `/`.

    Raises SpecError when it leads out of the source.
    """
    parts = [part for part in PurePosixPath(path).parts if part not in ("/", "//")]
    if ".." in parts or "\0" in path:
        raise SpecError(f"the path {path!r} leads out of the source", hint="name a directory inside the source")
    return "/".join(parts)


def blob_hash(data: bytes) -> str:
    """Git's hash of a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def tree_hashes(folder: Path) -> dict[str, str]:
    """A hash for every directory below one that did not come from git; the directory itself is ``""``."""
    found: dict[str, str] = {}
    for place, folders, files in os.walk(folder, topdown=False):
        here = Path(place).relative_to(folder).as_posix()
        name = "" if here == "." else here
        whole = hashlib.sha256()
        for one in sorted(files):
            path = Path(place, one)
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            whole.update(f"{path.stat().st_mode & 0o100} {content} ".encode() + os.fsencode(one) + b"\n")
        for one in sorted(folders):
            inner = found[f"{name}/{one}" if name else one]
            whole.update(f"tree {inner} ".encode() + os.fsencode(one) + b"\n")
        found[name] = whole.hexdigest()
    return found
