"""Keeps a set of objects as desired: applies what is dirty, parks what cannot be applied yet, judges what is there.

One task drains a set of dirty objects; drift, a health change or an opened gate marks objects dirty, and nothing is
ever restarted. Every object fails, waits and heals alone.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from clusterstack.core.board import Board, ObjectState, Present, Refused, Waiting
from clusterstack.core.content import Desired, Mode
from clusterstack.core.health import State, Verdict
from clusterstack.core.objects import JOB, Manifest, ObjectRef
from clusterstack.core.order import apply_rank, stage
from clusterstack.core.outcome import Park, Reject, classify
from clusterstack.core.ownership import DIGEST_ANNOTATION
from clusterstack.core.recreate import recreatable
from clusterstack.engine.context import Context
from clusterstack.engine.effort import CORRECTION_WINDOW, CORRECTIONS, Effort
from clusterstack.engine.holdback import Holdback
from clusterstack.engine.inquiry import Inquiry
from clusterstack.engine.judge import Judge
from clusterstack.engine.ledger import Ledger
from clusterstack.engine.marks import bears_mark, other_writer
from clusterstack.engine.served import explained, not_served, unread
from clusterstack.engine.watches import Watches
from clusterstack.engine.webhooks import Waiter, rehearse
from clusterstack.errors import ApiError, TransportError
from clusterstack.kube.facts import object_key
from clusterstack.kube.live import Live
from clusterstack.kube.resource import Resource

IN_FLIGHT = 32
FIRST_RETRY, LAST_RETRY = 0.25, 30.0
NOT_AWAITED = Verdict(State.CURRENT, "NotAwaited", "", "awaited")


@dataclass(frozen=True, slots=True)
class Terms:
    """On whose behalf and how a unit keeps its objects."""

    account: str
    lane: str
    drift: str = "Correct"
    retry_interval: float = 30.0
    force: bool = False


class Keeper:
    """The objects of one unit. `changed` is called after every change of `board`."""

    def __init__(
        self,
        context: Context,
        *,
        terms: Terms,
        ledger: Ledger,
        judge: Judge,
        changed: Callable[[], None],
    ) -> None:
        self.board = Board()
        cluster, clock = context.cluster, context.clock
        self._cluster, self._clock, self._webhooks = cluster, clock, context.webhooks
        self._terms, self._ledger, self._judge, self._changed = terms, ledger, judge, changed
        self._desired: dict[ObjectRef, Desired] = {}
        self._efforts: dict[ObjectRef, Effort] = {}
        self._dirty: list[tuple[int, int, ObjectRef]] = []
        self._queued: set[ObjectRef] = set()
        self._flying: dict[ObjectRef, int] = {}
        self._again: set[ObjectRef] = set()
        self._wake = asyncio.Event()
        self._facts = cluster.facts.subscribe()
        self._watchers: dict[Hashable, set[ObjectRef]] = defaultdict(set)
        self._keys: dict[ObjectRef, set[Hashable]] = defaultdict(set)
        self._watches = Watches(cluster)
        self._inquiry = Inquiry(cluster, clock, judge, self._watches, self._subscribe)
        self._sequence = 0
        self._holdback = Holdback(cluster, clock, self.board, self._wake.set)

    def want(self, desired: Iterable[Desired]) -> None:
        """Keep exactly these objects from now on; what is dropped is left as it is in the cluster."""
        wanted = {item.ref: item for item in desired}
        for ref in [ref for ref in self._desired if ref not in wanted]:
            self._drop(ref)
        changed = [ref for ref, item in wanted.items() if ref in self._desired and self._desired[ref].want != item.want]
        self._desired = wanted
        self._holdback.begin(wanted)
        self.board.expect(wanted, changed)
        since = self._cluster.facts.now
        for ref in wanted:
            self._subscribe([object_key(ref)], ref, since)
            self.mark(ref)
        self._changed()

    def mark(self, ref: ObjectRef) -> None:
        """Have an object looked at."""
        if ref in self._desired and ref not in self._queued:
            self._queued.add(ref)
            self._sequence += 1
            heapq.heappush(self._dirty, (apply_rank(ref), self._sequence, ref))
            self._wake.set()

    def mark_all(self) -> None:
        """Have every object looked at: a full verification."""
        for ref in self._desired:
            self.mark(ref)

    async def run(self) -> None:
        """Drain dirty objects until cancelled; watches and subscriptions end with it."""
        try:
            async with asyncio.TaskGroup() as flights:
                flights.create_task(self._listen())
                while True:
                    self._launch(flights)
                    await self._wake.wait()
                    self._wake.clear()
        finally:
            self.close()

    def close(self) -> None:
        """Let go of every watch, subscription and timer."""
        for ref in list(self._desired):
            self._drop(ref)
        self._desired.clear()
        self._holdback.close()
        self._facts.close()
        self._watches.close()

    async def _listen(self) -> None:
        while True:
            for key in await self._facts.changed():
                for ref in tuple(self._watchers.get(key, ())):
                    self.mark(ref)

    def _launch(self, flights: asyncio.TaskGroup) -> None:
        """Start what is due, in apply order: a stage begins when nothing of an earlier one is in flight."""
        while self._dirty and len(self._flying) < IN_FLIGHT:
            ref = self._dirty[0][2]
            if ref in self._flying:
                self._again.add(ref)
            elif any(earlier < stage(ref) for earlier in self._flying.values()) or self._holdback.too_early(ref):
                return
            elif ref in self._desired:
                self._flying[ref] = stage(ref)
                flights.create_task(self._fly(ref))
            heapq.heappop(self._dirty)
            self._queued.discard(ref)

    async def _fly(self, ref: ObjectRef) -> None:
        effort = self._efforts.setdefault(ref, Effort())
        self._unpark(ref, effort)
        desired, since = self._desired[ref], self._cluster.facts.now
        try:
            await self._attend(ref, desired, effort)
        except (ApiError, TransportError) as error:
            effort.unanswered = effort.unanswered or isinstance(error, TransportError)
            match classify(error, ref):
                case _ if self._desired.get(ref) is not desired:
                    self.mark(ref)
                case Park() as park:
                    self._park(ref, effort, explained(park, self._cluster, self._watches, desired), since)
                case Reject("Immutable") if self._may_recreate(ref, desired):
                    await self._recreate(ref, desired, effort, since)
                case Reject(reason, message):
                    self._refuse(ref, effort, reason, message)
        finally:
            self._flying.pop(ref, None)
            if ref in self._again:
                self._again.discard(ref)
                self.mark(ref)
            self._wake.set()

    async def _attend(self, ref: ObjectRef, desired: Desired, effort: Effort) -> None:
        since = self._cluster.facts.now
        resource = await self._cluster.resource(desired.api_version, ref.kind)
        if self._desired.get(ref) is not desired:
            return self.mark(ref)
        if resource is None:
            park = not_served(self._cluster, self._watches, desired.api_version, ref.kind)
            return self._park(ref, effort, park, since)
        if resource.namespaced and not ref.namespace:
            return self._refuse(ref, effort, "NamespaceRequired", f"{ref} is namespaced and names no namespace")
        watch = self._watches.kind(resource)
        if not self._cluster.synced(watch):
            return self._park(ref, effort, unread(resource, watch), since)
        live = self._cluster.live(ref)
        if live is not None and not self._must_write(ref, desired, live, effort):
            self._ledger.recall(ref, desired, live)
            return self._settle(ref, live, since)
        if live is None and desired.mode is not Mode.IGNORE and await self._collected(ref, desired):
            return None
        if desired.mode is not Mode.APPLY and live is None and await self._left_alone(ref, desired, resource, since):
            return None
        return await self._apply(ref, desired, resource, effort)

    async def _apply(self, ref: ObjectRef, desired: Desired, resource: Resource, effort: Effort) -> None:
        since, terms, before = self._cluster.facts.now, self._terms, self._cluster.live(ref)
        marked = before is not None and bears_mark(desired, before.annotations)
        if effort.unanswered:  # the write before this one may have been carried out
            marked = marked or await self._made_before(ref, desired)
        created, live = await self._cluster.apply(
            desired.manifest, resource, manager=desired.manager, account=terms.account, lane=terms.lane
        )
        self._ledger.record(ref, desired, live, created=created, marked=marked)
        if self._desired.get(ref) is not desired:
            return self.mark(ref)
        effort.wrote(before, live, self._clock.wall().timestamp())
        if effort.webhook is not None:
            self._webhooks.answered(effort.webhook)
            effort.webhook = None
        return self._settle(ref, self._cluster.live(ref) or live, since)

    def _may_recreate(self, ref: ObjectRef, desired: Desired) -> bool:
        return recreatable(self._ledger.entry(ref), desired.manifest, force=self._terms.force)

    async def _recreate(self, ref: ObjectRef, desired: Desired, effort: Effort, since: int) -> None:
        """Delete what cannot be changed; it is made anew once it is gone."""
        entry = self._ledger.entry(ref)
        assert entry is not None
        park = Park("Recreating", "is replaced: a field of it is immutable", (object_key(ref),))
        try:
            account = self._terms.account
            await self._cluster.delete(desired.api_version, ref, uid=entry.uid, account=account)
        except (ApiError, TransportError) as error:
            park = Park("Recreating", f"cannot be replaced: {error}", (object_key(ref),))
        self._park(ref, effort, park, since)

    async def _read(self, ref: ObjectRef, desired: Desired) -> Manifest | None:
        account = self._terms.account
        return await self._cluster.get(desired.api_version, ref.kind, ref.namespace, ref.name, account=account)

    async def _made_before(self, ref: ObjectRef, desired: Desired) -> bool:
        found = await self._read(ref, desired)
        return found is not None and bears_mark(desired, found["metadata"].get("annotations") or {})

    async def _left_alone(self, ref: ObjectRef, desired: Desired, resource: Resource, since: int) -> bool:
        """IfNotPresent and Ignore: an object that is there without our mark stays as it is, and is judged."""
        found = await self._read(ref, desired)
        if self._desired.get(ref) is not desired:
            self.mark(ref)
            return True
        if found is None and desired.mode is Mode.IF_NOT_PRESENT:
            return False
        if found is not None:
            self._watches.one(ref, resource)
        live = self._cluster.live(ref)
        if live is not None:
            self._settle(ref, live, since)
        else:
            self._note(ref, Present(Verdict(State.CURRENT, "NotManaged", "left as it is", "mode")), applied=True)
        return True

    def _must_write(self, ref: ObjectRef, desired: Desired, live: Live, effort: Effort) -> bool:
        if desired.mode is not Mode.APPLY or self._same(ref, desired, live):
            self._drifted(ref, "")
            return False
        if live.deletion_timestamp:
            return False  # what is on its way out cannot be corrected; it is made anew once it is gone
        entry = self._ledger.entry(ref)
        if entry is None or entry.want != desired.want or not entry.fields:
            return True
        return self._correct(ref, desired, live, effort)

    def _correct(self, ref: ObjectRef, desired: Desired, live: Live, effort: Effort) -> bool:
        """Drift: whether to write. Five corrections in ten minutes are a fight: it is reported, no longer fought."""
        now = self._clock.now()
        fights = effort.fights(now)
        if self._terms.drift != "Correct" or fights:
            if self._terms.drift != "Ignore":
                self._drifted(ref, other_writer(live, desired.manager))
            if fights:
                self._retry(ref, effort, CORRECTION_WINDOW / CORRECTIONS)
            return False
        effort.corrections.append(now)
        return True

    def _drifted(self, ref: ObjectRef, by: str) -> None:
        drifted = self.board.drifted
        if drifted.get(ref, "") != by:
            if by:
                drifted[ref] = by
            else:
                del drifted[ref]
            self._changed()

    def _same(self, ref: ObjectRef, desired: Desired, live: Live) -> bool:
        entry = self._ledger.entry(ref)
        return (
            entry is not None
            and entry.want == desired.want
            and entry.uid == live.uid
            and live.annotations.get(DIGEST_ANNOTATION) == desired.want
            and bool(entry.fields)
            and entry.fields == live.fields_digest(desired.manager)
        )

    def _settle(self, ref: ObjectRef, live: Live, since: int) -> None:
        desired = self._desired[ref]
        if ref.group_kind == JOB and self._ledger.finished(ref, desired, live):
            self._changed()
        if not desired.awaited:
            return self._note(ref, Present(NOT_AWAITED), applied=True)
        effort = self._efforts[ref]
        found = self._inquiry.find(ref, live, effort, since)
        if found.recheck_at is not None:
            self._retry(ref, effort, max(0.1, found.recheck_at - self._clock.wall().timestamp()))
        return self._note(ref, Present(found.verdict), applied=True, strict=found.strict)

    async def _collected(self, ref: ObjectRef, desired: Desired) -> bool:
        """Whether this is a Job that was deleted after it had been seen to end: it is not run again."""
        last = self._cluster.last(ref)
        if last is not None and self._ledger.finished(ref, desired, last):
            self._changed()
        end = self._ledger.end(ref, desired)
        if not end or await self._read(ref, desired) is not None:
            return False
        if self._desired.get(ref) is not desired:
            self.mark(ref)
            return True
        verdict = self._judge.collected(desired.manifest, ref, end) if desired.awaited else NOT_AWAITED
        self._note(ref, Present(verdict), applied=True)
        return True

    def _park(self, ref: ObjectRef, effort: Effort, park: Park, since: int) -> None:
        keys = list(park.keys)
        if park.reason in ("NamespaceMissing", "NamespaceTerminating"):
            self._watches.one(ObjectRef("", "Namespace", "", ref.namespace))
        effort.parked = tuple(keys)
        self._subscribe(keys, ref, since)
        self._note(ref, Waiting(park.reason, park.message), applied=False)
        if park.webhook:
            effort.webhook, effort.leave = park, self._webhooks.wait(park, self._waiter(ref, self._desired[ref]))
            return
        self._retry(ref, effort, min(LAST_RETRY, FIRST_RETRY * 2 ** min(effort.attempts, 10)))
        effort.attempts += 1

    def _waiter(self, ref: ObjectRef, desired: Desired) -> Waiter:
        write = partial(rehearse, self._cluster, desired, account=self._terms.account, lane=self._terms.lane)

        def told(message: str) -> None:
            self._note(ref, Waiting("WebhookNotReady", message), applied=False)

        return Waiter(ref, write, told, partial(self.mark, ref))

    def _refuse(self, ref: ObjectRef, effort: Effort, reason: str, message: str) -> None:
        self._note(ref, Refused(reason, message), applied=False)
        self._retry(ref, effort, self._terms.retry_interval)

    def _retry(self, ref: ObjectRef, effort: Effort, delay: float) -> None:
        if effort.timer is not None:
            effort.timer.cancel()
        effort.timer = self._clock.later(delay * random.uniform(0.8, 1.2), lambda: self.mark(ref))  # noqa: S311

    def _unpark(self, ref: ObjectRef, effort: Effort) -> None:
        effort.rest()
        for key in effort.parked:
            if key != object_key(ref):
                self._unsubscribe(key, ref)
        effort.parked = ()

    def _note(self, ref: ObjectRef, state: ObjectState, *, applied: bool, strict: Verdict | None = None) -> None:
        if ref in self._desired and self.board.put(ref, state, applied=applied, strict=strict):
            self._wake.set()
            self._changed()

    def _subscribe(self, keys: Sequence[Hashable], ref: ObjectRef, since: int) -> None:
        for key in keys:
            self._watchers[key].add(ref)
        self._keys[ref].update(keys)
        self._facts.add(keys, since)

    def _unsubscribe(self, key: Hashable, ref: ObjectRef) -> None:
        refs = self._watchers.get(key, set())
        refs.discard(ref)
        self._keys[ref].discard(key)
        if not refs:
            self._watchers.pop(key, None)
            self._facts.discard([key])

    def _drop(self, ref: ObjectRef) -> None:
        effort = self._efforts.pop(ref, None)
        if effort is not None:
            effort.rest()
        for key in tuple(self._keys[ref]):
            self._unsubscribe(key, ref)
        del self._keys[ref]
