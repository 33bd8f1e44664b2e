"""Charts, repositories and Git as a test declares them: what a renderer and a fetcher would answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clusterstack.core.objects import Manifest
from clusterstack.core.yaml import dump_all
from clusterstack.errors import ChartError, SourceError
from clusterstack.render.protocol import (
    HelmRendered,
    HelmRequest,
    HookSource,
    KustomizeBuilt,
    KustomizeRequest,
    Lookup,
)
from clusterstack.sources.fetcher import ChartRef, GitSpec, ResolvedChart, Revision, Snapshot

Objects = Callable[[HelmRequest], Sequence[Manifest]]


@dataclass(slots=True)
class Chart:
    """What a chart renders to; `asked` runs first and may look things up, wait or fail."""

    objects: Objects = lambda request: ()
    hooks: Sequence[HookSource] = ()
    crds: Sequence[Manifest] = ()
    asked: Callable[[HelmRequest, Lookup], Awaitable[None]] | None = None
    version: str = "1.0.0"


def hook(
    manifest: Manifest, *events: str, weight: int = 0, delete_policies: tuple[str, ...] = ("before-hook-creation",)
) -> HookSource:
    """A hook of a chart."""
    return HookSource(
        name=manifest["metadata"]["name"],
        kind=manifest["kind"],
        path=f"chart/templates/{manifest['metadata']['name']}.yaml",
        manifest=dump_all([manifest]),
        object=manifest,
        events=events,
        weight=weight,
        delete_policies=delete_policies,
        output_log_policies=(),
    )


@dataclass(slots=True)
class Renderers:
    """Stands in for the pool of renderers. `rendered` are the charts' requests, `built` those of kustomize."""

    charts: dict[str, Chart]
    trees: dict[str, Sequence[Manifest] | Exception] = field(default_factory=dict)
    rendered: list[HelmRequest] = field(default_factory=list)
    built: list[str] = field(default_factory=list)

    async def helm(self, request: HelmRequest, *, lookup: Lookup) -> HelmRendered:
        self.rendered.append(request)
        chart = self.charts[request.chart.name]
        await asyncio.sleep(0)
        if chart.asked is not None:
            await chart.asked(request, lookup)
        objects = tuple(chart.objects(request))
        return HelmRendered(
            manifest=dump_all(objects) if objects else "",
            objects=objects,
            hooks=tuple(chart.hooks),
            crds=tuple(chart.crds),
            notes="",
            chart={"metadata": {"name": request.chart.name, "version": chart.version}},
            name=request.chart.name,
            version=chart.version,
            app_version="",
        )

    async def crds(self, chart: Path, *, values: Mapping[str, Any], root: Path | None = None) -> tuple[Manifest, ...]:
        await asyncio.sleep(0)
        return tuple(self.charts[chart.name].crds)

    async def kustomize(self, request: KustomizeRequest) -> KustomizeBuilt:
        name = request.path.name
        self.built.append(name)
        await asyncio.sleep(0)
        found = self.trees[name]
        if isinstance(found, Exception):
            raise found
        return KustomizeBuilt(tuple(found), (name,))


@dataclass(slots=True)
class Fetcher:
    """Stands in for every remote. `commit` is what Git answers; `failing` is raised instead, by whatever is asked."""

    charts: dict[str, Chart]
    root: Path
    commit: str = "1" * 40
    failing: SourceError | None = None
    looks: int = 0

    def expire(self) -> None:
        """Nothing is fresh or stale here."""

    def with_mirrors(self, _: object) -> Fetcher:
        return self

    async def resolve_git(self, spec: GitSpec, credentials: object = None) -> Revision:
        self.looks += 1
        await self._answer()
        return Revision("master", self.commit)

    async def fetch_git(self, spec: GitSpec, revision: Revision, credentials: object = None) -> Snapshot:
        await self._answer()
        trees = {path.name: revision.commit for path in self.root.iterdir()}
        return Snapshot(self.root, str(revision), trees)

    async def resolve_chart(self, ref: ChartRef, credentials: object = None) -> ResolvedChart:
        await self._answer()
        chart = self.charts.get(ref.chart)
        if chart is None:
            raise ChartError(f"chart {ref.chart} is not in {ref.repo}")
        return ResolvedChart(ref.chart, chart.version, f"{ref.repo}/{ref.chart}", f"sha256:{ref.chart}{chart.version}")

    async def fetch_chart(self, chart: ResolvedChart, credentials: object = None) -> Path:
        await self._answer()
        return self.root / chart.name

    async def fetch_file(self, url: str, *, max_bytes: int = 0) -> Path:
        raise SourceError(f"no such file: {url}")

    async def _answer(self) -> None:
        await asyncio.sleep(0)
        if self.failing is not None:
            raise self.failing
