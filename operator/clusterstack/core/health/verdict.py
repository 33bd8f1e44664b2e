"""What judging an object takes and gives: plain values, no behaviour of their own."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from clusterstack.core.objects import GroupKind, Manifest, ObjectRef

if TYPE_CHECKING:
    from clusterstack.core.health.rules import RuleSet

GRACE = 30.0
"""Seconds that a controller gets to notice an object before an empty or old status is taken at its word."""

MESSAGE_LENGTH = 160
"""Longest message of a verdict, in characters."""


class State(StrEnum):
    """How an object is. Only Current and Suspended let a layer become Ready; only Failed needs somebody to act."""

    CURRENT = "Current"
    IN_PROGRESS = "InProgress"
    DEGRADED = "Degraded"
    FAILED = "Failed"
    SUSPENDED = "Suspended"
    TERMINATING = "Terminating"
    NOT_FOUND = "NotFound"
    UNKNOWN = "Unknown"


class Policy(StrEnum):
    """How a layer judges its objects; spelled as in `spec.layers[].health.policy`."""

    STRICT = "Strict"
    KSTATUS = "KStatus"
    EXISTS = "Exists"


@dataclass(frozen=True, slots=True)
class Verdict:
    """One object's health.

    `message` is one line of at most 160 characters and never JSON. `rule` names who decided. `recheck_at` (unix
    seconds) is when the passing of time alone may change the verdict. `note`: what is worth knowing, and no trouble.
    """

    state: State
    reason: str
    message: str
    rule: str
    recheck_at: float | None = None
    note: str = ""

    @property
    def healthy(self) -> bool:
        """A layer of such objects is Ready: what is suspended on purpose counts."""
        return self.state in (State.CURRENT, State.SUSPENDED)

    def by(self, moment: float) -> Verdict:
        """The same verdict, to be looked at again at that time at the latest."""
        return replace(self, recheck_at=min(moment, self.recheck_at or moment))

    @property
    def failed(self) -> bool:
        """Waiting cannot help; a change of the object or of its surroundings must."""
        return self.state is State.FAILED


@dataclass(frozen=True, slots=True)
class Server:
    """A Service and its EndpointSlices; `service` None: there is none. `trusted`: it did answer, or cannot be read."""

    service: Manifest | None = None
    slices: Sequence[Manifest] = ()
    trusted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a verdict may depend on besides the object.

    `related` holds the existing objects that `related_refs` asked for; `children` those of `child_query`, None while
    they are not known; `servers` the Services of `servers_of`, None where nobody looks for them. `applied_at` is when
    our own write last raised the object's generation, None when no such write is known. `status_subresource` is true
    for a custom kind that is served with `/status`. Times are unix seconds.
    """

    rules: RuleSet
    policy: Policy = Policy.STRICT
    now: float = 0.0
    related: Mapping[ObjectRef, Manifest] = field(default_factory=dict)
    children: Sequence[Manifest] | None = None
    events: Sequence[Manifest] = ()
    servers: Mapping[ObjectRef, Server] | None = None
    applied_at: float | None = None
    status_outdated: bool = False
    status_subresource: bool = False


@dataclass(frozen=True, slots=True)
class ChildQuery:
    """Which children of an object help to judge it: by label selector, or by owner where `owner_uid` is set."""

    kinds: tuple[GroupKind, ...]
    namespace: str
    selector: str
    owner_uid: str = ""


@dataclass(frozen=True, slots=True)
class EventQuery:
    """Whose Events may tell what an object's own status does not: its own, or those of a Pod of its."""

    namespace: str
    uid: str


def one_line(text: str, length: int = MESSAGE_LENGTH) -> str:
    """Fit a controller's message into a status line: one line of limited length, embedded JSON cut out."""
    line = " ".join(text.split())
    line = re.sub(r'[{\[]\s*[{\["].*', "…", line).replace("… …", "…")
    return line if len(line) <= length else line[: length - 1].rstrip() + "…"
