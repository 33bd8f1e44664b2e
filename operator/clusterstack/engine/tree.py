"""A Flux tree as layers: built like any directory, then read by `flux.layers`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from clusterstack.api.spec import LayerSpec, StackSpec, parse_layer
from clusterstack.core.objects import Manifest
from clusterstack.engine.context import Context
from clusterstack.errors import SourceError
from clusterstack.flux.layers import read_tree
from clusterstack.render.kustomization import build
from clusterstack.render.protocol import BuildFields
from clusterstack.sources.fetcher import Snapshot


@dataclass(slots=True)
class TreeReader:
    """Reads `spec.flux`; `shared` are the sources that the tree itself declares."""

    context: Context
    shared: tuple[Manifest, ...] = ()

    async def layers(self, spec: StackSpec, snapshots: Mapping[str, Snapshot]) -> tuple[LayerSpec, ...]:
        """The layers that the tree declares. Raises RenderError, SourceError, SpecError."""
        assert spec.flux is not None
        name = spec.flux.source or (spec.sources[0].name if spec.sources else "")
        snapshot = snapshots.get(name)
        if snapshot is None:
            raise SourceError(f"source {name or '(none)'} has not been fetched yet", reason="SourceNotReady")
        built = await build(
            self.context.renderers,
            root=snapshot.path,
            path=spec.flux.path,
            fetch=self.context.fetcher.fetch_file,
            fields=BuildFields(),
            source=f"source {name}",
        )
        tree = read_tree(built.objects, source=name, path=spec.flux.path)
        self.shared = tree.shared
        return tuple(parse_layer(layer, where=f"flux[{layer['name']}]") for layer in tree.layers)
