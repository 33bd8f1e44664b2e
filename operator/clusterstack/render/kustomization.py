"""Builds a directory of a source as Flux builds a Kustomization, with remote resources fetched by us."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from urllib.parse import parse_qs, urlsplit

from clusterstack.core.objects import Manifest
from clusterstack.errors import RenderError
from clusterstack.render.pool import RendererPool
from clusterstack.render.protocol import BuildFields, KustomizeRequest, Overlay, RemotesMissing

MAX_REMOTES = 64
_GIT_HOSTS = frozenset({"github.com", "gitlab.com", "bitbucket.org", "codeberg.org"})
_PATH_HINT = "the layer's path must be a directory inside its source"
_GIT_QUERIES = frozenset({"ref", "version", "submodules"})

Fetch = Callable[[str], Awaitable[Path]]
"""Gives a file with the content of a URL. Raises SourceError."""


@dataclass(frozen=True, slots=True)
class Built:
    """A layer's objects, in kustomize's order, and all that made them.

    `inputs` are paths relative to the source's root (files, directories, and files whose absence mattered); `remotes`
    are the files fetched, by URL.
    """

    objects: tuple[Manifest, ...]
    inputs: tuple[str, ...]
    remotes: Mapping[str, Path] = field(default_factory=dict)


async def build(
    pool: RendererPool,
    *,
    root: Path,
    path: str,
    fetch: Fetch,
    fields: BuildFields | None = None,
    overlay: Mapping[Path, Overlay] | None = None,
    source: str = "the source",
) -> Built:
    """Builds the directory `path` of the snapshot at `root`.

    `source` is how messages call the snapshot. Raises RenderError with reason PathNotFound, InvalidPath, InvalidYAML,
    BuildFailed, RemoteBaseUnsupported, or of the renderer itself; and what `fetch` raises.
    """
    directory = directory_of(root, path, source=source)
    remotes: dict[str, Path] = {}
    while True:
        request = KustomizeRequest(
            root=root, path=directory, overlay=overlay or {}, remotes=remotes, fields=fields or BuildFields()
        )
        try:
            built = await pool.kustomize(request)
        except RemotesMissing as missing:
            # The build stopped at what an empty file could not replace: fetched files may uncover more.
            remotes |= await _fetch_all(missing, known=remotes, fetch=fetch)
            continue
        return Built(_complete(built.objects, path, source=source), built.inputs, remotes)


def directory_of(root: Path, path: str, *, source: str) -> Path:
    """The directory that a layer's `path` means: relative to the source's root, also when written `/x` or `./x`.

    Raises RenderError: InvalidPath when it leads out of the source, PathNotFound when it is not there.
    """
    relative = PurePosixPath(path.lstrip("/") or ".")
    if ".." in relative.parts or "\0" in path:
        raise RenderError(
            f"path {path!r} leads out of {source}", reason="InvalidPath", hint="name a directory inside it"
        )
    directory = root / relative
    if not directory.exists():
        raise RenderError(
            f"path {path!r} does not exist in {source}", reason="PathNotFound", hint="fix the layer's path"
        )
    if not directory.is_dir():
        raise RenderError(
            f"path {path!r} in {source} is not a directory", reason="PathNotFound", hint="fix the layer's path"
        )
    if not directory.resolve().is_relative_to(root.resolve()):
        raise RenderError(f"path {path!r} is a link out of {source}", reason="InvalidPath")
    return directory


async def _fetch_all(missing: RemotesMissing, *, known: Mapping[str, Path], fetch: Fetch) -> dict[str, Path]:
    new = [url for url in missing.urls if url not in known]
    if not new or len(known) + len(new) > MAX_REMOTES:
        raise missing
    for url in new:
        if _is_git(url):
            raise RenderError(
                f"remote base {url} is not fetched: only single files over http(s) are ({missing})",
                reason="RemoteBaseUnsupported",
                hint="copy the base into the repository, or refer to a single YAML file by its URL",
            )
    return dict(zip(new, await asyncio.gather(*(fetch(url) for url in new)), strict=True))


def _is_git(url: str) -> bool:
    """Whether kustomize would clone the URL: its `//`, `.git` and `?ref=` forms, or a repository's page."""
    parts = urlsplit(url)
    segments = parts.path.strip("/").split("/")
    if "//" in parts.path or any(segment.endswith(".git") for segment in segments):
        return True
    if _GIT_QUERIES & parse_qs(parts.query).keys():
        return True
    return parts.hostname in _GIT_HOSTS and not segments[-1].endswith((".yaml", ".yml", ".json"))


def _complete(objects: tuple[Manifest, ...], path: str, *, source: str) -> tuple[Manifest, ...]:
    for manifest in objects:
        metadata = manifest.get("metadata")
        name = metadata.get("name") if isinstance(metadata, dict) else None
        if not (manifest.get("apiVersion") and manifest.get("kind") and name):
            what = f"{manifest.get('kind') or 'an object without kind'} {name or 'without metadata.name'}"
            raise RenderError(f"path {path!r} in {source} holds {what}: apiVersion, kind and name are needed")
    return objects
