"""A Helm release: inputs, record, hooks and objects, from a chart to `deployed` and kept so.

The record is the render cache: the same inputs find their manifest in it, so nothing is rendered twice and random
values stay put. A failure is retried with a growing pause, for ever; what waits for something waits on its keys.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

from clusterstack.core.content import Desired, Mode
from clusterstack.core.gates import Blocker
from clusterstack.core.objects import GroupKind, Manifest, ObjectRef, group_of
from clusterstack.core.ownership import HELM_MANAGER, MANAGER
from clusterstack.core.scope import place, scopes_of
from clusterstack.core.yaml import load_all
from clusterstack.engine.charts import Blueprint, render
from clusterstack.engine.contents import ReleaseContent
from clusterstack.engine.context import Context
from clusterstack.engine.hooks import HookRunner
from clusterstack.engine.judge import Judge
from clusterstack.engine.keeper import Keeper, Terms
from clusterstack.engine.ledger import Ledger
from clusterstack.engine.records import Records, Taken
from clusterstack.engine.unit import UnitState
from clusterstack.engine.wait import changed_or_later, first_of, uncancelled, unless_changed
from clusterstack.errors import ApiError, ClusterStackError, LookupFailed, TransportError
from clusterstack.helm import hooks as hook_events
from clusterstack.helm.digest import input_digest
from clusterstack.helm.ownership import stamp
from clusterstack.helm.record import Head, Release, Status, deployed, latest, next_revision, with_status
from clusterstack.helm.spec import CrdsPolicy
from clusterstack.helm.values import Composed, Invalid, Missing, compose, data_of, sources
from clusterstack.kube.facts import kind_key, object_key
from clusterstack.kube.observer import Watch
from clusterstack.kube.resource import NAMESPACE, SECRET
from clusterstack.sources.fetcher import ResolvedChart

LONGEST_PAUSE = 900.0
LOOKUP_PAUSE = 30.0
FULL_CHECK = 600.0


class NotYet(Exception):  # noqa: N818 - reads as what happened
    """The release waits: on these keys, and at most for `pause` seconds."""

    def __init__(self, blocker: Blocker, keys: Sequence[Hashable], pause: float = 30.0) -> None:
        super().__init__(blocker.message)
        self.blocker, self.keys, self.pause = blocker, tuple(keys), pause


@dataclass(frozen=True, slots=True)
class Inputs:
    """Everything that a rendering depends on, and its digest."""

    values: Manifest
    digest: str


class ReleaseUnit:
    """One release of a layer."""

    def __init__(
        self,
        context: Context,
        content: ReleaseContent,
        *,
        terms: Terms,
        ledger: Ledger,
        judge: Judge,
        changed: Callable[[], None],
    ) -> None:
        self.content, self.spec = content, content.spec
        self.name = content.spec.id
        self._context, self._ledger, self._changed = context, ledger, changed
        self._terms = terms
        self.keeper = Keeper(
            context.cluster, context.clock, terms=terms, ledger=ledger, judge=judge, changed=self._objects_changed
        )
        self._records = Records(
            context.cluster, name=self.spec.release_name, namespace=self.spec.storage_namespace, account=terms.account
        )
        self._pending: Blocker | None = Blocker(reason="Pending", message=f"release {self.name} has not started")
        self._broken = False
        self._revision = 0
        self._attempts = 0
        self._rendered = False
        self._settled = asyncio.Event()
        self._watches: dict[ObjectRef, Watch] = {}

    def state(self) -> UnitState:
        board = self.keeper.board
        return UnitState(
            self.name,
            board.total + 1,
            board.total - len(board.blockers) + (self._pending is None),
            len(board.failures) + self._broken,
            self._rendered and not board.unapplied,
            self._pending,
            self._broken,
            self._revision,
        )

    async def run(self) -> None:
        """Install or upgrade, then keep it, until cancelled."""
        secrets = self._context.cluster.watch_children(
            SECRET, self.spec.storage_namespace, f"owner=helm,name={self.spec.release_name}"
        )
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self.keeper.run())
                while True:
                    await self._pass(secrets.key)
        finally:
            for watch in (secrets, *self._watches.values()):
                watch.release()
            self._context.set_release(self.name, ready=False)

    async def _pass(self, records_key: Hashable) -> None:
        """One way from inputs to `deployed`, then wait until something asks for another."""
        facts, clock = self._context.cluster.facts, self._context.clock
        since = facts.now
        values = self._value_keys()
        keys: list[Hashable] = [records_key, *values]
        pause = FULL_CHECK
        try:
            if not await unless_changed(facts, values, since, self._converge()):
                return
            self._attempts = 0
        except NotYet as wait:
            self._hold(wait.blocker, broken=False)
            keys, pause = [*wait.keys, *values], wait.pause
        except LookupFailed as error:
            self._hold(Blocker(ref=self.spec.origin, reason=error.reason, message=str(error)), broken=False)
            keys, pause = [*self._lookup_keys(error), *values], LOOKUP_PAUSE
        except Taken:
            return
        except (ClusterStackError, ValueError) as error:
            keys, pause = values, self._failed(error)
        await changed_or_later(facts, keys, since, clock, pause)

    async def _converge(self) -> None:
        if self.content.problem is not None or self.content.chart is None:
            problem = self.content.problem
            raise ClusterStackError(
                problem.message if problem else "no chart", reason=problem.reason if problem else "ChartNotFound"
            )
        self._await_dependencies()
        inputs = await self._inputs()
        heads = await self._records.heads()
        release = await self._current(heads, inputs)
        if release is None:
            release, crds = await self._render(heads, inputs, self.content.chart)
        else:
            crds = await self._crds(inputs, self.content.chart) if self._wants_crds(release) else ()
        self._revision = release.revision
        await self._carry_out(release, crds)

    def _await_dependencies(self) -> None:
        waiting = [other for other in self.spec.depends_on if not self._context.releases.get(other)]
        if waiting:
            message = f"waiting for release {waiting[0]}"
            blocker = Blocker(ref=self.spec.origin, reason="DependencyNotReady", message=message)
            raise NotYet(blocker, [self._context.release_key(other) for other in waiting])

    async def _inputs(self) -> Inputs:
        """Values, composed of what the ConfigMaps and Secrets hold now."""
        cluster, account = self._context.cluster, self._terms.account
        reader = {}
        for kind, namespace, name in sources(self.spec):
            found = await cluster.get("v1", kind, namespace, name, account=account)
            reader[kind, namespace, name] = None if found is None else data_of(found)
        match compose(self.spec, reader):
            case Composed(values):
                assert self.content.chart is not None
                chart = self.content.chart.digest
                key = self._context.installation.key
                return Inputs(values, input_digest(self.spec, chart_digest=chart, values=values, key=key))
            case Missing(kind, namespace, name, _, message):
                ref = ObjectRef("", kind, namespace, name)
                raise NotYet(Blocker(ref=ref, reason="ValuesMissing", message=message), [object_key(ref)])
            case Invalid() as invalid:
                raise ClusterStackError(invalid.message, reason="ValuesInvalid")

    async def _current(self, heads: list[Head], inputs: Inputs) -> Release | None:
        """The newest record, if it was made of these inputs; a failed one is rendered anew as the next revision."""
        newest = latest(heads)
        if newest is None or newest.input_digest != inputs.digest:
            return None
        if newest.status is not Status.DEPLOYED and not newest.status.pending:
            return None
        return await self._records.read(newest.revision)

    async def _render(
        self, heads: list[Head], inputs: Inputs, chart: ResolvedChart
    ) -> tuple[Release, tuple[Manifest, ...]]:
        self._hold(Blocker(ref=self.spec.origin, reason="Rendering", message="rendering"), broken=False)
        upgrade = deployed(heads) is not None
        blueprint = Blueprint(
            spec=self.spec,
            chart=chart,
            values=inputs.values,
            revision=next_revision(heads),
            upgrade=upgrade,
            digest=inputs.digest,
        )
        rendered = await render(self._context, blueprint, account=self._terms.account)
        await self._create(rendered.release)
        return rendered.release, rendered.crds if self._wants_crds(rendered.release) else ()

    async def _create(self, release: Release) -> None:
        try:
            await self._records.create(release)
        except ApiError as error:
            if error.status == 404 and "namespaces" in str(error):
                if self.spec.create_namespace:
                    await self._make_namespace()
                    return await self._records.create(release)
                raise self._no_namespace() from error
            raise

    def _no_namespace(self) -> NotYet:
        ref = ObjectRef("", "Namespace", "", self.spec.storage_namespace)
        return NotYet(Blocker(ref=ref, reason="NamespaceMissing", message="does not exist yet"), [self._observe(ref)])

    async def _make_namespace(self) -> None:
        manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.spec.namespace}}
        desired = self._desire(manifest, manager=MANAGER)
        await self._ledger.announce(self.name, [desired])
        await self._context.cluster.apply(desired.manifest, NAMESPACE, manager=MANAGER, account=self._terms.account)

    def _wants_crds(self, release: Release) -> bool:
        return self._crds_policy(release) is not CrdsPolicy.SKIP

    def _crds_policy(self, release: Release) -> CrdsPolicy:
        """Revision 1 installs; afterwards the upgrade's policy holds, but what an install brought is kept present."""
        if release.revision == 1:
            return self.spec.install.crds
        policy = self.spec.upgrade.crds
        return (
            CrdsPolicy.CREATE if policy is CrdsPolicy.SKIP and self.spec.install.crds is not CrdsPolicy.SKIP else policy
        )

    async def _crds(self, inputs: Inputs, chart: ResolvedChart) -> tuple[Manifest, ...]:
        """The chart's `crds/`, which the record does not hold."""
        path = await self._context.fetcher.fetch_chart(chart)
        return await self._context.renderers.crds(path, values=inputs.values)

    async def _carry_out(self, release: Release, crds: tuple[Manifest, ...]) -> None:
        """Hooks, objects, hooks, `deployed`; a record that is deployed already only has its objects kept."""
        done = release.status is Status.DEPLOYED
        desired = self._objects(release, crds)
        await self._ledger.announce(self.name, desired)
        action = self.spec.install if release.revision == 1 else self.spec.upgrade
        events = hook_events.UPGRADE if release.status is Status.PENDING_UPGRADE else hook_events.INSTALL
        runner = HookRunner(
            self._context,
            namespace=self.spec.namespace,
            timeout=action.timeout,
            save=self._records.update,
            waiting=lambda reason, message: self._hold(
                Blocker(ref=self.spec.origin, reason=reason or "Hook", message=message), broken=False
            ),
        )
        try:
            if not done and not action.disable_hooks and release.progress != events[1]:
                release = await uncancelled(self._run_hooks(runner, release, events[0], desired))
            self._rendered = True
            self.keeper.want(desired)
            if not done:
                await self._objects_ready(release, action.timeout, wait=not action.disable_wait)
                if not action.disable_hooks:
                    release = await uncancelled(runner.run(release, events[1]))
                await self._deployed(release)
        except ClusterStackError as error:
            if not done and not isinstance(error, TransportError):
                await self._records.update(with_status(release, Status.FAILED, str(error)[:200], at=self._now()))
            raise
        self._pending, self._broken = None, False
        self._objects_changed()

    async def _run_hooks(self, runner: HookRunner, release: Release, event: str, desired: Sequence[Desired]) -> Release:
        """Pre-hooks come after the chart's CRDs, as with Helm."""
        if crds := [
            item for item in desired if item.ref.kind == "CustomResourceDefinition" and item.manager == MANAGER
        ]:
            self.keeper.want(crds)
        return await runner.run(release, event)

    async def _objects_ready(self, release: Release, timeout: float, *, wait: bool) -> None:
        """Wait for the objects; past the time-out the record says failed, and the waiting goes on."""
        clock = self._context.clock
        late = asyncio.Event()
        timer = clock.later(timeout, late.set)
        said = False
        try:
            while not self._ready(wait=wait):
                blocker = next(iter(self.keeper.board.worst(1)), None)
                self._hold(blocker or Blocker(ref=self.spec.origin, reason="Applying"), broken=False)
                self._settled.clear()
                if late.is_set() and not said:
                    said = True
                    text = f"timed out waiting for {blocker}"
                    await self._records.update(with_status(release, Status.FAILED, text[:200], at=self._now()))
                await first_of(self._settled.wait(), *([] if said else [late.wait()]))
        finally:
            timer.cancel()

    def _ready(self, *, wait: bool) -> bool:
        board = self.keeper.board
        return not board.unapplied and (board.healthy or not wait)

    async def _deployed(self, release: Release) -> None:
        heads = await self._records.heads()
        text = "Install complete" if release.revision == 1 else "Upgrade complete"
        await self._records.update(with_status(release, Status.DEPLOYED, text, at=self._now()))
        await self._records.supersede(heads, release.revision, self.spec.max_history)

    def _objects(self, release: Release, crds: Sequence[Manifest]) -> list[Desired]:
        manifests = load_all(release.manifest, source=f"release {self.name}")
        scopes = {**scopes_of(manifests), **scopes_of(crds)}
        self._context.scopes.update(scopes)
        kept = [self._desire(crd, manager=MANAGER, mode=self._crd_mode(release)) for crd in crds]
        return kept + [self._desire(self._owned(manifest), manager=HELM_MANAGER) for manifest in manifests]

    def _crd_mode(self, release: Release) -> Mode:
        return Mode.APPLY if self._crds_policy(release) is CrdsPolicy.CREATE_REPLACE else Mode.IF_NOT_PRESENT

    def _owned(self, manifest: Manifest) -> Manifest:
        return stamp(manifest, release_name=self.spec.release_name, release_namespace=self.spec.namespace)

    def _desire(self, manifest: Manifest, *, manager: str, mode: Mode = Mode.APPLY) -> Desired:
        kind = GroupKind(group_of(manifest["apiVersion"]), manifest["kind"])
        ref, placed = place(manifest, namespaced=self._context.namespaced(kind), default=self.spec.namespace)
        stamped, want = self._context.stamp(placed, ref, self.spec.layer)
        return Desired(ref, stamped, want, mode, manager)

    def _objects_changed(self) -> None:
        self._settled.set()
        ready = self._pending is None and self.keeper.board.healthy and not self.keeper.board.unapplied
        self._context.set_release(self.name, ready=ready)
        self._changed()

    def _hold(self, blocker: Blocker, *, broken: bool) -> None:
        if (self._pending, self._broken) != (blocker, broken):
            self._pending, self._broken = blocker, broken
            self._context.set_release(self.name, ready=False)
            self._changed()

    def _failed(self, error: Exception) -> float:
        """Note a failure; how long to pause before the next try."""
        self._attempts += 1
        reason = error.reason if isinstance(error, ClusterStackError) else type(error).__name__
        message = f"{error} (attempt {self._attempts})"
        self._hold(Blocker(ref=self.spec.origin, reason=reason, message=message), broken=True)
        return min(LONGEST_PAUSE, self._terms.retry_interval * float(2 ** min(self._attempts - 1, 8)))

    def _value_keys(self) -> list[Hashable]:
        return [self._observe(ObjectRef("", kind, namespace, name)) for kind, namespace, name in sources(self.spec)]

    def _lookup_keys(self, error: LookupFailed) -> list[Hashable]:
        keys: list[Hashable] = []
        for api_version, kind, namespace, name in error.keys:
            ref = ObjectRef(group_of(api_version), kind, namespace, name)
            keys.append(kind_key(ref.group_kind))
            if name:
                keys.append(self._observe(ref))
        return keys

    def _observe(self, ref: ObjectRef) -> Hashable:
        """Watch one object for as long as the release lives; the key on which its changes are published."""
        resource = self._context.cluster.preferred(ref.group_kind)
        if ref not in self._watches and resource is not None:
            self._watches[ref] = self._context.cluster.watch_object(resource, ref.namespace, ref.name)
        return object_key(ref)

    def _now(self) -> str:
        return self._context.clock.wall().strftime("%Y-%m-%dT%H:%M:%S.%fZ")
