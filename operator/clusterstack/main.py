"""The composition root: signals; Lease → HTTP → supervisor in one TaskGroup, with kopf beside it in its own thread."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import os
import signal
import sys
from collections.abc import AsyncIterator
from functools import partial
from urllib.parse import urlsplit

from clusterstack import __version__
from clusterstack.api.spec import ClusterStack
from clusterstack.config import Settings, add_arguments
from clusterstack.config import settings as settings_of
from clusterstack.core.health import RuleSet
from clusterstack.engine.clock import LoopClock
from clusterstack.engine.context import Context
from clusterstack.engine.herald import Herald
from clusterstack.engine.installation import installation
from clusterstack.engine.rules import RuleBook, StackRules
from clusterstack.engine.supervisor import MakeContext, Supervisor
from clusterstack.engine.webhooks import Webhooks
from clusterstack.errors import TransportError
from clusterstack.kube.auth import Connection, connect
from clusterstack.kube.client import KubeClient
from clusterstack.kube.cluster import KubeCluster
from clusterstack.kube.discovery import Discovery
from clusterstack.kube.events import EventRecorder
from clusterstack.kube.facts import Bus
from clusterstack.kube.lease import Lease
from clusterstack.kube.observer import Observer
from clusterstack.kube.slots import Slots
from clusterstack.render.pool import RendererPool
from clusterstack.shell.watcher import Watcher
from clusterstack.sources.fetcher import Fetcher, Mirrors
from clusterstack.telemetry.http import Health, HttpServer
from clusterstack.telemetry.logs import configure, logger
from clusterstack.telemetry.memory import settle, trim_for_ever
from clusterstack.telemetry.metrics import Metrics

LOG = logger(__name__)
GRACE = 10.0
FIRST_CONTACT_PAUSE = 2.0
CACHE_CLEANING = 3600.0


def run(settings: Settings) -> int:
    """Run the operator until a signal ends it; the process's exit code: 0 after a signal, 1 when it could not go on."""
    configure(settings.log_level, settings.log_json)
    settle()
    return asyncio.run(_main(settings))


async def _main(settings: Settings) -> int:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    work = asyncio.create_task(_operate(settings))
    stop = asyncio.create_task(stopping.wait())
    await asyncio.wait([work, stop], return_when=asyncio.FIRST_COMPLETED)
    stop.cancel()
    if not work.done():
        LOG.info("stopping")
        work.cancel()
        done, _ = await asyncio.wait([work], timeout=GRACE)
        if not done:
            LOG.error("did not stop in time")
            os._exit(1)
        return 0
    error = work.exception()
    LOG.error("the operator ended", exc_info=error)
    return 1


async def _operate(settings: Settings) -> None:
    metrics, health = Metrics(__version__), Health()
    connection = await connect(kubeconfig=settings.kubeconfig, context=settings.context)
    async with connection, HttpServer(registry=metrics.registry, health=health, bind=settings.bind, port=settings.port):
        client = KubeClient(connection, Slots(settings.requests))
        client.on_request, metrics.host = metrics.request, urlsplit(connection.server).netloc
        async with _lease(settings, connection, client, metrics) as lease:
            await _serve(settings, client, lease, metrics, health)


@contextlib.asynccontextmanager
async def _lease(
    settings: Settings, connection: Connection, client: KubeClient, metrics: Metrics
) -> AsyncIterator[Lease | None]:
    """Hold the Lease around everything that writes; a lost Lease ends the process."""
    if not settings.lease:
        yield None
        return
    lease = Lease(
        KubeClient(connection, Slots(2), timeout=5.0),
        namespace=settings.namespace,
        name=settings.lease_name,
        identity=settings.identity,
        duration=settings.lease_duration,
        renew_deadline=settings.renew_deadline,
        retry_period=settings.retry_period,
    )
    async with lease:
        client.fence = lease.check
        metrics.leader(settings.lease_name, True)
        yield lease


