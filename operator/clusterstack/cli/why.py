"""`clusterstack why`: from a stack that is not Ready to the one thing that is in its way."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from clusterstack.cli.output import DONE, MISSING, CliError, bold, coloured, emit, paint

if TYPE_CHECKING:
    from clusterstack.cli.reasons import Link
    from clusterstack.cli.records import LayerRecord, StackRecord
    from clusterstack.core.gates import Blocker
    from clusterstack.kube.client import KubeClient

HELP = "tell why something is not Ready, down to the object in its way"
DESCRIPTION = """\
Follow what waits for what to its end: layer, layer, object, and the object's own words. Without a name: for every
stack that is not Ready.
"""
EXAMPLES = """\
examples:
  clusterstack why
  clusterstack why routes                            a layer, or home.routes
  clusterstack why deployment/keda/keda-operator     an object: who waits for it
"""
NEEDS_CLUSTER = True
MORE = 5


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", nargs="?", default="", help="a stack, a layer, or kind/namespace/name")


def run(args: argparse.Namespace) -> int:
    return asyncio.run(_why(args))


async def _why(args: argparse.Namespace) -> int:
    from clusterstack.cli.cluster import cluster, read_stacks, target

    async with cluster(args) as client:
        stacks = await read_stacks(client)
        parts = args.what.split("/")
        known = [stack.name for stack in stacks]
        if len(parts) == 3 or (len(parts) == 2 and parts[0] not in known):
            await _object(client, stacks, parts)
            return DONE
        if args.what:
            stack, layer = target(stacks, args.what)
            await _stack(client, stack, layer)
            return DONE
        if not stacks:
            raise CliError("there is no ClusterStack in this cluster", hint="kubectl apply -f one", code=MISSING)
        for number, stack in enumerate(stacks):
            if number:
                emit([""])
            await _stack(client, stack, None)
    return DONE


async def _stack(client: KubeClient, stack: StackRecord, layer: LayerRecord | None) -> None:
    from clusterstack.cli.reasons import chain

    links: tuple[Link, ...] = ()
    if layer is not None:
        links = chain(stack, layer.name)
    elif (cause := stack.cause()) is not None:
        links = chain(stack, cause.layer)
    end = links[-1].blocker if links else None
    events = await _events(client, end)
    emit(explain(stack, layer, links, events=events, now=time.time(), colour=coloured(sys.stdout)))


def explain(
    stack: StackRecord,
    layer: LayerRecord | None,
    links: Sequence[Link],
    *,
    events: Sequence[str] = (),
    now: float,
    colour: bool = False,
) -> list[str]:
    """The whole answer for a stack, or for one of its layers."""
    from clusterstack.cli.reasons import suggestion

    if layer.ready if layer else stack.ready and not links:
        head = f"{stack.name}.{layer.name} is Ready" if layer else f"{stack.name} is Ready"
        return [head, *_unwell(stack, layer), *_abnormal(stack)]
    lines = [] if layer else _headline(stack, colour=colour)
    if not links:
        return [*lines, *_conditions(stack), *_abnormal(stack), *_next(suggestion(None, stack=stack.name))]
    for depth, link in enumerate(links):
        lines += _link(link, depth, now=now, colour=colour, last=depth == len(links) - 1)
    indent = "   " * len(links)
    lines += [f"{indent}{event}" for event in events]
    lines += _more(links)
    lines += _held(stack, links)
    lines += _abnormal(stack)
    return [*lines, *_next(suggestion(links[-1].blocker, stack=stack.name, layer=_last(links)))]


def _headline(stack: StackRecord, *, colour: bool) -> list[str]:
    ready = sum(layer.ready for layer in stack.layers)
    count = f": {ready} of {len(stack.layers)} layers are" if stack.layers else ""
    return [f"{bold(stack.name, colour=colour)} is not Ready{count}", ""]


def _link(link: Link, depth: int, *, now: float, colour: bool, last: bool) -> list[str]:
    """A step of the chain. What a layer waits for is the next step, so only the end and failures say it."""
    from clusterstack.core.timeline import elapsed

    lead = "   " * (depth - 1) + "└─ " if depth else ""
    if link.blocker is not None:
        return [f"{lead}{link.blocker}"]
    layer = link.layer
    assert layer is not None
    age = f" for {elapsed(now - layer.since)}" if layer.since else ""
    objects = f", {layer.counts} objects" if layer.counts.total else ""
    message = f": {layer.message}" if layer.message and (last or layer.phase == "Failed") else ""
    return [f"{lead}layer {layer.name} {paint(layer.phase, layer.phase, colour=colour)}{age}{objects}{message}"]


def _more(links: Sequence[Link]) -> list[str]:
    """What else is in the way of the last layer."""
    layer = next((link.layer for link in reversed(links) if link.layer is not None), None)
    if layer is None:
        return []
    rest = [blocker for blocker in (*layer.waiting_on, *layer.blocking) if blocker != links[-1].blocker]
    rest = [blocker for blocker in rest if blocker.layer is None]
    lines = [f"   also: {blocker}" for blocker in rest[:MORE]]
    return [*lines, f"   and {len(rest) - MORE} more"] if len(rest) > MORE else lines


def _held(stack: StackRecord, links: Sequence[Link]) -> list[str]:
    from clusterstack.cli.reasons import held_back

    name = _last(links)
    names = held_back(stack, name) if name else ()
    return ["", f"waiting for it: {', '.join(names)}"] if names else []


def _last(links: Sequence[Link]) -> str:
    """The layer at the end of the chain."""
    return next((link.layer.name for link in reversed(links) if link.layer is not None), "")


def _conditions(stack: StackRecord) -> list[str]:
    found = stack.condition("Ready")
    if not found:
        return ["the operator has not looked at it yet: is it running?"]
    return [f"{found['reason']}: {found['message']}"]


def _unwell(stack: StackRecord, layer: LayerRecord | None) -> list[str]:
    """What layers let pass by their policy although it is not healthy."""
    wrong = [one for one in ((layer,) if layer is not None else stack.layers) if one.unwell]
    return ["", *(f"layer {one.name} is Ready, but not healthy: {one.unwell}" for one in wrong)] if wrong else []


def _abnormal(stack: StackRecord) -> list[str]:
    """What else is worth knowing, though it may not be the reason."""
    lines: list[str] = []
    source = stack.condition("SourceReady")
    if source.get("status") == "False":
        lines.append(f"SourceReady=False: {source['message']}")
    rules = stack.condition("HealthRulesReady")
    if rules.get("status") == "False":
        lines.append(f"HealthRulesReady=False: {rules['message']}")
    lines += [
        f"{type_}: {stack.condition(type_)['message']}"
        for type_ in ("PruneBlocked", "Drifted", "Suspended")
        if stack.condition(type_).get("status") == "True"
    ]
    return ["", *lines] if lines else []


def _next(command: str) -> list[str]:
    return ["", "next:", f"  {command}"]


async def _events(client: KubeClient, blocker: Blocker | None) -> list[str]:
    """The newest warning about an object in the words of whoever wrote it; none when they cannot be read."""
    from clusterstack.core.timeline import elapsed, seconds_of
    from clusterstack.errors import ClusterStackError
    from clusterstack.kube.resource import Resource

    if blocker is None or blocker.ref is None:
        return []
    ref = blocker.ref
    selector = f"involvedObject.kind={ref.kind},involvedObject.name={ref.name},type=Warning"
    try:
        found = await client.list(
            Resource("", "v1", "Event", "events", namespaced=True), ref.namespace or "default", field_selector=selector
        )
    except ClusterStackError:
        return []
    times = [(seconds_of(event.get("lastTimestamp") or event.get("eventTime") or ""), event) for event in found]
    if not times:
        return []
    at, event = max(times, key=lambda pair: pair[0])
    age = f" ({elapsed(time.time() - at)} ago)" if at else ""
    return [f"event {event.get('reason', '')}: {' '.join(str(event.get('message', '')).split())}{age}"]


async def _object(client: KubeClient, stacks: Sequence[StackRecord], parts: Sequence[str]) -> None:
    """Who waits for an object; when nobody does, what the operator would say of it."""
    from clusterstack.cli.reasons import holding, suggestion

    found = list(holding(stacks, parts))
    if not found:
        from clusterstack.cli.inspect import inspect

        emit(await inspect(client, parts))
        return
    colour = coloured(sys.stdout)
    blocker = found[0][2]
    lines = [bold(str(blocker), colour=colour), *(f"   {event}" for event in await _events(client, blocker))]
    for stack, layer, _ in found:
        lines.append(f"└─ in the way of layer {stack.name}.{layer.name} ({layer.phase})")
        lines += [*_held_by(stack, layer)]
    emit([*lines, *_next(suggestion(blocker, stack=found[0][0].name, layer=found[0][1].name))])


def _held_by(stack: StackRecord, layer: LayerRecord) -> list[str]:
    from clusterstack.cli.reasons import held_back

    names = held_back(stack, layer.name)
    return [f"   └─ which {', '.join(names)} wait for"] if names else []
