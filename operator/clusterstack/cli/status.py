"""`clusterstack status`: every layer at one glance, once or live."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from clusterstack.cli.output import DONE, MISSING, CliError, bold, coloured, dump, emit, paint, table

if TYPE_CHECKING:
    from clusterstack.cli.records import LayerRecord, StackRecord

HELP = "show the layers of a stack"
DESCRIPTION = "Show what state each layer is in, how many of its objects are healthy, since when, and why."
EXAMPLES = """\
examples:
  clusterstack status               every stack
  clusterstack status home -w       follow one; redraws on a terminal, else one line a change
  clusterstack status -o json       a list of stacks, each with its layers
"""
NEEDS_CLUSTER = True
PERIOD = 1.0


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("stack", nargs="?", default="", help="name of the stack (default: all)")
    parser.add_argument("-w", "--watch", action="store_true", help="go on until interrupted")
    parser.add_argument(
        "-o", "--output", choices=("table", "json", "yaml", "name"), default="table", help="default: table"
    )


def run(args: argparse.Namespace) -> int:
    return asyncio.run(_watch(args) if args.watch else _once(args))


async def _once(args: argparse.Namespace) -> int:
    from clusterstack.cli.cluster import cluster, read_stacks

    async with cluster(args) as client:
        stacks = await read_stacks(client, args.stack)
    if args.output == "table" and not stacks:
        raise CliError("there is no ClusterStack in this cluster", hint="kubectl apply -f one", code=MISSING)
    emit(_output(stacks, args.output))
    return DONE


async def _watch(args: argparse.Namespace) -> int:
    from clusterstack.cli.cluster import cluster, read_stacks

    redraw = args.output == "table" and sys.stdout.isatty()
    seen: dict[str, str] = {}
    shown: list[str] = []
    async with cluster(args) as client:
        while True:
            stacks = await read_stacks(client, args.stack)
            if args.output == "table" and not redraw:
                emit(changes(stacks, seen))
            elif (lines := _output(stacks, args.output)) != shown:
                emit([f"\x1b[H\x1b[2J{lines[0]}", *lines[1:]] if redraw and lines else lines)
                shown = lines
            await asyncio.sleep(PERIOD)


def _output(stacks: Sequence[StackRecord], form: str) -> list[str]:
    match form:
        case "table":
            return picture(stacks, now=time.time(), colour=coloured(sys.stdout))
        case "name":
            return [line for stack in stacks for line in _names(stack)]
        case _:
            return dump([document(stack) for stack in stacks], form)


def picture(stacks: Iterable[StackRecord], *, now: float, colour: bool = False) -> list[str]:
    """Each stack in a line, and its layers in a table."""
    lines: list[str] = []
    for stack in stacks:
        lines += ["", *headline(stack, colour=colour)] if lines else headline(stack, colour=colour)
        if stack.layers:
            rows = [("LAYER", "STATUS", "OBJECTS", "SINCE", "TOOK", "MESSAGE")]
            rows += [_row(layer, now) for layer in stack.layers]
            lines += table(rows, painted=1, colour=colour)
    return lines


def headline(stack: StackRecord, *, colour: bool = False) -> list[str]:
    """A stack in a line or two: how far it is, and why no further."""
    ready = sum(layer.ready for layer in stack.layers)
    parts = [
        bold(stack.name, colour=colour),
        paint(stack.phase, stack.phase, colour=colour),
        f"{ready}/{len(stack.layers)} layers",
        stack.revision,
    ]
    lines = ["   ".join(part for part in parts if part)]
    return [*lines, stack.message] if stack.message else lines


def _row(layer: LayerRecord, now: float) -> tuple[str, str, str, str, str, str]:
    from clusterstack.core.timeline import elapsed

    return (
        layer.name,
        layer.phase,
        str(layer.counts) if layer.counts.total else "-",
        elapsed(now - layer.since) if layer.since else "-",
        elapsed(layer.took) if layer.took else "-",
        _message(layer),
    )


def _message(layer: LayerRecord) -> str:
    """Of a layer that is Ready there is something to say only if its policy lets pass what is not healthy."""
    return f"not healthy: {layer.unwell}" if layer.unwell else "" if layer.ready else layer.message


def changes(stacks: Iterable[StackRecord], seen: dict[str, str]) -> list[str]:
    """A line for each layer that is not as it was; `seen` remembers."""
    lines: list[str] = []
    for stack in stacks:
        for layer in stack.layers:
            key = f"{stack.name}.{layer.name}"
            message = _message(layer)
            text = f"{layer.phase} {layer.counts}" + (f": {message}" if message else "")
            if seen.get(key) != text:
                seen[key] = text
                lines.append(f"{time.strftime('%H:%M:%S')} {key} {text}")
    return lines


def _names(stack: StackRecord) -> list[str]:
    layers = [f"stacklayer.clusterstack.dev/{stack.name}.{layer.name}" for layer in stack.layers]
    return [f"clusterstack.clusterstack.dev/{stack.name}", *layers]


def document(stack: StackRecord) -> dict[str, Any]:
    """A stack for scripts: what the operator wrote, layers with all that is known of them."""
    return {
        "name": stack.name,
        "phase": stack.phase,
        "ready": stack.ready,
        "message": stack.message,
        "revision": stack.revision,
        "conditions": list(stack.status.get("conditions") or ()),
        "layers": [{"name": layer.name, "phase": layer.phase, **(layer.status or {})} for layer in stack.layers],
    }
