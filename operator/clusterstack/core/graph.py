"""The layers and what each depends on: order, cycles, and what the CRD's schema cannot check.

Used forwards to roll out and backwards to tear down. Every order is deterministic: where dependencies leave a choice,
the order of declaration decides.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from typing import Self

from clusterstack.api.spec import LayerSpec, StackSpec
from clusterstack.errors import SpecError


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that a person must change in the spec, or in the Flux tree that stands for its layers."""

    reason: str
    message: str
    path: str = ""
    layer: str = ""

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


def find_cycle(edges: Mapping[str, Iterable[str]]) -> tuple[str, ...]:
    """A cycle of the graph, following its edges and ending where it began: `(a, b, c, a)`; empty when there is none.

    It begins with the node that was declared first. Names without edges of their own are leaves.
    """
    try:
        TopologicalSorter({name: tuple(targets) for name, targets in edges.items()}).prepare()
    except CycleError as error:
        # graphlib lists each node before the one that depends on it; people read a dependency the other way round.
        loop = list(reversed(error.args[1]))[:-1]
        ranks = {name: rank for rank, name in enumerate(edges)}
        start = min(range(len(loop)), key=lambda index: ranks.get(loop[index], len(ranks)))
        return (*loop[start:], *loop[:start], loop[start])
    return ()


@dataclass(frozen=True)
class Graph:
    """Which layer waits for which; `edges` maps each name, in declared order, to what it depends on directly."""

    edges: Mapping[str, tuple[str, ...]]

    @classmethod
    def of(cls, layers: Iterable[LayerSpec]) -> Self:
        """The graph of `dependsOn` and `after`. Names that no layer has are left out: `validate` reports them."""
        declared = tuple(layers)
        names = {layer.name for layer in declared}
        return cls(
            {
                layer.name: tuple(dict.fromkeys(name for name in (*layer.depends_on, *layer.after) if name in names))
                for layer in declared
            }
        )

    def extended(self, edges: Mapping[str, Iterable[str]]) -> Graph:
        """The graph with further edges, such as those between releases of different layers; new names come last."""
        merged: dict[str, dict[str, None]] = {name: dict.fromkeys(targets) for name, targets in self.edges.items()}
        for name, targets in edges.items():
            for target in targets:
                merged.setdefault(target, {})
                merged.setdefault(name, {})[target] = None
        return Graph({name: tuple(targets) for name, targets in merged.items()})

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.edges)

    def dependencies(self, name: str) -> tuple[str, ...]:
        """What a layer waits for, directly."""
        return self.edges.get(name, ())

    def dependants(self, name: str) -> tuple[str, ...]:
        """What waits for a layer, directly."""
        return self._reverse.get(name, ())

    def descendants(self, name: str) -> frozenset[str]:
        """Everything that waits for a layer, directly or not; the layer itself only when it is part of a cycle."""
        return self._closure(self._reverse, name)

    def ancestors(self, name: str) -> frozenset[str]:
        """Everything that a layer waits for, directly or not; the layer itself only when it is part of a cycle."""
        return self._closure(self.edges, name)

    def cycle(self) -> tuple[str, ...]:
        """A cycle as `find_cycle` tells it, or empty."""
        return find_cycle(self.edges)

    def broken(self) -> frozenset[str]:
        """The layers that can never start, for they are part of a cycle or wait for one."""
        ordered = {name for level in self._kahn() for name in level}
        return frozenset(name for name in self.edges if name not in ordered)

    def levels(self) -> tuple[tuple[str, ...], ...]:
        """The layers in groups: each waits only for earlier groups. Reversed, this is the order of a teardown.

        Raises `SpecError` (`DependencyCycle`) when there is no such order.
        """
        if cycle := self.cycle():
            raise SpecError(cycle_message(cycle), reason="DependencyCycle")
        return tuple(self._kahn())

    def topological(self) -> tuple[str, ...]:
        """The layers in an order in which each comes after what it depends on. Raises like `levels`."""
        return tuple(name for level in self.levels() for name in level)

    def _kahn(self) -> Iterator[tuple[str, ...]]:
        waiting = {name: len(set(targets)) for name, targets in self.edges.items()}
        level = tuple(name for name, count in waiting.items() if count == 0)
        while level:
            yield level
            opened: set[str] = set()
            for name in level:
                for dependant in self._reverse.get(name, ()):
                    waiting[dependant] -= 1
                    if waiting[dependant] == 0:
                        opened.add(dependant)
            level = tuple(sorted(opened, key=self._ranks.__getitem__))

    @cached_property
    def _ranks(self) -> Mapping[str, int]:
        return {name: rank for rank, name in enumerate(self.edges)}

    @cached_property
    def _reverse(self) -> Mapping[str, tuple[str, ...]]:
        reverse: dict[str, list[str]] = {name: [] for name in self.edges}
        for name, targets in self.edges.items():
            for target in dict.fromkeys(targets):
                reverse[target].append(name)
        return {name: tuple(sources) for name, sources in reverse.items()}

    @staticmethod
    def _closure(edges: Mapping[str, tuple[str, ...]], name: str) -> frozenset[str]:
        found: set[str] = set()
        todo = list(edges.get(name, ()))
        while todo:
            current = todo.pop()
            if current not in found:
                found.add(current)
                todo.extend(edges.get(current, ()))
        return frozenset(found)


