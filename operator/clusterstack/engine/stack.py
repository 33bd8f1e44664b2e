"""A stack at work: its sources, its builds, its layers, its sweep; and its end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from clusterstack.api.common import API_VERSION, GROUP
from clusterstack.api.spec import ClusterStack, DeletionPolicy, LayerSpec, effective_layer
from clusterstack.api.status import Phase
from clusterstack.core.gates import LayerFacts
from clusterstack.core.graph import Graph, Problem, validate
from clusterstack.core.inventory import Entry, Inventory
from clusterstack.core.objects import ObjectRef
from clusterstack.core.ownership import RECONCILE_ANNOTATION
from clusterstack.core.views import StackView
from clusterstack.engine.build import Builder, Plan
from clusterstack.engine.claims import Holder
from clusterstack.engine.contents import Content, Latest
from clusterstack.engine.context import Context
from clusterstack.engine.fetch import SourceKeepers
from clusterstack.engine.finalizer import crd_going, set_finalizer
from clusterstack.engine.layer import RESUME_GRACE, Layer
from clusterstack.engine.ledger import Ledger, Store
from clusterstack.engine.publish import Announce, LayerPublisher, StackPublisher
from clusterstack.engine.sweeper import Sweeper
from clusterstack.engine.teardown import Teardown
from clusterstack.engine.tree import TreeReader
from clusterstack.engine.view import layer_view
from clusterstack.engine.wait import changed_or_later
from clusterstack.engine.watches import Reads
from clusterstack.errors import ApiError, ClusterStackError, SpecError, TransportError
from clusterstack.sources.fetcher import Snapshot
from clusterstack.telemetry.logs import logger

LOG = logger(__name__)
PASS_AGAIN = 5.0
FLUX_RECONCILE = "reconcile.fluxcd.io/requestedAt"


@dataclass(slots=True)
class _Running:
    """A layer and the tasks that live with it."""

    layer: Layer
    publisher: LayerPublisher
    tasks: tuple[asyncio.Task[None], ...]

    async def stop(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.publisher.close()


class Stack:
    """One ClusterStack. `wanted` receives the newest object, or the error that it does not parse with."""

    def __init__(self, context: Context, *, uid: str, announce: Announce, observe: Callable[[StackView], None]) -> None:
        self.wanted: Latest[ClusterStack | SpecError] = Latest()
        self._context, self._uid, self._announce, self._observe = context, uid, announce, observe
        self._store = Store(context.cluster, namespace=context.installation.namespace, stack=context.stack)
        self._publisher = StackPublisher(context.cluster, context.clock, stack=context.stack, announce=announce)
        self._builder = Builder(context)
        self._reads = Reads(context.cluster)
        self._tree = TreeReader(context)
        self._sources = SourceKeepers(context, self._publish)
        self._layers: dict[str, _Running] = {}
        self._facts: dict[str, LayerFacts] = {}
        self._ledgers: dict[str, Ledger] = {}
        self._contents: dict[str, Content] = {}
        self._graph = Graph({})
        self._stack: ClusterStack | None = None
        self._problems: tuple[Problem, ...] = ()
        self._revision = ""
        self._deleting = ""
        self._applied: set[str] = set()
        self._handled = ""
        self._started_at = 0.0
        self._ready_at = 0.0
        self._quiet_until = 0.0
        self._verified = 0.0
        self._sweeper = Sweeper(
            context,
            self._store,
            self._ledgers,
            contents=lambda: self._contents,
            layers=lambda: {name: running.layer for name, running in self._layers.items()},
        )

    @property
    def stopping(self) -> asyncio.Event:
        """To be set before a cancellation that ends the process."""
        return self._context.stopping

    @property
    def key(self) -> tuple[str, str]:
        """The bus key on which a change of the object is published."""
        return ("stack", self._context.stack)

    def snapshots(self) -> set[Path]:
        """The directories that its sources hold on to."""
        return {snapshot.path for snapshot in self._sources.snapshots().values()}

    def want(self, stack: ClusterStack | SpecError) -> None:
        """There is a newer version of the object; one that differs in its status alone is no news."""
        if isinstance(stack, ClusterStack) and stack == self.wanted.value:
            return
        self.wanted.put(stack)
        self._context.cluster.facts.publish(self.key)

    async def live(self) -> None:
        """Run until the object is gone, or cancelled. Raises what keeps it from starting at all."""
        publishing: asyncio.Task[None] | None = None
        sweeping: asyncio.Task[None] | None = None
        try:
            for name, inventory in (await self._store.load()).items():
                self._ledgers[name] = self._ledger(inventory)
                for entry in inventory.entries.values():
                    self._context.claims.seed(entry.ref, Holder(name, entry.unit))
            await self._publisher.start()
            self._handled = str(self._publisher.status.get("lastHandledReconcileAt") or "")
            self._quiet_until = self._context.clock.now() + RESUME_GRACE
            publishing = asyncio.create_task(self._publisher.run())
            sweeping = asyncio.create_task(self._sweeper.run())
            while await self._pass():
                pass
        finally:
            await self._stop(publishing, sweeping)

    async def _stop(self, *tasks: asyncio.Task[None] | None) -> None:
        for task in tasks:
            if task is not None:
                task.cancel()
        await asyncio.gather(*(task for task in tasks if task is not None), return_exceptions=True)
        await self._publisher.flush()  # before the layers go: the status is read off them
        await self._stop_layers(list(self._layers))
        await self._sources.stop()
        self._reads.keep(())
        self._publisher.close()

    async def _pass(self) -> bool:
        """Bring everything in line with the newest object, then wait for a reason to do so again; False: it is gone."""
        since = self._context.cluster.facts.now
        stack, _ = await self.wanted.newer(0)
        delay = 600.0
        match stack:
            case SpecError() as error:
                self._problems = (Problem(error.reason, str(error), "spec"),)
            case ClusterStack(deleting=True):
                await self._end(stack)
                return False
            case ClusterStack():
                try:
                    delay = await self._pursue(stack)
                except (ApiError, TransportError) as error:  # what runs already goes on
                    LOG.warning("the stack is looked at again", extra={"stack": stack.name, "error": str(error)})
                    delay = PASS_AGAIN
        self._publish()
        keys = [self.key, *self._sources.keys(), *self._reads.keys(), self._context.rules.shared]
        await changed_or_later(self._context.cluster.facts, keys, since, self._context.clock, delay)
        return True

    async def _pursue(self, stack: ClusterStack) -> float:
        """Sources, builds, layers; seconds until the next full look."""
        asked = stack.annotations.get(RECONCILE_ANNOTATION) or stack.annotations.get(FLUX_RECONCILE) or ""
        self._stack = stack
        if stack.spec.suspend:
            await self._stop_layers(list(self._layers))
            self._handled = asked
            return 600.0
        if stack.spec.deletion_policy is DeletionPolicy.DELETE:
            await set_finalizer(self._context.cluster, stack.name, present=True)
        await self._keep_sources(stack)
        if asked != self._handled and self._started_at:
            self._context.fetcher.expire()
            await self._sources.look_again()
        layers = await self._declared(stack, self._snapshots())
        if not self._sources.known(self._tree.sources):
            await self._keep_sources(stack)
        snapshots = self._snapshots()
        if layers is None:
            return stack.spec.defaults.retry_interval.seconds
        tree = self._tree if stack.spec.flux is not None else TreeReader(self._context)
        contents = await self._builder.build(Plan(layers, snapshots, tree.shared, tree.broken, tree.warnings))
        self._reads.keep(self._builder.reads)
        await self._distribute(layers, contents)
        now = self._context.clock.now()
        if asked != self._handled or now - self._verified >= stack.spec.interval.seconds:
            self._verify()
            self._handled, self._verified = asked, now
        retry = any(
            (content.broken is not None and content.broken.retryable) or content.unknown_units
            for content in contents.values()
        )
        return stack.spec.defaults.retry_interval.seconds if retry else stack.spec.interval.seconds

    def _verify(self) -> None:
        """Have every object compared with what is wanted, whatever the watches said."""
        for running in self._layers.values():
            for unit in running.layer.units:
                unit.keeper.mark_all()

    async def _declared(self, stack: ClusterStack, snapshots: Mapping[str, Snapshot]) -> tuple[LayerSpec, ...] | None:
        """The effective layers in topological order; None, and `problems` say why, when there are none to run."""
        try:
            self._context.rules.declare([rule.as_input() for rule in stack.spec.defaults.health.expressions])
        except SpecError as error:
            self._problems = (Problem(error.reason, str(error)),)
            return None
        try:
            tree = await self._tree.layers(stack.spec, snapshots) if stack.spec.flux is not None else None
        except ClusterStackError as error:
            self._problems = (Problem(error.reason, str(error), "spec.flux"),)
            return None
        declared = stack.spec.layers if tree is None else tree
        known = stack.spec.model_copy(update={"sources": (*self._tree.sources, *stack.spec.sources)})
        self._problems = validate(known if tree is not None else stack.spec, tree)
        if self._problems:
            return None
        layers = {layer.name: effective_layer(stack.spec, layer) for layer in declared}
        self._graph = Graph.of(layers.values())
        return tuple(layers[name] for name in self._graph.topological())

    async def _keep_sources(self, stack: ClusterStack) -> None:
        """One keeper per source; the first pass waits until each has been looked at once."""
        extra = self._tree.sources if stack.spec.flux is not None else ()
        await self._sources.keep((*extra, *stack.spec.sources))
        self._started_at = self._started_at or self._context.clock.wall().timestamp()

    def _snapshots(self) -> dict[str, Snapshot]:
        found = self._sources.snapshots()
        self._revision = ", ".join(snapshot.revision for snapshot in found.values())
        return found

    async def _distribute(self, layers: tuple[LayerSpec, ...], contents: Mapping[str, Content]) -> None:
        """Hand every layer its content; layers that are no more are stopped, and the sweep sees to their objects."""
        self._contents = dict(contents)
        self._claim(contents)
        await self._stop_layers([name for name in self._layers if name not in contents])
        for spec in layers:
            if spec.name not in self._layers:
                self._layers[spec.name] = await self._start(spec.name)
        for name, running in self._layers.items():
            running.layer.expect(contents[name])
        for name, running in self._layers.items():
            running.layer.contents.put(contents[name])
        self._context.cluster.facts.publish(self._sweeper.key)

    def _claim(self, contents: Mapping[str, Content]) -> None:
        """Manifests claim their objects before any release renders; units that are no more claim nothing."""
        claims = self._context.claims
        units = [Holder(name, release.spec.id) for name, content in contents.items() for release in content.releases]
        claims.keep([*units, *(Holder(name, "") for name in contents)])
        for name, content in contents.items():
            if content.broken is None:
                claims.claim(Holder(name, ""), [item.ref for item in content.desired])
        self._context.publish_claims()

    async def _start(self, name: str) -> _Running:
        context = self._context
        if name not in self._ledgers:
            self._ledgers[name] = self._ledger(Inventory(name))
        publisher = LayerPublisher(
            context.cluster, context.clock, stack=context.stack, uid=self._uid, layer=name, announce=self._announce
        )
        await publisher.start()
        layer = Layer(
            context, name, ledger=self._ledgers[name], publisher=publisher, neighbours=self._facts, told=self._heard
        )
        tasks = (asyncio.create_task(publisher.run()), asyncio.create_task(layer.live()))
        return _Running(layer, publisher, tasks)

    def _ledger(self, inventory: Inventory) -> Ledger:
        wrote = partial(self._wrote, inventory.layer)
        return Ledger(self._store, self._context.clock, inventory, inherit=self._known, wrote=wrote)

    def _wrote(self, layer: str, action: str) -> None:
        tally, stack = self._context.tally, self._context.stack
        tally.changed(stack, layer, "created" if action == "created" else "configured")
        if action == "corrected":
            tally.drift_corrected(stack, layer)

    async def _stop_layers(self, names: list[str]) -> None:
        for name in names:
            await self._layers.pop(name).stop()
            self._facts.pop(name, None)
            if name not in self._contents:
                ref = ObjectRef(GROUP, "StackLayer", "", f"{self._context.stack}.{name}")
                await self._context.cluster.delete(API_VERSION, ref)

    def _heard(self, name: str) -> None:
        """A layer has something to say: its neighbours' facts follow at once, the stack's status and metrics soon."""
        running = self._layers.get(name)
        if running is not None:
            self._facts[name] = running.layer.facts
            if running.layer.applied != (name in self._applied):
                self._applied ^= {name}
                self._context.cluster.facts.publish(self._sweeper.key)
            self._publish()

    def _known(self, ref: ObjectRef, layer: str) -> Entry | None:
        """What another layer's inventory knows of an object that `layer` takes over."""
        others = (ledger.entry(ref) for name, ledger in self._ledgers.items() if name != layer)
        return next((entry for entry in others if entry is not None and entry.uid), None)

    def _publish(self) -> None:
        if self._stack is None and not self._problems:
            return
        if any(not running.layer.known for running in self._layers.values()) or self._resuming():
            return
        self._publisher.offer(self._status)

    def _status(self, previous: Mapping[str, Any], now: float) -> dict[str, Any]:
        """The status when it is about to be written: made at most once a second, however many layers have news."""
        view = self._view()
        self._observe(view)
        return self._publisher.view(view)(previous, now)

    def _resuming(self) -> bool:
        """A stack that was Ready before we started says nothing until its layers are there again, or time is up."""
        began = bool(self._layers) and all(running.layer.content is not None for running in self._layers.values())
        was_ready = self._publisher.status.get("phase") == Phase.READY
        telling = bool(self._problems or self._deleting) or (self._stack is not None and self._stack.spec.suspend)
        return was_ready and not began and not telling and self._context.clock.now() < self._quiet_until

    def _view(self) -> StackView:
        layers = tuple(
            layer_view(self._layers[name].layer, self._layers[name].layer.assess())
            for name in self._graph.topological()
            if name in self._layers and self._layers[name].layer.content is not None
        )
        now = self._context.clock.wall().timestamp()
        ready = bool(layers) and all(layer.phase is Phase.READY for layer in layers)
        self._ready_at = (self._ready_at or now) if ready else 0.0
        return StackView(
            generation=self._stack.generation if self._stack is not None else 0,
            layers=layers,
            graph=self._graph,
            revision=self._revision,
            sources=self._sources.views(),
            rules=self._context.rules.view,
            problems=self._problems,
            suspended=self._stack is not None and self._stack.spec.suspend,
            deleting=self._deleting,
            started_at=self._started_at,
            ready_at=self._ready_at,
            handled=self._handled,
        )

    async def _end(self, stack: ClusterStack) -> None:
        """The object is being deleted: orphan, or take everything down; then let it go.

        What is orphaned keeps its inventory: a stack of the same name that comes back finds its own again.
        """
        self._stack = stack
        await self._stop_layers(list(self._layers))
        if stack.spec.deletion_policy is DeletionPolicy.DELETE and not await crd_going(self._context.cluster):
            teardown = Teardown(self._context, self._ledgers, self._say, given_up=self._orphaning)
            left = await teardown.run(self._levels(stack))
            if left:
                LOG.warning("left behind", extra={"stack": self._context.stack, "objects": [str(ref) for ref in left]})
            for name in list(self._ledgers) if not self._orphaning() else ():
                await self._store.remove(name)
        await set_finalizer(self._context.cluster, self._context.stack, present=False)

    def _orphaning(self) -> bool:
        """Whether the policy has changed to Orphan since the teardown began."""
        newest = self.wanted.value
        return isinstance(newest, ClusterStack) and newest.spec.deletion_policy is DeletionPolicy.ORPHAN

    def _levels(self, stack: ClusterStack) -> tuple[tuple[str, ...], ...]:
        """The order of the teardown, reversed; a spec that has no order any more goes in one level."""
        graph = self._graph if stack.spec.flux is not None else Graph.of(stack.spec.layers)
        return graph.levels() if not graph.cycle() else (graph.names,)

    def _say(self, line: str) -> None:
        self._deleting = line
        self._publish()
