"""The state of a unit's objects, kept incrementally, so that readiness is known at every moment without a scan."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from clusterstack.core.gates import Blocker
from clusterstack.core.health import MESSAGE_LENGTH, Verdict, one_line
from clusterstack.core.objects import ObjectRef

PENDING, SYNCING = "Pending", "Syncing"  # reasons of what has not been looked at yet


@dataclass(frozen=True, slots=True)
class Waiting:
    """Not applied yet, and why: not an error."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The API server refuses the object; `terminal` failures fail the layer at once."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Present:
    """Applied, and judged."""

    verdict: Verdict


ObjectState = Waiting | Refused | Present


def blocker_of(ref: ObjectRef, state: ObjectState) -> Blocker | None:
    """Why an object keeps its layer from being Ready; None when it does not."""
    match state:
        case Waiting(reason, message) | Refused(reason, message):
            return Blocker(ref=ref, layer=None, reason=reason, message=message)
        case Present(verdict):
            if verdict.healthy:
                return None
            return fitted(Blocker(ref=ref, reason=verdict.reason or str(verdict.state), message=verdict.message))


def fitted(blocker: Blocker) -> Blocker:
    """A blocker that reads as one line of at most 160 characters: a long cause is cut at its end, the name never is."""
    excess = len(str(blocker)) - MESSAGE_LENGTH
    if excess <= 0:
        return blocker
    return replace(blocker, message=one_line(blocker.message, max(1, len(blocker.message) - excess)))


def failed(state: ObjectState) -> bool:
    """Whether the object fails its layer at once: refused, or a terminal verdict."""
    match state:
        case Refused():
            return True
        case Present(verdict):
            return verdict.failed
        case Waiting():
            return False


def _unread(state: ObjectState) -> bool:
    return isinstance(state, Waiting) and state.reason in (PENDING, SYNCING)


@dataclass(slots=True)
class Board:
    """States by object, and what follows from them."""

    states: dict[ObjectRef, ObjectState] = field(default_factory=dict)
    blockers: dict[ObjectRef, Blocker] = field(default_factory=dict)
    unapplied: set[ObjectRef] = field(default_factory=set)
    failures: set[ObjectRef] = field(default_factory=set)
    drifted: dict[ObjectRef, str] = field(default_factory=dict)
    notes: dict[ObjectRef, str] = field(default_factory=dict)
    unwell: dict[ObjectRef, Blocker] = field(default_factory=dict)
    """What the strict rules find wrong, whether it keeps the layer from being Ready or not."""

    @property
    def total(self) -> int:
        return len(self.states)

    @property
    def healthy(self) -> bool:
        return not self.blockers

    @property
    def reading(self) -> bool:
        """Whether some object has not been looked at yet, so that its state is not known."""
        return any(_unread(self.states[ref]) for ref in self.unapplied)

    def expect(self, refs: Iterable[ObjectRef], changed: Iterable[ObjectRef] = ()) -> None:
        """The objects that count from now on; what is new, or `changed`, waits to be applied."""
        wanted = set(refs)
        for ref in [ref for ref in self.states if ref not in wanted]:
            self._forget(ref)
        renewed = set(changed)
        for ref in wanted:
            if ref not in self.states or ref in renewed:
                self.put(ref, Waiting(PENDING, "not applied yet"), applied=False)

    @property
    def passed(self) -> int:
        """Objects that the layer's policy lets pass, although the strict rules do not call them healthy."""
        return len(self.unwell.keys() - self.blockers.keys())

    def put(self, ref: ObjectRef, state: ObjectState, *, applied: bool, strict: Verdict | None = None) -> bool:
        """Note an object's state, and what the strict rules say where the layer's are others; whether that changed
        anything."""
        changed = self.states.get(ref) != state or (ref in self.unapplied) is applied
        self.states[ref] = state
        (self.unapplied.discard if applied else self.unapplied.add)(ref)
        (self.failures.add if failed(state) else self.failures.discard)(ref)
        note = state.verdict.note if isinstance(state, Present) else ""
        if note:
            self.notes[ref] = note
        elif self.notes:
            self.notes.pop(ref, None)
        blocker = blocker_of(ref, state)
        if blocker is None:
            self.blockers.pop(ref, None)
        else:
            self.blockers[ref] = blocker
        return self._show(ref, blocker if strict is None else blocker_of(ref, Present(strict))) or changed

    def worst(self, limit: int) -> Iterator[Blocker]:
        """The blockers that say most first: failures, then applied objects that are not healthy, then what waits."""
        return self._ranked(self.blockers, limit)

    def sickest(self, limit: int) -> Iterator[Blocker]:
        """The same of what the strict rules find wrong."""
        return self._ranked(self.unwell, limit)

    def _ranked(self, blockers: Mapping[ObjectRef, Blocker], limit: int) -> Iterator[Blocker]:
        ranked = heapq.nsmallest(
            limit,
            blockers.items(),
            key=lambda item: (item[0] not in self.failures, item[0] in self.unapplied, item[0]),
        )
        return (blocker for _, blocker in ranked)

    def _show(self, ref: ObjectRef, wrong: Blocker | None) -> bool:
        changed = self.unwell.get(ref) != wrong
        if wrong is not None:
            self.unwell[ref] = wrong
        elif changed:
            del self.unwell[ref]
        return changed

    def _forget(self, ref: ObjectRef) -> None:
        self.states.pop(ref, None)
        self.blockers.pop(ref, None)
        self.unapplied.discard(ref)
        self.failures.discard(ref)
        self.drifted.pop(ref, None)
        self.unwell.pop(ref, None)
        self.notes.pop(ref, None)
