"""A Flux tree as layers: built like any directory, then read by `flux.layers`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from clusterstack.api.spec import LayerSpec, Source, StackSpec, parse_layer
from clusterstack.core.content import Problem
from clusterstack.core.objects import Manifest
from clusterstack.engine.context import Context
from clusterstack.errors import SourceError, SpecError
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
        policy = spec.defaults.health.as_input().get("policy")
        return tuple(self._layer(_gated(layer, policy)) for layer in tree.layers)

    def _layer(self, declared: Mapping[str, Any]) -> LayerSpec:
        """One layer. Health rules that are not even rules break it alone; anything else wrong, the whole tree."""
        where = f"flux[{declared['name']}]"
        try:
            return parse_layer(declared, where=where)
        except SpecError as error:
            health = {key: value for key, value in (declared.get("health") or {}).items() if key != "expressions"}
            layer = parse_layer({**declared, "health": health}, where=where)
            self.broken[layer.name] = Problem("RuleInvalid", str(error))
            return layer

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


def _gated(layer: Mapping[str, Any], policy: str | None) -> Mapping[str, Any]:
    """A layer that waits for its objects waits as Flux does, or as the stack's own default says if it has one."""
    health = layer.get("health") or {}
    if policy is None or health.get("policy") != "KStatus":
        return layer
    return {**layer, "health": {**health, "policy": policy}}
