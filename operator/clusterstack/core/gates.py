"""What waits, waits on a gate: what a gate answers, and the two gates between layers.

A gate is a pure function of facts. Its answer names the blocker, and the keys of the facts that could change it: the
engine subscribes to those keys and evaluates again. A closed gate is never an error.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Literal

from clusterstack.api.status import Phase
from clusterstack.core.objects import ObjectRef


@dataclass(frozen=True, slots=True)
class Blocker:
    """What keeps something from going on: an object, or another layer of the stack, or neither (an approval, a source).

    `reason` is CamelCase; `message` is one line that says what is wrong with the blocker, without naming it again.
    """

    ref: ObjectRef | None = None
    layer: str | None = None
    reason: str = ""
    message: str = ""

    @property
    def subject(self) -> str:
        """The blocker's name, for people; empty when it is neither an object nor a layer."""
        if self.ref is not None:
            return str(self.ref)
        return f"layer {self.layer}" if self.layer else ""

    def __str__(self) -> str:
        """`Deployment keda/keda-operator 0/1: ImagePullBackOff`: counts follow the name, sentences follow a colon."""
        text = self.message or self.reason
        if not self.subject or not text:
            return self.subject or text
        return f"{self.subject} {text}" if text[0].isdigit() else f"{self.subject}: {text}"


@dataclass(frozen=True, slots=True)
class Open:
    """Nothing is in the way."""


@dataclass(frozen=True, slots=True)
class Closed:
    """`blocker` is in the way, and so are `others`; `keys` are what could change that."""

    blocker: Blocker
    keys: frozenset[Hashable] = frozenset()
    others: tuple[Blocker, ...] = ()

    @property
    def blockers(self) -> tuple[Blocker, ...]:
        return (self.blocker, *self.others)


@dataclass(frozen=True, slots=True)
class Unsynced:
    """Not known yet: the watches behind `keys` have not delivered their first list."""

    keys: frozenset[Hashable] = frozenset()


Answer = Open | Closed | Unsynced


def all_of(answers: Iterable[Answer]) -> Answer:
    """One answer out of many: closed if any is closed, naming every blocker in order; else unsynced if any is."""
    blockers: list[Blocker] = []
    keys: set[Hashable] = set()
    unsynced = False
    for answer in answers:
        match answer:
            case Open():
                continue
            case Closed():
                blockers.extend(answer.blockers)
                keys |= answer.keys
            case Unsynced():
                unsynced = True
                keys |= answer.keys
    if blockers:
        return Closed(blockers[0], frozenset(keys), tuple(blockers[1:]))
    return Unsynced(frozenset(keys)) if unsynced else Open()


@dataclass(frozen=True, slots=True)
class LayerFacts:
    """What a layer's neighbours need to know of it.

    `built` is the digest of its content in the snapshot at hand (empty: not built, or its build is broken); `applied`
    the digest of the content that was last applied in full; `timed_out` that its timeout has passed without it being
    Ready.
    """

    name: str
    phase: Phase = Phase.PENDING
    built: str = ""
    applied: str = ""
    timed_out: bool = False
    message: str = ""

    @property
    def done(self) -> bool:
        """Ready with this very snapshot's content."""
        return self.phase is Phase.READY and bool(self.built) and self.built == self.applied


def layer_key(name: str) -> tuple[Literal["layer"], str]:
    """The bus key on which a layer's facts are published, within its stack."""
    return ("layer", name)


def depends_on(facts: LayerFacts) -> Answer:
    """The hard gate of `dependsOn`: opens when the dependency is Ready with the content of this snapshot."""
    return Open() if facts.done else _closed(facts)


def after(facts: LayerFacts) -> Answer:
    """The soft gate of `after`: opens when the other layer is done, has failed or timed out, or is suspended."""
    settled = facts.phase in (Phase.FAILED, Phase.SUSPENDED) or facts.timed_out
    return Open() if settled or facts.done else _closed(facts)


def _closed(facts: LayerFacts) -> Closed:
    outdated = facts.phase is Phase.READY
    state = "is Ready, but not yet with the content of this revision" if outdated else f"is {facts.phase}"
    message = f"{state}: {facts.message}" if facts.message and not outdated else state
    reason = "DependencyOutdated" if outdated else f"Dependency{facts.phase}"
    return Closed(Blocker(layer=facts.name, reason=reason, message=message), frozenset({layer_key(facts.name)}))
