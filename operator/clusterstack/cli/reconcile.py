"""`clusterstack reconcile`: look at everything now, and tell how it went."""

from __future__ import annotations

import argparse
import asyncio
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from clusterstack.cli.output import DONE, NO, TIMEOUT, CliError, emit, note

if TYPE_CHECKING:
    from clusterstack.cli.records import LayerRecord, StackRecord
    from clusterstack.kube.client import KubeClient

HELP = "look at the sources and at every object now"
DESCRIPTION = """\
Ask the operator to look at the stack's sources, and at every object, now rather than at the next interval. With a
layer's name the whole stack is looked at all the same, and --wait waits for that layer alone.
"""
EXAMPLES = """\
examples:
  clusterstack reconcile                       the only stack
  clusterstack reconcile operators --wait      until this layer is Ready: 0, failed: 1, time is up: 124
"""
NEEDS_CLUSTER = True
PERIOD = 0.5


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("target", nargs="?", default="", help="a stack, a layer, or stack.layer (default: the stack)")
    parser.add_argument("--wait", action="store_true", help="until it is Ready, or has failed for good")
    parser.add_argument("--timeout", type=duration, default=600.0, metavar="TIME", help="of --wait (default: 10m)")


def duration(text: str) -> float:
    """`90`, `90s` or `10m`, in seconds."""
    from clusterstack.api.common import Duration

    try:
        return float(text) if text.isdecimal() else Duration(text).seconds
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def run(args: argparse.Namespace) -> int:
    return asyncio.run(_reconcile(args))


async def _reconcile(args: argparse.Namespace) -> int:
    from clusterstack.cli.cluster import MANAGER, STACK, cluster, read_stacks, target
    from clusterstack.core.ownership import RECONCILE_ANNOTATION

    async with cluster(args) as client:
        stack, layer = target(await read_stacks(client), args.target)
        asked = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        patch = {"metadata": {"annotations": {RECONCILE_ANNOTATION: asked}}}
        await client.patch_merge(STACK, "", stack.name, patch, manager=MANAGER)
        if not args.wait:
            note(f"asked for a look at {stack.name}; see: clusterstack status {stack.name} -w")
            return DONE
        return await _settled(client, stack.name, layer.name if layer else "", asked=asked, timeout=args.timeout)


async def _settled(client: KubeClient, name: str, layer_name: str, *, asked: str, timeout: float) -> int:
    """Wait until the request is handled and its object is settled; tell each change on the way."""
    from clusterstack.cli.cluster import read_stacks

    deadline = time.monotonic() + timeout
    told = ""
    while True:
        stack = (await read_stacks(client, name))[0]
        layer = stack.layer(layer_name)
        handled = stack.status.get("lastHandledReconcileAt") == asked
        line = _line(stack, layer) if handled else f"{name}: waiting for the operator to look"
        if line != told:
            note(line)
            told = line
        if handled and _is_ready(stack, layer, layer_name):
            emit([line])
            return DONE
        if handled and _has_failed(stack, layer):
            return NO
        if time.monotonic() > deadline:
            return _too_late(stack, layer, handled=handled, timeout=timeout)
        await asyncio.sleep(PERIOD)


def _line(stack: StackRecord, layer: LayerRecord | None) -> str:
    if layer is not None:
        detail = f": {layer.message}" if layer.message and not layer.ready else ""
        return f"{stack.name}.{layer.name}: {layer.phase} {layer.counts}{detail}"
    ready = sum(found.ready for found in stack.layers)
    return f"{stack.name}: {stack.phase} {ready}/{len(stack.layers)} layers" + (
        f": {stack.message}" if stack.message else ""
    )


def _is_ready(stack: StackRecord, layer: LayerRecord | None, layer_name: str) -> bool:
    if layer_name:
        return layer is not None and layer.ready
    return stack.ready


def _has_failed(stack: StackRecord, layer: LayerRecord | None) -> bool:
    """Whether only a person can help; what is tried again has not failed yet."""
    conditions = (layer.status or {}).get("conditions") if layer else stack.status.get("conditions")
    return any(found["type"] == "Stalled" and found["status"] == "True" for found in conditions or ())


def _too_late(stack: StackRecord, layer: LayerRecord | None, *, handled: bool, timeout: float) -> int:
    if not handled:
        raise CliError(
            f"the operator has not looked at {stack.name} within {timeout:g}s",
            hint="is it running? kubectl -n clusterstack get pods,lease",
            code=TIMEOUT,
        )
    raise CliError(f"not Ready within {timeout:g}s: {_line(stack, layer)}", hint="clusterstack why", code=TIMEOUT)
