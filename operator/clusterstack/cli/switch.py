"""Suspending and resuming a stack or a layer of it: what the verbs `suspend` and `resume` share."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from clusterstack.cli.output import DONE, USAGE, CliError, emit

if TYPE_CHECKING:
    from clusterstack.cli.records import LayerRecord, StackRecord


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("target", nargs="?", default="", help="a stack, a layer, or stack.layer (default: the stack)")


async def switch(args: argparse.Namespace, *, suspend: bool) -> int:
    """Write `suspend` where the spec has it."""
    from clusterstack.cli.cluster import MANAGER, STACK, cluster, read_stacks, target

    async with cluster(args) as client:
        stack, layer = target(await read_stacks(client), args.target)
        if layer is None:
            patch = {"spec": {"suspend": suspend}}
            await client.patch_merge(STACK, "", stack.name, patch, manager=MANAGER)
        else:
            operations = layer_operations(stack, layer, suspend=suspend)
            await client.patch_json(STACK, "", stack.name, operations, manager=MANAGER)
    name = f"{stack.name}.{layer.name}" if layer else stack.name
    emit([f"{name} {'suspended' if suspend else 'resumed'}"])
    return DONE


def layer_operations(stack: StackRecord, layer: LayerRecord, *, suspend: bool) -> list[dict[str, Any]]:
    """A JSON patch that fails rather than hit another layer. Raises CliError for a layer out of a Flux tree."""
    declared = stack.manifest["spec"].get("layers") or ()
    index = next((number for number, found in enumerate(declared) if found["name"] == layer.name), None)
    if index is None:
        raise CliError(
            f"layer {layer.name} comes out of Git, not out of the spec of {stack.name}",
            hint="set suspend in its Kustomization, in Git",
            code=USAGE,
        )
    path = f"/spec/layers/{index}"
    return [
        {"op": "test", "path": f"{path}/name", "value": layer.name},
        {"op": "add", "path": f"{path}/suspend", "value": suspend},
    ]
