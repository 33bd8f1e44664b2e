"""What judging an object takes and gives: plain values, no behaviour of their own."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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
    seconds) is when the passing of time alone may change the verdict.
    """

    state: State
    reason: str
    message: str
    rule: str
    recheck_at: float | None = None

    @property
    def healthy(self) -> bool:
        """A layer of such objects is Ready: what is suspended on purpose counts."""
        return self.state in (State.CURRENT, State.SUSPENDED)

    @property
    def failed(self) -> bool:
        """Waiting cannot help; a change of the object or of its surroundings must."""
        return self.state is State.FAILED


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a verdict may depend on besides the object.

    `related` holds the existing objects that `related_refs` asked for; `children` those of `child_query`, None while
    they are not known. `applied_at` is when our own write last raised the object's generation, None when no such write
    is known. `status_subresource` is true for a custom kind that is served with `/status`. Times are unix seconds.
    """

    rules: RuleSet
    policy: Policy = Policy.STRICT
    now: float = 0.0
    related: Mapping[ObjectRef, Manifest] = field(default_factory=dict)
    children: Sequence[Manifest] | None = None
    applied_at: float | None = None
    status_subresource: bool = False


@dataclass(frozen=True, slots=True)
class ChildQuery:
    """Which children of an object help to judge it: by label selector, or by owner where `owner_uid` is set."""

    kinds: tuple[GroupKind, ...]
    namespace: str
    selector: str
    owner_uid: str = ""


def sentence(ref: ObjectRef, verdict: Verdict) -> str:
    """A verdict for people who see nothing else: the object and the cause, in one line of at most 160 characters.

    A long cause is cut at its end; the object's name never is.
    """
    cause = verdict.message or verdict.reason
    return one_line(f"{ref}: {cause}")


def one_line(text: str) -> str:
    """Fit a controller's message into a status line: one line, at most 160 characters, embedded JSON cut out."""
    line = " ".join(text.split())
    line = re.sub(r'[{\[]\s*[{\["].*', "…", line).replace("… …", "…")
    return line if len(line) <= MESSAGE_LENGTH else line[: MESSAGE_LENGTH - 1].rstrip() + "…"
