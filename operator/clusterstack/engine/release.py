"""A Helm release: from inputs to a record, from the record to `deployed`, and kept so.

The record is the render cache: the same inputs find their manifest in it, so nothing is rendered twice and random
values stay put. A failure is retried with a growing pause, for ever; what waits for something waits on its keys.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from dataclasses import replace

from clusterstack.core.gates import Blocker
from clusterstack.core.objects import Manifest, ObjectRef
from clusterstack.engine.charts import Blueprint, reissue, render
from clusterstack.engine.contents import ReleaseContent
from clusterstack.engine.context import Context
from clusterstack.engine.inputs import InputReader, Inputs, NotYet
from clusterstack.engine.judge import Judge
from clusterstack.engine.keeper import Keeper, Terms
from clusterstack.engine.ledger import Ledger
from clusterstack.engine.records import Records, Taken
from clusterstack.engine.rollout import Conflict, Rollout
from clusterstack.engine.unit import UnitState
from clusterstack.engine.wait import changed_or_later, unless_changed
from clusterstack.errors import ApiError, ClusterStackError, LookupFailed
from clusterstack.helm.record import APPLY, Head, Release, Status, deployed, latest, next_revision
from clusterstack.kube.resource import SECRET
from clusterstack.sources.fetcher import ResolvedChart
from clusterstack.telemetry.logs import logger

LOG = logger(__name__)
LONGEST_PAUSE = 900.0
LOOKUP_PAUSE = 30.0
FULL_CHECK = 600.0
TAKEN_PAUSE = 1.0
BUSY_PAUSE, BUSY_PATIENCE = 5.0, 120.0


class ReleaseUnit:
    """One release of a layer. `awaited`: the layer is Ready only once it is; else only whoever names it waits for it,
    as with Flux for a HelmRelease of a Kustomization without `wait`."""

    def __init__(
        self,
        context: Context,
        content: ReleaseContent,
        *,
        terms: Terms,
        ledger: Ledger,
        judge: Judge,
        awaited: bool = True,
        changed: Callable[[], None],
    ) -> None:
        self.content, self.spec, self.awaited = content, content.spec, awaited
        self.name = content.spec.id
        self._context, self._changed, self._terms = context, changed, terms
        self.keeper = Keeper(context, terms=terms, ledger=ledger, judge=judge, changed=self._objects_changed)
        self._records = Records(
            context.cluster, name=self.spec.release_name, namespace=self.spec.storage_namespace, account=terms.account
        )
        self._inputs = InputReader(context, self.spec, account=terms.account)
        self._rollout = Rollout(
            context,
            self.spec,
            terms=terms,
            ledger=ledger,
            keeper=self.keeper,
            records=self._records,
            hold=self._hold,
        )
        self._pending: Blocker | None = Blocker(reason="Pending", message=f"release {self.name} to start")
        self._broken = False
        self._revision = 0
        self._attempts = 0
        self._busy_since = 0.0
        self._answered = 0
        self._looked_back = False
        self._carried_out: Head | None = None

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a person should know, though nothing is wrong with the release itself."""
        return self._rollout.warnings

    def state(self) -> UnitState:
        board = self.keeper.board
        return UnitState(
            self.name,
            board.total + 1,
            board.total - len(board.blockers) + (self._pending is None),
            len(board.failures) + self._broken,
            (self._rollout.applied or self.spec.suspend) and not board.unapplied,
            self._pending,
            self._broken,
            self._revision,
        )

    async def run(self) -> None:
        """Install or upgrade, then keep it, until cancelled."""
        if self.spec.suspend:
            self._pending = None
            self._objects_changed()
            return
        secrets = self._context.cluster.watch_children(
            SECRET, self.spec.storage_namespace, f"owner=helm,name={self.spec.release_name}"
        )
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self.keeper.run())
                while True:
                    await self._pass(secrets.key)
        finally:
            secrets.release()
            self._inputs.close()
            self._context.set_release(self.name, ready=False)

    async def _pass(self, records_key: Hashable) -> None:
        """One way from inputs to `deployed`, then wait until something asks for another."""
        facts, clock = self._context.cluster.facts, self._context.clock
        since = facts.now
        values = self._inputs.keys()
        keys: list[Hashable] = [records_key, *values, self._context.claim_key(self.name)]
        pause = FULL_CHECK
        try:
            if not await unless_changed(facts, values, since, self._converge()):
                return
            self._attempts = 0
            if self._rollout.warnings:
                keys.append(self._context.claim_key())
        except NotYet as wait:
            self._hold(wait.blocker, broken=False)
            keys, pause = [*wait.keys, *keys], wait.pause
            await self._keep_last()
        except LookupFailed as error:
            self._hold(Blocker(ref=self.spec.origin, reason=error.reason, message=str(error)), broken=False)
            keys, pause = [*self._inputs.lookup_keys(error), *values], LOOKUP_PAUSE
            await self._keep_last()
        except Taken:
            keys, pause = [], TAKEN_PAUSE
        except (ClusterStackError, ValueError) as error:
            pause = self._failed(error)
            keys = [*values, self._context.claim_key()] if isinstance(error, Conflict) else values
            await self._keep_last()
        await changed_or_later(facts, keys, since, clock, pause)

    async def _converge(self) -> None:
        chart = self._chart()
        self._await_dependencies()
        inputs = await self._inputs.read(chart)
        heads = await self._records.heads()
        self._await_others(latest(heads))
        if not self._is_carried_out(latest(heads), inputs):
            await self._carry_out(heads, inputs)
        self._pending, self._broken = None, False
        self._objects_changed()

    def _is_carried_out(self, newest: Head | None, inputs: Inputs) -> bool:
        """Whether the newest record is the one whose objects are kept: the record's own last write, mostly."""
        if newest is None or self._carried_out is None or newest.input_digest != inputs.digest:
            return False
        same = replace(newest, progress="") == self._carried_out
        return same and self._rollout.undisputed

    async def _carry_out(self, heads: list[Head], inputs: Inputs) -> None:
        self._carried_out = None
        upgrade = any(head.status is Status.DEPLOYED for head in heads)
        release, crds = await self._current(heads, inputs)
        if release is None:
            release, crds = await self._next(heads, inputs, upgrade=upgrade)
        else:
            upgrade = release.status is Status.PENDING_UPGRADE or (release.status is Status.FAILED and upgrade)
        self._revision = release.revision
        await self._rollout.run(release, crds, upgrade=upgrade)
        if release.status is Status.DEPLOYED and sum(head.status is Status.DEPLOYED for head in heads) > 1:
            await self._records.supersede(release.revision, self.spec.max_history)  # a crash came before that
        self._carried_out = Head(self.spec.release_name, release.revision, Status.DEPLOYED, inputs.digest)

    def _chart(self) -> ResolvedChart:
        problem, chart = self.content.problem, self.content.chart
        if problem is not None or chart is None:
            message, reason = (problem.message, problem.reason) if problem else ("no chart", "ChartNotFound")
            raise ClusterStackError(message, reason=reason)
        return chart

    def _await_dependencies(self) -> None:
        waiting = [other for other in self.spec.depends_on if not self._context.releases.get(other)]
        if waiting:
            message = f"waiting for release {waiting[0]}"
            blocker = Blocker(ref=self.spec.origin, reason="DependencyNotReady", message=message)
            raise NotYet(blocker, [self._context.release_key(other) for other in waiting])

    def _await_others(self, newest: Head | None) -> None:
        """Leave somebody who is at work on the release by hand alone, for a while: they may have gone away."""
        leaving = newest is not None and newest.status is Status.UNINSTALLING
        busy = leaving or (newest is not None and newest.status.pending and not newest.input_digest)
        now = self._context.clock.now()
        self._busy_since = (self._busy_since or now) if busy else 0.0
        if newest is None or not busy or now - self._busy_since > BUSY_PATIENCE:
            return
        if leaving:
            self._rollout.let_go()
        message = f"revision {newest.revision} is {newest.status}: somebody else is at work on the release"
        raise NotYet(Blocker(ref=self.spec.origin, reason="ReleaseBusy", message=message), [], BUSY_PAUSE)

    async def _current(self, heads: list[Head], inputs: Inputs) -> tuple[Release | None, tuple[Manifest, ...]]:
        """The newest record, if it was made of these inputs; one whose hooks or writes failed is made anew.

        One that has only timed out while its objects came up is still on its way.
        """
        newest = latest(heads)
        if newest is None or newest.input_digest != inputs.digest:
            return None, ()
        late = newest.status is Status.FAILED and newest.progress == APPLY
        if newest.status is not Status.DEPLOYED and not newest.status.pending and not late:
            return None, ()
        release = await self._records.read(newest.revision)
        return release, await self._crds(release, inputs)

    async def _crds(self, release: Release | None, inputs: Inputs) -> tuple[Manifest, ...]:
        """The chart's `crds/`, which the record does not hold."""
        if release is None or not self._rollout.wants_crds(upgrade=release.revision > 1):
            return ()
        path = await self._context.fetcher.fetch_chart(inputs.chart)
        return await self._context.renderers.crds(path, values=inputs.values)

    async def _next(self, heads: list[Head], inputs: Inputs, *, upgrade: bool) -> tuple[Release, tuple[Manifest, ...]]:
        """A new revision: rendered, or what was deployed before somebody made one by hand."""
        self._hold(Blocker(ref=self.spec.origin, reason="Rendering", message="rendering"), broken=False)
        release = await self._answer(heads, inputs)
        if release is not None:
            crds = await self._crds(release, inputs)
        else:
            blueprint = Blueprint(
                spec=self.spec,
                chart=inputs.chart,
                values=inputs.values,
                revision=next_revision(heads),
                upgrade=upgrade,
                digest=inputs.digest,
            )
            rendered = await render(self._context, blueprint, account=self._terms.account)
            release = rendered.release
            crds = rendered.crds if self._rollout.wants_crds(upgrade=release.revision > 1) else ()
        if upgrade:
            await self._keep_last()
        await self._create(release)
        if self.spec.max_history and len(heads) >= self.spec.max_history:
            await self._records.trim(await self._records.heads(), self.spec.max_history)
        return release, crds

    async def _answer(self, heads: list[Head], inputs: Inputs) -> Release | None:
        """The revision that answers one made by hand: what we had, not rendered anew, so that random values stay."""
        newest = latest(heads)
        if newest is None or newest.input_digest or newest.status not in (Status.DEPLOYED, Status.FAILED):
            return None
        ours = latest(head for head in heads if head.input_digest == inputs.digest and head.status in _CARRIED_OUT)
        if any(head.input_digest for head in heads) and self._answered != newest.revision:
            self._answered = newest.revision
            message = f"revision {newest.revision} of release {self.name} was made by hand and is replaced"
            self._context.tell(self.spec.layer, "ReleaseChangedByHand", message)
        release = await self._records.read(ours.revision) if ours is not None else None
        return None if release is None else reissue(self._context, release, next_revision(heads))

    async def _create(self, release: Release) -> None:
        try:
            await self._records.create(release)
        except ApiError as error:
            if error.status != 404 or "namespaces" not in str(error):
                raise
            if not self.spec.create_namespace or self.spec.storage_namespace != self.spec.namespace:
                raise self._no_namespace() from error
            await self._rollout.make_namespace()
            await self._records.create(release)

    def _no_namespace(self) -> NotYet:
        ref = ObjectRef("", "Namespace", "", self.spec.storage_namespace)
        blocker = Blocker(ref=ref, reason="NamespaceMissing", message="does not exist yet")
        return NotYet(blocker, [self._inputs.observe(ref)])

    async def _keep_last(self) -> None:
        """Until there is something newer, keep what is deployed."""
        if self._looked_back:
            return
        self._looked_back = True
        try:
            last = deployed(await self._records.heads())
            release = await self._records.read(last.revision) if last is not None and last.input_digest else None
            if release is not None:
                self._rollout.keep_last(release)
        except ClusterStackError as error:
            LOG.warning("the deployed revision cannot be read", extra={"release": self.name, "error": str(error)})

    def _objects_changed(self) -> None:
        self._rollout.changed.set()
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


_CARRIED_OUT = frozenset({Status.DEPLOYED, Status.SUPERSEDED})
