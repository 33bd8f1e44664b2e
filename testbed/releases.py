"""What the releases of a Flux repository wait for, read straight from its HelmReleases."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from testbed.outside import Owned
from testbed.simulator.critical import Group, Item


def release_groups(
    depends_on: Mapping[str, Sequence[str]], repository: Path, inventories: Mapping[str, Sequence[Owned]]
) -> list[Group]:
    """A group per layer, and one per release in it, for the simulated critical path."""
    groups = [Group(layer, after=parents) for layer, parents in depends_on.items()]
    where = {one.unit: layer for layer, owned in inventories.items() for one in owned if one.unit}
    specs = {_id(release): release for release in _releases(repository)}
    for unit, layer in where.items():
        release = specs.get(unit, {})
        spec, namespace = release.get("spec") or {}, unit.partition("/")[0]
        needs = [
            Item("Secret", namespace, source["name"])
            for source in spec.get("valuesFrom") or ()
            if source["kind"] == "Secret"
        ]
        others = [f"{other.get('namespace', namespace)}/{other['name']}" for other in spec.get("dependsOn") or ()]
        after = [f"{where[other]}/{other}" for other in others if other in where]
        groups.append(Group(f"{layer}/{unit}", after=after, needs=needs, part_of=layer))
    return groups


def _id(release: Mapping[str, Any]) -> str:
    return f"{release['metadata'].get('namespace', '')}/{release['metadata']['name']}"


def _releases(repository: Path) -> Iterator[dict[str, Any]]:
    for path in sorted(repository.rglob("*.yaml")):
        text = path.read_text()
        if "kind: HelmRelease" not in text:
            continue
        for document in yaml.safe_load_all(text):
            if isinstance(document, dict) and document.get("kind") == "HelmRelease":
                yield document
