"""Charts that lie as a directory in a source: what they depend on is put beside them, and the whole gets a digest."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import shutil
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clusterstack.errors import ChartError, SpecError
from clusterstack.sources.helmrepo import ChartRef, ResolvedChart, load_yaml, parse_chart_yaml
from clusterstack.sources.snapshot import Snapshot, inside
from clusterstack.sources.store import Store

_MAX_DEPTH = 8
_MAX_DEPENDENCIES = 100

FetchDependency = Callable[[ChartRef], Awaitable[Path]]


@dataclass(frozen=True, slots=True)
class _Dependency:
    name: str
    version: str
    repository: str


class ChartDirectory:
    """Makes charts out of directories of a snapshot; `fetch` gets the archive of a dependency from its repository."""

    def __init__(self, store: Store, fetch: FetchDependency) -> None:
        self._store = store
        self._fetch = fetch

    async def resolve(self, snapshot: Snapshot, path: str) -> ResolvedChart:
        """The chart in a directory, complete with its dependencies; its URL is the `file://` one of a directory.

        Raises ChartError: ChartNotFound (no directory), ChartInvalid, or what fetching a dependency raises.
        """
        folder = snapshot.path / inside(path)
        if not await asyncio.to_thread(folder.is_dir):
            raise ChartError(
                f"chart {path!r} is not in the source at {snapshot.revision}", hint="check the path of the chart"
            )
        return await self._complete(snapshot, folder, depth=0)

    async def _complete(self, snapshot: Snapshot, folder: Path, *, depth: int) -> ResolvedChart:
        where = folder.relative_to(snapshot.path).as_posix()
        if depth > _MAX_DEPTH:
            raise _invalid(f"chart {where} depends on itself, or through more than {_MAX_DEPTH} others")
        meta = await asyncio.to_thread(_read_meta, folder, where)
        missing = await asyncio.to_thread(_missing, folder, meta, where)
        digest = await asyncio.to_thread(directory_digest, folder)
        if missing:
            parts = [await self._obtain(snapshot, folder, dependency, depth=depth) for dependency in missing]
            digest = hashlib.sha256("\n".join((digest, *(part.name for part in parts))).encode()).hexdigest()
            folder = await self._assemble(folder, digest, missing, parts)
        return ResolvedChart(str(meta["name"]), str(meta["version"]), folder.as_uri(), f"sha256:{digest}")

    async def _obtain(self, snapshot: Snapshot, folder: Path, dependency: _Dependency, *, depth: int) -> Path:
        """The dependency as a directory or archive whose name changes with its content."""
        scheme, _, rest = dependency.repository.partition("://")
        match scheme:
            case "http" | "https" | "oci":
                return await self._fetch(ChartRef(dependency.repository, dependency.name, dependency.version))
            case "file" | "":
                target = _beside(snapshot, folder, rest or f"../{dependency.name}")
                chart = await self._complete(snapshot, target, depth=depth + 1)
                source = Path(chart.url.removeprefix("file://"))
                return await self._copy(source, chart.digest)
            case _:
                raise _invalid(
                    f"dependency {dependency.name} of chart {folder.name} is in {dependency.repository!r}, "
                    "which only a local helm configuration knows"
                )

    async def _copy(self, source: Path, digest: str) -> Path:
        async def build(content: Path) -> dict[str, Any]:
            await asyncio.to_thread(_copy_files, source, content)
            return {}

        return (await self._store.build_tree(f"chart-{digest.removeprefix('sha256:')}", build)).path.parent

    async def _assemble(self, folder: Path, digest: str, missing: list[_Dependency], parts: list[Path]) -> Path:
        async def build(content: Path) -> dict[str, Any]:
            await asyncio.to_thread(_copy_files, folder, content)
            for dependency, part in zip(missing, parts, strict=True):
                place = content / "charts" / dependency.name
                if await asyncio.to_thread(part.is_dir):
                    await asyncio.to_thread(_copy_files, part / "content", place)
                else:
                    await asyncio.to_thread(place.parent.mkdir, parents=True, exist_ok=True)
                    await asyncio.to_thread(shutil.copyfile, part, place.with_name(f"{place.name}.tgz"))
            return {}

        return (await self._store.build_tree(f"chart-{digest}", build)).path


def directory_digest(folder: Path) -> str:
    """One hash (64 hex digits) over names, modes and contents of all files below a directory."""
    whole = hashlib.sha256()
    for path in _files(folder):
        mode = "x" if path.stat().st_mode & 0o100 else "-"
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        name = os.fsencode(path.relative_to(folder))
        whole.update(b"%s %s %d %s\n" % (mode.encode(), content.encode(), len(name), name))
    return whole.hexdigest()


def _files(folder: Path) -> Iterator[Path]:
    """Regular files below a directory in one order; links are not followed."""
    for path in sorted(folder.rglob("*"), key=lambda path: path.parts):
        if path.is_file() and not path.is_symlink():
            yield path


def _copy_files(source: Path, target: Path) -> None:
    for path in _files(source):
        place = target / path.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)


def _read_meta(folder: Path, where: str) -> Mapping[str, Any]:
    text = _text(folder / "Chart.yaml")
    return parse_chart_yaml(text, f"the directory {where}")


def _missing(folder: Path, meta: Mapping[str, Any], where: str) -> list[_Dependency]:
    """What the chart depends on and does not contain, each at the version that its lock file holds."""
    declared = _list(meta, where) or _list(load_yaml(_text(folder / "requirements.yaml") or b"{}", where), where)
    text = _text(folder / "Chart.lock") or _text(folder / "requirements.lock")
    locked = {(one.name, one.repository): one.version for one in _list(load_yaml(text or b"{}", where), where)}
    present = {path.name for path in (folder / "charts").iterdir()} if (folder / "charts").is_dir() else set()
    missing: dict[str, _Dependency] = {}
    for one in declared:
        packed = re.compile(re.escape(one.name) + r"(-v?\d.*)?\.tgz")
        if one.name not in present and not any(packed.fullmatch(name) for name in present):
            version = locked.get((one.name, one.repository), one.version)
            missing.setdefault(one.name, _Dependency(one.name, version, one.repository))
    return list(missing.values())


def _list(meta: Any, where: str) -> list[_Dependency]:
    items = (meta.get("dependencies") if isinstance(meta, dict) else None) or []
    if not isinstance(items, list) or len(items) > _MAX_DEPENDENCIES:
        raise _invalid(f"chart {where}: dependencies is no list of at most {_MAX_DEPENDENCIES}")
    found: list[_Dependency] = []
    for item in items:
        name = str(item.get("name") or "") if isinstance(item, dict) else ""
        if not re.fullmatch(r"(?!\.)[A-Za-z0-9._-]+", name):
            raise _invalid(f"chart {where} has a dependency that is called {name!r}")
        found.append(_Dependency(name, str(item.get("version") or ""), str(item.get("repository") or "").rstrip("/")))
    return found


def _beside(snapshot: Snapshot, folder: Path, relative: str) -> Path:
    """A directory named relative to a chart; inside the source, or refused."""
    target = Path(os.path.normpath(folder / relative))
    if Path(relative).is_absolute() or not target.is_relative_to(snapshot.path):
        raise SpecError(f"the dependency file://{relative} of chart {folder.name} leads out of the source")
    if not target.is_dir():
        raise ChartError(f"chart {folder.name} depends on file://{relative}, which is not in the source")
    return target


def _text(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() and not path.is_symlink() else None


def _invalid(message: str) -> ChartError:
    return ChartError(message, reason="ChartInvalid", retryable=False)
