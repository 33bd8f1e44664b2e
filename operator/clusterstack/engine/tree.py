"""A Flux tree as layers: built like any directory, then read by `flux.layers`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from clusterstack.api.spec import LayerSpec, Source, StackSpec, parse_layer
from clusterstack.core.content import Problem
from clusterstack.core.objects import Manifest
from clusterstack.engine.context import Context
from clusterstack.errors import SourceError
from clusterstack.flux.layers import FluxTree, read_tree
from clusterstack.render.kustomization import build
from clusterstack.render.protocol import BuildFields
from clusterstack.sources.fetcher import Snapshot


@dataclass(slots=True)
class TreeReader:
    """Reads `spec.flux`; `shared` are the Flux sources that the tree declares, `sources` those that its layers need.

    `broken` are layers that must not run, by name, and `warnings` what else of a Kustomization a layer cannot express.
    """

    context: Context
    shared: tuple[Manifest, ...] = ()
    sources: tuple[Source, ...] = ()
    broken: dict[str, Problem] = field(default_factory=dict)
    warnings: dict[str, tuple[str, ...]] = field(default_factory=dict)

    async def layers(self, spec: StackSpec, snapshots: Mapping[str, Snapshot]) -> tuple[LayerSpec, ...]:
        """The layers that the tree declares. Raises RenderError, SourceError, SpecError."""
        assert spec.flux is not None
        name = spec.flux.source or (spec.sources[0].name if spec.sources else "")
        snapshot = snapshots.get(name)
        if snapshot is None:
            raise SourceError(f"source {name or '(none)'} has not been fetched yet", reason="SourceNotReady")
        tree = await self._read(snapshot, name, spec.flux.path, BuildFields())
        if tree.root is not None and (fields := BuildFields.from_spec(tree.root.get("spec") or {})) != BuildFields():
            tree = await self._read(snapshot, name, spec.flux.path, fields)  # the root patches its children
        self.broken = {
            problem.layer: Problem("NotSupported", problem.message) for problem in tree.problems if problem.fatal
        }
        lost = [problem for problem in tree.problems if not problem.fatal]
        self.warnings = {
            layer: tuple(problem.message for problem in lost if problem.layer == layer)
            for layer in {problem.layer for problem in lost}
        }
        self.shared = tree.shared
        self.sources = tuple(Source.model_validate(source, by_alias=True, by_name=False) for source in tree.sources)
        return tuple(parse_layer(layer, where=f"flux[{layer['name']}]") for layer in tree.layers)

    async def _read(self, snapshot: Snapshot, name: str, path: str, fields: BuildFields) -> FluxTree:
        built = await build(
            self.context.renderers,
            root=snapshot.path,
            path=path,
            fetch=self.context.fetcher.fetch_file,
            fields=fields,
            source=f"source {name}",
        )
        return read_tree(built.objects, source=name, path=path)
