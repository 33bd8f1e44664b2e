"""What controllers write on their objects, step by step, and what the layer of such an object has to show meanwhile.

Statuses are worded as the operators word them; the versions are those whose CRDs the homelab data set holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .bed import Manifest

TIME = "2026-01-01T00:00:00Z"
PROMPT, GRACE = 10.0, 30.0  # seconds; within the grace no old or missing status is taken at its word


@dataclass(frozen=True, slots=True)
class Beside:
    """An object of somebody else's: created by its first status, given the next ones."""

    crd: str
    name: str
    spec: Mapping[str, Any]
    status: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Step:
    """Something happens to the object, and from then on its layer says `reason` and `message`; none: it is Ready.

    What happens is a new `status`, a new `spec` out of the stack, or a change of an object `beside`. Nothing at all:
    the object has just been applied, or time passes; `patience` is how many seconds that may take.
    """

    reason: str = ""
    message: str = ""
    phase: str = "Progressing"
    status: Mapping[str, Any] | None = None
    spec: Mapping[str, Any] | None = None
    beside: Beside | None = None
    patience: float = PROMPT


@dataclass(frozen=True, slots=True)
class Sequence:
    """The life of an object called `it`, of the kind that `crd` defines, from its first apply."""

    title: str
    crd: str
    spec: Mapping[str, Any]
    steps: tuple[Step, ...]

    @property
    def crds(self) -> set[str]:
        return {self.crd, *(step.beside.crd for step in self.steps if step.beside is not None)}


def condition(kind: str, status: bool | str, reason: str = "", message: str = "", **more: Any) -> Manifest:
    text = status if isinstance(status, str) else str(status)
    because = {"reason": reason} if reason else {}
    return {"type": kind, "status": text, **because, "message": message, "lastTransitionTime": TIME, **more}


def conditions(*entries: Manifest, **more: Any) -> Manifest:
    return {"conditions": list(entries), **more}


NO_STATUS = "its controller has not reported a status yet"
STALE = "LatestGenerationNotObserved"
OUTDATED = "its controller has not looked at the last change yet"