async def _serve(settings: Settings, client: KubeClient, lease: Lease | None, metrics: Metrics, health: Health) -> None:
    bus = Bus()
    async with Discovery(client, bus) as discovery, Observer(client, discovery, bus) as observer:
        await _first_contact(discovery)
        cluster = KubeCluster(client, discovery, observer, bus)
        recorder = EventRecorder(client, instance=settings.identity)
        herald = Herald(recorder, metrics)
        book = RuleBook(cluster, LoopClock(), RuleSet.bundled(), namespace=settings.namespace, told=herald.rules)
        fetcher = Fetcher(settings.cache, Mirrors(settings.mirrors), allow_file=settings.allow_file)
        renderers = RendererPool(settings.renderer, size=settings.renderers)
        try:
            supervisor = Supervisor(
                cluster,
                LoopClock(),
                make=await _contexts(settings, cluster, fetcher, renderers, book=book, herald=herald, metrics=metrics),
                announce=herald.announce,
                observe=herald.observe,
                forget=metrics.forget_stack,
                selector=settings.selector,
            )
            await book.start()
            housekeeping = asyncio.create_task(_clean_cache(fetcher, supervisor))
            try:
                await _run(
                    settings,
                    supervisor=supervisor,
                    book=book,
                    recorder=recorder,
                    lease=lease,
                    metrics=metrics,
                    health=health,
                )
            finally:
                housekeeping.cancel()
        finally:
            await asyncio.shield(recorder.flush())
            await renderers.close()
            await fetcher.close()


async def _clean_cache(fetcher: Fetcher, supervisor: Supervisor) -> None:
    """Drop from the cache, now and then, what nobody has asked for in days."""
    while True:
        await asyncio.sleep(CACHE_CLEANING)
        try:
            await fetcher.collect(keep=supervisor.snapshots())
        except OSError as error:
            LOG.warning("the cache could not be cleaned", extra={"error": str(error)})


async def _contexts(
    settings: Settings,
    cluster: KubeCluster,
    fetcher: Fetcher,
    renderers: RendererPool,
    *,
    book: RuleBook,
    herald: Herald,
    metrics: Metrics,
) -> MakeContext:
    identity = await installation(cluster, settings.namespace)
    clock = LoopClock()
    webhooks = Webhooks(cluster, clock)
    gc.freeze()

    def make(name: str, stack: ClusterStack | None) -> Context:
        spec = stack.spec if stack is not None else None
        mirrors = (
            Mirrors(tuple((mirror.from_, mirror.to) for mirror in spec.mirrors)) if spec is not None else Mirrors()
        )
        account = spec.service_account.username if spec is not None and spec.service_account is not None else ""
        return Context(
            stack=name,
            installation=identity,
            cluster=cluster,
            clock=clock,
            renderers=renderers,
            fetcher=fetcher.with_mirrors(mirrors),
            rules=StackRules(book, cluster.facts, name),
            webhooks=webhooks,
            account=account,
            tell=partial(herald.tell, name),
            tally=metrics,
        )

    return make


async def _run(
    settings: Settings,
    *,
    supervisor: Supervisor,
    book: RuleBook,
    recorder: EventRecorder,
    lease: Lease | None,
    metrics: Metrics,
    health: Health,
) -> None:
    watcher = Watcher(
        supervisor.notify,
        kubeconfig=settings.kubeconfig,
        context=settings.context,
        selector=settings.selector,
        relisted=lambda: supervisor.notify(""),
    )
    health.live("watcher", watcher.problem)
    health.ready("stacks", lambda: "" if supervisor.synced else "the ClusterStacks have not been listed yet")
    watcher.start()
    try:
        async with asyncio.TaskGroup() as tasks:
            if lease is not None:
                tasks.create_task(lease.lost())
            tasks.create_task(recorder.run())
            tasks.create_task(metrics.watch_loop())
            tasks.create_task(trim_for_ever())
            tasks.create_task(book.run())
            tasks.create_task(supervisor.run())
    finally:
        await asyncio.shield(watcher.stop())


async def _first_contact(discovery: Discovery) -> None:
    """Wait for the API server rather than crash: at the start of a cluster it may come up after us."""
    while True:
        try:
            await discovery.refresh()
            return
        except TransportError as error:
            LOG.warning("waiting for the API server", extra={"error": str(error)})
            await asyncio.sleep(FIRST_CONTACT_PAUSE)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    sys.exit(run(settings_of(parser.parse_args(), os.environ)))
