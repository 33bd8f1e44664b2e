"""A layer is a coroutine, and so is each unit in it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from clusterstack.api.references import HealthPolicy, ObjectReference
from clusterstack.api.status import Phase
from clusterstack.core.gates import (
    Answer,
    Blocker,
    Closed,
    LayerFacts,
    Unsynced,
    after,
    all_of,
    depends_on,
    layer_key,
)
from clusterstack.core.health import Policy
from clusterstack.core.objects import Manifest
from clusterstack.core.verdict import Assessment, Parts, assess
from clusterstack.core.views import PruneView
from clusterstack.engine.chronicle import Chronicle
from clusterstack.engine.contents import Content, Latest
from clusterstack.engine.context import Context
from clusterstack.engine.foreign import HELM_GROUP, Foreign
from clusterstack.engine.judge import Judge
from clusterstack.engine.keeper import Terms
from clusterstack.engine.ledger import Ledger
from clusterstack.engine.publish import LayerPublisher
from clusterstack.engine.release import ReleaseUnit
from clusterstack.engine.rules import judge_anew
from clusterstack.engine.unit import ManifestUnit, UnitState
from clusterstack.engine.view import layer_view
from clusterstack.engine.wait import opened, sleep
from clusterstack.errors import ClusterStackError
from clusterstack.telemetry.logs import logger

LOG = logger(__name__)
FIRST_RESTART, LAST_RESTART = 1.0, 60.0
RESUME_GRACE, RESUME_LIMIT = 15.0, 60.0


class Layer:
    """One layer of a stack: takes the newest content, waits for its gates, keeps its units, says where it stands."""

    def __init__(
        self,
        context: Context,
        name: str,
        *,
        ledger: Ledger,
        publisher: LayerPublisher,
        neighbours: Mapping[str, LayerFacts],
        told: Callable[[str], None],
    ) -> None:
        self.name, self.ledger = name, ledger
        self.contents: Latest[Content] = Latest()
        self.facts = LayerFacts(name)
        self.chronicle = Chronicle(context.clock)
        self.units: list[ManifestUnit | ReleaseUnit] = []
        self._context, self._publisher, self._neighbours, self._told = context, publisher, neighbours, told
        self._changed = asyncio.Event()
        self._waiting: tuple[Blocker, ...] = ()
        self._checks: tuple[Blocker, ...] = ()
        self._open = False
        self._running: Content | None = None
        self._bug: Blocker | None = None
        self.prune: PruneView | None = None
        self._resuming: float | None = None
        self._expect_resumption(bool(ledger.inventory.applied))

    @property
    def content(self) -> Content | None:
        """The newest content."""
        return self.contents.value

    @property
    def waiting(self) -> tuple[Blocker, ...]:
        """The closed gates."""
        broken = self.content.broken if self.content is not None else None
        if broken is not None and broken.waits:
            return (Blocker(ref=broken.ref, reason=broken.reason, message=broken.message),)
        return self._waiting if not self._open else ()

    @property
    def known(self) -> bool:
        """Whether the layer's state is known: after a start an applied layer is not, until its watches have synced."""
        if self._resuming is None:
            return True
        return self._context.clock.now() - self._resuming >= (RESUME_LIMIT if self._reading else RESUME_GRACE)

    @property
    def _reading(self) -> bool:
        """Whether there are units that have not looked at the cluster yet."""
        begun = all(state.pending is None or state.broken for state in self.states())
        return not self.units or not begun or any(unit.keeper.board.reading for unit in self.units)

    @property
    def applied(self) -> bool:
        """Whether every unit of the newest content is applied in full."""
        return self._current and bool(self.units) and all(unit.state().applied for unit in self.units)

    @property
    def _current(self) -> bool:
        """Whether the units at work are those of the newest content: just after a newer one came they are not."""
        running, newest = self._running, self.content
        return self._open and running is not None and newest is not None and running.digest == newest.digest

    async def live(self) -> None:
        """Run the newest content until the next one, for ever. What is broken leaves the last good one running."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._observe())
            tasks.create_task(judge_anew(self._context.rules, self._context.cluster.facts, lambda: self.units))
            number = 0
            while True:
                content, number = await self.contents.newer(number)
                number = await self._until_superseded(content, number)

    async def _until_superseded(self, content: Content, number: int) -> int:
        """Run `content`; the number before that of the content that ended it. The same digest, or a broken build, ends
        nothing."""
        idle = content.broken is not None or content.spec.suspend
        if idle:
            self._resuming = None
        run = None if idle else asyncio.create_task(self._guarded(content))
        self._note(content)
        try:
            while True:
                newest, number = await self.contents.newer(number)
                unchanged = run is not None and newest.digest == content.digest and newest.spec == content.spec
                if newest.broken is None and not unchanged:
                    return number - 1
                self._note(newest)
        finally:
            if run is not None:
                run.cancel()
                await asyncio.gather(run, return_exceptions=True)

    def expect(self, content: Content) -> None:
        """This is the layer's content in the newest snapshot: its dependants' gates ask for no other from now on."""
        self._tell(replace(self.facts, built="" if content.broken else content.digest))

    def _note(self, content: Content) -> None:
        self.expect(content)
        self._poke()

    async def _guarded(self, content: Content) -> None:
        """The layer's boundary: an exception out of a unit is a bug, which is logged, backed off and tried again."""
        pause = FIRST_RESTART
        while True:
            try:
                await self._run(content)
            except Exception as error:
                LOG.exception("layer failed unexpectedly", extra={"stack": self._context.stack, "layer": self.name})
                self._bug = _bug(error)
                self._poke()
            await sleep(self._context.clock, pause)
            pause = min(LAST_RESTART, pause * 2)

    async def _run(self, content: Content) -> None:
        self._running, self._open, self.units, self._bug = content, False, [], None
        self._resume(content)
        self.chronicle.begin(content.revision)
        foreign = self._foreign(content, content.spec.requires)
        try:
            if content.digest != self.ledger.inventory.applied:
                self._tell(replace(self.facts, phase=Phase.WAITING))
                await opened(self._context.cluster.facts, lambda: self._gate(content, foreign), self._closed)
        finally:
            foreign.close()
        self._waiting, self._open = (), True
        self.chronicle.opened(content.spec.timeout.seconds, self._poke)
        await self._keep(content)

    def _resume(self, content: Content) -> None:
        """Content that was applied in full before: for a moment, what is not healthy is merely not known yet."""
        self._expect_resumption(content.digest == self.ledger.inventory.applied)

    def _expect_resumption(self, expected: bool) -> None:
        clock = self._context.clock
        self._resuming = clock.now() if expected else None
        if expected:
            clock.later(RESUME_GRACE, self._poke)
            clock.later(RESUME_LIMIT, self._poke)

    async def _keep(self, content: Content) -> None:
        manifests = ManifestUnit(
            self._context,
            terms=self._terms(content, ""),
            ledger=self.ledger,
            judge=self._judge(content),
            changed=self._poke,
        )
        releases = [self._release(content, index) for index in range(len(content.releases))]
        self.units = [manifests, *releases]
        self._poke()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._check(content))
                tasks.create_task(manifests.run(content.desired))
                for release in releases:
                    tasks.create_task(release.run())
        finally:
            for unit in self.units:
                unit.keeper.close()

    def _release(self, content: Content, index: int) -> ReleaseUnit:
        release = content.releases[index]
        as_helm = release.spec.origin.group == HELM_GROUP  # a HelmRelease is Ready once its objects are
        return ReleaseUnit(
            self._context,
            release,
            terms=self._terms(content, release.spec.id, release.spec.drift),
            ledger=self.ledger,
            judge=self._judge(content, release.spec.health_expressions, awaited=as_helm),
            awaited=not (as_helm and content.spec.health.policy is HealthPolicy.EXISTS),
            changed=self._poke,
        )

    def _terms(self, content: Content, unit: str, drift: str = "") -> Terms:
        spec = content.spec
        return Terms(
            account=self._context.account,
            lane=f"{self._context.stack}/{self.name}/{unit}",
            drift=drift or str(spec.drift.mode),
            retry_interval=spec.retry_interval.seconds,
            force=spec.force,
        )

    def _foreign(self, content: Content, references: Sequence[ObjectReference]) -> Foreign:
        """Objects that are awaited by name are judged also where the layer's own have only to exist."""
        return Foreign(self._context, references, self._judge(content, awaited=True))

    def _judge(self, content: Content, more: Sequence[Manifest] = (), *, awaited: bool = False) -> Judge:
        """By the layer's rules, after those of a release; what is `awaited` has to do more than exist."""
        spec = content.spec
        expressions = [expression.as_input() for expression in spec.health.expressions]
        rules = self._context.rules.over(more, expressions, source=f"layer {self.name}")
        policy = Policy(str(spec.health.policy))
        if awaited and policy is Policy.EXISTS:
            policy = Policy.KSTATUS
        return Judge(self._context.cluster, self._context.clock, rules=rules, policy=policy)

    def _gate(self, content: Content, foreign: Foreign) -> Answer:
        spec, unknown = content.spec, LayerFacts
        hard = [depends_on(self._neighbours.get(name) or unknown(name)) for name in spec.depends_on]
        soft = [after(self._neighbours.get(name) or unknown(name)) for name in spec.after]
        return all_of([*hard, *soft, foreign.answer()])

    def _closed(self, answer: Closed | Unsynced) -> None:
        match answer:
            case Closed():
                self._waiting = answer.blockers
            case Unsynced():
                self._waiting = (Blocker(reason="Syncing", message="reading what it requires"),)
        self._poke()

    async def _check(self, content: Content) -> None:
        """Keep `health.checks` evaluated: objects that the layer awaits beside its own."""
        foreign = self._foreign(content, content.spec.health.checks)
        facts = self._context.cluster.facts
        try:
            while True:
                since = facts.now
                match foreign.answer():
                    case Closed() as closed:
                        self._checks, keys = closed.blockers, closed.keys
                    case Unsynced(keys):
                        self._checks = (Blocker(reason="Syncing", message="reading the objects of health.checks"),)
                    case _:
                        self._checks = ()
                        keys = foreign.keys()
                self._poke()
                await facts.wait(keys or {("never", self.name)}, since)
        finally:
            self._checks = ()
            foreign.close()

    def blockers(self, limit: int = 10) -> tuple[Blocker, ...]:
        """What keeps the layer from being Ready, that which says most first."""
        found: list[Blocker] = [*([self._bug] if self._bug is not None else []), *self._problems()]
        for unit in self._awaited():
            state = unit.state()
            if state.pending is not None and (state.broken or not unit.keeper.board.blockers):
                found.append(state.pending)
            found += unit.keeper.board.worst(limit)
        return tuple(self._hinted(blocker) for blocker in (*found, *self._checks)[:limit])

    def _hinted(self, blocker: Blocker) -> Blocker:
        """A kind that another layer brings is waited for, whether `dependsOn` names that layer or not: say which."""
        provider = self._context.providers.get(blocker.ref.group_kind) if blocker.ref is not None else None
        if blocker.reason != "KindNotServed" or provider in (None, self.name):
            return blocker
        return replace(blocker, message=f"{blocker.message}: layer {provider} brings it")

    def _problems(self) -> list[Blocker]:
        """Releases that cannot be understood, so that there is no unit for them."""
        problems = self.content.problems if self.content is not None and self._open else ()
        return [Blocker(ref=problem.ref, reason=problem.reason, message=problem.message) for problem in problems]

    def states(self) -> list[UnitState]:
        return [unit.state() for unit in self.units]

    def _awaited(self) -> list[ManifestUnit | ReleaseUnit]:
        return [unit for unit in self.units if unit.awaited]

    def assess(self) -> Assessment:
        content, states = self.content, [unit.state() for unit in self._awaited()]
        return assess(
            Parts(
                suspended=content is not None and content.spec.suspend,
                broken=content.broken if content is not None else None,
                waiting=self.waiting,
                blockers=self.blockers(),
                failed=sum(state.failed for state in states) + (self._bug is not None) + len(self._problems()),
                settled=self._current and bool(states) and all(state.healthy for state in states) and not self._checks,
                timed_out=self.chronicle.timed_out,
            )
        )

    def show_prune(self, plan: PruneView | None) -> None:
        """Deletions that are not carried out, or that there are none."""
        if plan != self.prune:
            self.prune = plan
            self._poke()

    def _poke(self) -> None:
        self._changed.set()

    async def _observe(self) -> None:
        """Say where the layer stands, on every change; what cannot be said now is said a moment later."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                if self.content is not None:
                    await self._report(self.content)
            except Exception as error:
                expected = isinstance(error, ClusterStackError)
                extra = {"stack": self._context.stack, "layer": self.name, "error": str(error)}
                LOG.warning("layer not recorded", extra=extra, exc_info=not expected)
                self._context.clock.later(FIRST_RESTART, self._poke)

    async def _report(self, content: Content) -> None:
        """Ready is said in the cluster before a dependant hears of it."""
        assessment = self.assess()
        ready = assessment.phase is Phase.READY
        if ready:
            self._resuming = None
        if not self.known:
            return None
        if self.applied:
            self.chronicle.applied()
        if self.ledger.pressing or (self.ledger.dirty and self.applied and not ready):
            await self.ledger.flush()
        if not ready:
            self.chronicle.not_ready()
        elif not (self.facts.phase is Phase.READY and self.facts.applied == content.digest):
            await self.ledger.settled(content.digest)
            assessment = self.assess()
            if assessment.phase is not Phase.READY:  # no longer: the inventory took a moment to write
                return self._poke()
            self.chronicle.ready()
            await self._publisher.commit(self._publisher.view(layer_view(self, assessment)))
            if self._changed.is_set() and self.assess().phase is not Phase.READY:
                return None
        elif self.ledger.dirty and self.applied:
            await self.ledger.flush()
        self._tell(
            replace(
                self.facts,
                phase=assessment.phase,
                applied=content.digest if ready else self.facts.applied,
                timed_out=self.chronicle.timed_out,
                message=assessment.message,
            )
        )
        return self._publisher.offer(self._status)

    def _status(self, previous: Mapping[str, Any], now: float) -> dict[str, Any]:
        """The status when it is about to be written, which is soon after it was offered."""
        return self._publisher.view(layer_view(self, self.assess()))(previous, now)

    def _tell(self, facts: LayerFacts) -> None:
        if facts != self.facts:
            self.facts = facts
            self._context.cluster.facts.publish(layer_key(self.name))
        self._told(self.name)


def _bug(error: Exception) -> Blocker:
    """What went wrong first, out of however many tasks."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return Blocker(reason="InternalError", message=f"{type(error).__name__}: {error}")