def cycle_message(cycle: Sequence[str]) -> str:
    """`layers wait for each other: a → b → c → a`."""
    return f"layers wait for each other: {' → '.join(cycle)} (remove one of these dependencies)"


def validate(spec: StackSpec, layers: Sequence[LayerSpec] | None = None) -> tuple[Problem, ...]:
    """What is wrong with a spec although its schema is satisfied; `layers`: those of a Flux tree, once it is read."""
    problems = list(_shape(spec))
    declared = spec.layers if layers is None else tuple(layers)
    where = "spec.layers" if layers is None else "flux"
    for layer in declared:
        problems.extend(_layer(spec, layer, {other.name for other in declared}, f"{where}[{layer.name}]"))
    for name, count in Counter(layer.name for layer in declared).items():
        if count > 1:
            problems.append(Problem("DuplicateName", f"{count} layers have the name {name}", where, name))
    for name, count in Counter(source.name for source in spec.sources).items():
        if count > 1:
            problems.append(Problem("DuplicateName", f"{count} sources have the name {name}", "spec.sources"))
    edges = {name: tuple(t for t in targets if t != name) for name, targets in Graph.of(declared).edges.items()}
    if cycle := find_cycle(edges):
        problems.append(Problem("DependencyCycle", cycle_message(cycle), where, cycle[0]))
    return tuple(problems)


def _shape(spec: StackSpec) -> Iterator[Problem]:
    has_layers = "layers" in spec.model_fields_set
    if has_layers and spec.flux is not None:
        yield Problem("LayersAndFlux", "give either layers or flux, not both", "spec")
    if not has_layers and spec.flux is None:
        yield Problem("NoLayers", "give layers, or flux", "spec")
    if spec.flux is not None:
        yield from _source(spec, spec.flux.source, "spec.flux", "")


def _layer(spec: StackSpec, layer: LayerSpec, names: set[str], path: str) -> Iterator[Problem]:
    for field, targets in (("dependsOn", layer.depends_on), ("after", layer.after)):
        for target in targets:
            if target == layer.name:
                yield Problem("SelfDependency", f"layer {layer.name} waits for itself", f"{path}.{field}", layer.name)
            elif target not in names:
                message = f"layer {layer.name} waits for {target}, and no layer has that name"
                yield Problem("UnknownDependency", message, f"{path}.{field}", layer.name)
    if layer.path is None and not layer.charts and not layer.manifests:
        yield Problem("EmptyLayer", f"layer {layer.name} has neither path nor charts nor manifests", path, layer.name)
    if layer.path is not None:
        yield from _source(spec, layer.source or spec.defaults.source, path, layer.name)


def _source(spec: StackSpec, source: str | None, path: str, layer: str) -> Iterator[Problem]:
    known = [item.name for item in spec.sources]
    if source is None and len(set(known)) > 1:
        message = f"the stack has several sources ({', '.join(known)}): say which one"
        yield Problem("AmbiguousSource", message, f"{path}.source", layer)
    elif source is None and not known:
        yield Problem("UnknownSource", "a path needs a source, and the stack has none", f"{path}.source", layer)
    elif source is not None and source not in known:
        message = f"no source has the name {source}" + (f" (there are {', '.join(known)})" if known else "")
        yield Problem("UnknownSource", message, f"{path}.source", layer)
