"""Puts the simulator together and runs it until it is cancelled."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable

from testbed.simulator import builtin, plays
from testbed.simulator.broken import BrokenRules
from testbed.simulator.catalogue import Catalogue
from testbed.simulator.client import ApiClient
from testbed.simulator.dice import Dice
from testbed.simulator.director import Director
from testbed.simulator.informer import Informer
from testbed.simulator.journal import Journal
from testbed.simulator.objects import Resource
from testbed.simulator.options import Options
from testbed.simulator.pods import PodGate
from testbed.simulator.recorder import Recorder
from testbed.simulator.scene import Stage
from testbed.simulator.store import Store
from testbed.simulator.webhooks.backends import Backends

_ALSO_WATCHED = frozenset({"gatewayparameters.gateway.kgateway.dev", "ipaddresspools.metallb.io"})
_NO_RELEASES = {"fieldSelector": "type!=helm.sh/release.v1"}  # Helm's records are large and nobody's business here


class EndOfControl(Exception):  # noqa: N818  # not an error: whoever started the simulator is gone
    """Standard input ended."""


async def run(options: Options, *, ready: Callable[[], None]) -> None:
    """Goes on until cancelled or its control pipe ends; `ready` is called when in step, and after control lines."""
    journal = Journal(options.journal)
    try:
        async with ApiClient.from_kubeconfig(options.kubeconfig) as client, asyncio.TaskGroup() as tasks:
            dice = Dice(options.seed, options.minimum, options.maximum, options.scale)
            stage = Stage(
                client, Store(), journal, dice, options.broken, ungated=options.ungated, olm_crds=options.olm_crds
            )
            await _start(stage, options, tasks, ready)
    finally:
        journal.close()


async def _start(stage: Stage, options: Options, tasks: asyncio.TaskGroup, ready: Callable[[], None]) -> None:
    stage.store.listen(Recorder(stage.journal).hear)
    director = Director(stage, plays.ALL, tasks)
    catalogue = Catalogue(stage, director.resources | _ALSO_WATCHED, tasks)
    backends = Backends(stage, catalogue, tasks)
    gate = PodGate(stage, tasks, delays=options.workload_delays)
    informers = [_informer(stage, resource) for resource in builtin.WATCHED]
    for informer in informers:
        tasks.create_task(informer.run())
    tasks.create_task(catalogue.run())
    for informer in informers:
        await informer.synced.wait()
    if options.webhooks:
        tasks.create_task(backends.run())
    await gate.start()

    async def rebreak(rules: BrokenRules) -> None:
        director.rebreak(rules)
        backends.rebroken()
        await gate.rebroken()

    if options.control:
        tasks.create_task(_obey(rebreak, ready))
    ready()


def _informer(stage: Stage, resource: Resource) -> Informer:
    query = _NO_RELEASES if resource == builtin.SECRETS else None
    return Informer(stage.client, stage.store, resource, query=query, metadata_only=resource == builtin.CRDS)


async def _obey(rebreak: Callable[[BrokenRules], Awaitable[None]], ready: Callable[[], None]) -> None:
    """Takes `broken RULES` lines from standard input; its end is the end of the simulator."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := (await reader.readline()).decode().strip():
        verb, _, rest = line.partition(" ")
        if verb == "broken":
            await rebreak(BrokenRules.parse(rest))
            ready()
    raise EndOfControl
