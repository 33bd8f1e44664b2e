"""Carries out one revision of a release: hooks, objects, hooks, `deployed`; the record says at every moment how far."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from clusterstack.core.content import Desired, Mode
from clusterstack.core.gates import Blocker
from clusterstack.core.objects import GroupKind, Manifest, ObjectRef, group_of
from clusterstack.core.ownership import HELM_MANAGER, MANAGER
from clusterstack.core.scope import place
from clusterstack.core.timeline import elapsed, micro_time
from clusterstack.core.yaml import load_all
from clusterstack.engine.claims import Holder
from clusterstack.engine.context import Context
from clusterstack.engine.hooks import HookRunner
from clusterstack.engine.keeper import Keeper, Terms
from clusterstack.engine.ledger import Ledger
from clusterstack.engine.records import Records
from clusterstack.engine.wait import first_of, uncancelled
from clusterstack.errors import ApiError, ClusterStackError, TransportError
from clusterstack.helm import hooks as hook_events
from clusterstack.helm.ownership import stamp
from clusterstack.helm.record import APPLY, Release, Status, begin, with_status
from clusterstack.helm.spec import ActionSpec, CrdsPolicy, ReleaseSpec
from clusterstack.kube.resource import NAMESPACE


class Hold(Protocol):
    """Says what the release waits for, or (`broken`) what it failed on."""

    def __call__(self, blocker: Blocker, *, broken: bool) -> None: ...


class Rollout:
    """One release's way to carry out revisions. `applied`: its newest revision's objects are what is kept."""

    def __init__(
        self,
        context: Context,
        spec: ReleaseSpec,
        *,
        terms: Terms,
        ledger: Ledger,
        keeper: Keeper,
        records: Records,
        hold: Hold,
    ) -> None:
        self.applied = False
        self.warnings: tuple[str, ...] = ()
        self.changed = asyncio.Event()  # set by the unit whenever an object's state changed
        self._context, self._spec, self._terms = context, spec, terms
        self._ledger, self._keeper, self._records, self._hold = ledger, keeper, records, hold
        self._kept: tuple[Desired, ...] = ()

    async def run(self, release: Release, crds: Sequence[Manifest], *, upgrade: bool) -> None:
        """Bring a revision to `deployed`; of one that is deployed already, only keep the objects."""
        done = release.status is Status.DEPLOYED
        desired = self._unclaimed(self._objects(release, crds), deployed=done)
        await self._ledger.announce(self._spec.id, desired)
        if done:
            self._keep(desired)
            return
        action = self._spec.upgrade if upgrade else self._spec.install
        runner = self._runner(action, release)
        try:
            await self._perform(runner, desired, action, upgrade=upgrade)
        except TransportError:
            raise
        except ClusterStackError as error:
            if isinstance(error, ApiError) and error.retryable:
                raise  # a busy API server says nothing about the revision: it goes on where its record is
            failed = with_status(runner.release, Status.FAILED, str(error)[:200], at=self._now())
            await self._records.update(failed)
            raise

    async def _perform(
        self, runner: HookRunner, desired: Sequence[Desired], action: ActionSpec, *, upgrade: bool
    ) -> None:
        before, after = hook_events.UPGRADE if upgrade else hook_events.INSTALL
        stop = self._context.stopping
        hooks = not action.disable_hooks
        if hooks and runner.release.progress not in (APPLY, after) and runner.has(before):
            await self._prepare(desired, action.timeout)
            await uncancelled(runner.run(before), stop)
        self._keep(desired)
        await self._objects_ready(runner, action)
        if hooks:
            await uncancelled(runner.run(after), stop)
        await self._deployed(runner.release, upgrade=upgrade)

    def keep_last(self, release: Release) -> None:
        """Keep the objects of the revision that is deployed while a newer one cannot be rendered or has to wait."""
        if not self._kept:
            holder, owners = Holder(self._spec.layer, self._spec.id), self._context.claims.holders
            mine = [item for item in self._objects(release, ()) if owners.get(item.ref, holder) == holder]
            self._kept = tuple(item for item in mine if self._ledger.entry(item.ref) is not None)
            self._keeper.want(self._kept)

    @property
    def undisputed(self) -> bool:
        """Whether the newest revision is kept in full, and nobody else wants, or has taken, an object of it."""
        holder, owners = Holder(self._spec.layer, self._spec.id), self._context.claims.holders
        mine = (owners.get(item.ref) == holder for item in self._kept)
        return self.applied and not self.warnings and all(mine)

    def let_go(self) -> None:
        """Keep nothing: somebody else takes the release away."""
        self.applied, self._kept = False, ()
        self._keeper.want(())

    def wants_crds(self, *, upgrade: bool) -> bool:
        """Whether the chart's `crds/` are applied."""
        return self._crds_policy(upgrade=upgrade) is not CrdsPolicy.SKIP

    async def make_namespace(self) -> None:
        """Make the release's namespace before its first record is written there."""
        desired = self._namespace()
        await self._ledger.announce(self._spec.id, [desired])
        created, live = await self._context.cluster.apply(
            desired.manifest, NAMESPACE, manager=MANAGER, account=self._terms.account
        )
        self._ledger.record(desired.ref, desired, live, created=created)

    def _keep(self, desired: Sequence[Desired]) -> None:
        self._kept, self.applied = tuple(desired), True
        self._keeper.want(desired)

    def _runner(self, action: ActionSpec, release: Release) -> HookRunner:
        return HookRunner(
            self._context,
            release,
            namespace=self._spec.namespace,
            timeout=action.timeout,
            save=self._records.update,
            waiting=self._hook_waits,
        )

    def _hook_waits(self, reason: str, message: str) -> None:
        self._hold(Blocker(ref=self._spec.origin, reason=reason or "Hook", message=message), broken=False)

    async def _prepare(self, desired: Sequence[Desired], timeout: float) -> None:
        """Hooks run once the namespace and the chart's `crds/` are there, as with Helm."""
        first = [item for item in desired if item.manager == MANAGER]
        if not first:
            return
        refs = {item.ref for item in first}
        self._keeper.want([*(item for item in self._kept if item.ref not in refs), *first])
        board = self._keeper.board
        if not await self._until(lambda: not refs & (board.unapplied | board.blockers.keys()), timeout):
            raise ClusterStackError(f"timed out waiting for {next(board.worst(1))}", reason="TimedOut")

    async def _objects_ready(self, runner: HookRunner, action: ActionSpec) -> None:
        """Wait for the objects; past the time-out the record and the layer say so, and the waiting goes on."""
        if await self._until(lambda: self._ready(action), action.timeout):
            return
        text = (
            f"timed out after {elapsed(action.timeout)} waiting for {next(self._keeper.board.worst(1), 'its objects')}"
        )
        self._hold(Blocker(ref=self._spec.origin, reason="TimedOut", message=text), broken=True)
        if runner.release.status is not Status.FAILED:
            runner.release = with_status(begin(runner.release, APPLY), Status.FAILED, text[:200], at=self._now())
            await self._records.update(runner.release)
        await self._until(lambda: self._ready(action), None)

    async def _until(self, holds: Callable[[], bool], timeout: float | None) -> bool:
        """Wait until something holds of the objects; False when `timeout` seconds have passed before."""
        late = asyncio.Event()
        timer = self._context.clock.later(timeout, late.set) if timeout is not None else None
        try:
            while not holds():
                if late.is_set():
                    return False
                if timer is not None:
                    blocker = next(self._keeper.board.worst(1), None)
                    self._hold(blocker or Blocker(ref=self._spec.origin, reason="Applying"), broken=False)
                self.changed.clear()
                await first_of(self.changed.wait(), late.wait())
            return True
        finally:
            if timer is not None:
                timer.cancel()

    def _ready(self, action: ActionSpec) -> bool:
        board = self._keeper.board
        return not board.unapplied and (board.healthy or action.disable_wait)

    async def _deployed(self, release: Release, *, upgrade: bool) -> None:
        text = "Upgrade complete" if upgrade else "Install complete"
        await self._records.update(with_status(release, Status.DEPLOYED, text, at=self._now()))
        await self._records.supersede(release.revision, self._spec.max_history)

    def _objects(self, release: Release, crds: Sequence[Manifest]) -> list[Desired]:
        """What a revision wants: the namespace it asks for, the chart's `crds/`, and its manifest."""
        manifests = load_all(release.manifest, source=f"release {self._spec.id}")
        self._context.learn(self._spec.layer, (*manifests, *crds))
        upgrade = release.revision > 1
        action = self._spec.upgrade if upgrade else self._spec.install
        mode = Mode.APPLY if self._crds_policy(upgrade=upgrade) is CrdsPolicy.CREATE_REPLACE else Mode.IF_NOT_PRESENT
        first = [self._desire(crd, manager=MANAGER, mode=mode) for crd in crds]
        if self._spec.create_namespace:
            first.append(self._namespace())
        owned = (
            stamp(manifest, release_name=self._spec.release_name, release_namespace=self._spec.namespace)
            for manifest in manifests
        )
        awaited = not action.disable_wait
        return first + [self._desire(manifest, manager=HELM_MANAGER, awaited=awaited) for manifest in owned]

    def _crds_policy(self, *, upgrade: bool) -> CrdsPolicy:
        """Revision 1 installs; afterwards the upgrade's policy holds, but what an install brought is kept present."""
        if not upgrade:
            return self._spec.install.crds
        policy, first = self._spec.upgrade.crds, self._spec.install.crds
        return CrdsPolicy.CREATE if policy is CrdsPolicy.SKIP and first is not CrdsPolicy.SKIP else policy

    def _namespace(self) -> Desired:
        manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self._spec.namespace}}
        return self._desire(manifest, manager=MANAGER, mode=Mode.IF_NOT_PRESENT)

    def _desire(self, manifest: Manifest, *, manager: str, mode: Mode = Mode.APPLY, awaited: bool = True) -> Desired:
        kind = GroupKind(group_of(manifest["apiVersion"]), manifest["kind"])
        ref, placed = place(manifest, namespaced=self._context.namespaced(kind), default=self._spec.namespace)
        stamped, want = self._context.stamp(placed, ref, self._spec.layer)
        return Desired.of(ref, stamped, want, mode=mode, manager=manager, awaited=awaited)

    def _unclaimed(self, desired: list[Desired], *, deployed: bool) -> list[Desired]:
        """What no other unit has. Another release's object is left to it, with a warning; a layer's own manifest that a
        release renders too is a conflict, which only a person can solve. What has only to be there may be anybody's."""
        holder = Holder(self._spec.layer, self._spec.id)
        taken = self._context.claims.claim(holder, [item.ref for item in desired])
        self._context.publish_claims()
        free = [item for item in desired if item.ref not in taken]
        hard = {item.ref: taken[item.ref] for item in desired if item.ref in taken and item.mode is Mode.APPLY}
        for ref, owner in hard.items():
            if not owner.unit:
                if deployed:
                    self._keep(free)
                    self.applied = False
                raise Conflict(ref, f"release {self._spec.id}", str(owner))
        self.warnings = tuple(f"{ref} is also rendered by {owner}, which owns it" for ref, owner in hard.items())
        return free

    def _now(self) -> str:
        return micro_time(self._context.clock.wall())


class Conflict(ClusterStackError):  # noqa: N818 - reads as what happened
    """A release and a layer's own manifests both want an object."""

    reason = "Conflict"

    def __init__(self, ref: ObjectRef, one: str, other: str) -> None:
        super().__init__(f"{ref} is rendered by {one} and by {other}: remove it from one of them")
