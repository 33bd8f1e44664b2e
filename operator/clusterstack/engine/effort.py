"""What is remembered of one object between attempts."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

from clusterstack.core.objects import ObjectRef
from clusterstack.core.outcome import Park
from clusterstack.engine.world import Timer
from clusterstack.kube.live import Live

CORRECTIONS, CORRECTION_WINDOW = 5, 600.0


@dataclass(slots=True)
class Effort:
    """Attempts, the timer of the next, when drift was corrected; `unanswered`: a write may have been carried out.

    `applied_at` (unix seconds) is when a write of ours last raised the generation, and `old_status` a digest of the
    status before it, as long as it is the same; `touched_at` is a write of ours that did not raise it. `ailing_since`
    is when the object was first seen not healthy, in monotonic seconds. `webhook` is one that held it up, `leave` ends
    the wait for it. `served` are the Services that were found to answer.
    """

    attempts: int = 0
    timer: Timer | None = None
    parked: tuple[Hashable, ...] = ()
    applied_at: float | None = None
    old_status: int = 0
    touched_at: int = 0
    ailing_since: float | None = None
    unanswered: bool = False
    served: frozenset[ObjectRef] = frozenset()
    webhook: Park | None = None
    leave: Callable[[], None] | None = None
    corrections: deque[float] = field(default_factory=lambda: deque(maxlen=CORRECTIONS))

    def rest(self) -> None:
        """Neither the timer nor a webhook brings the next attempt any more."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        if self.leave is not None:
            self.leave()
            self.leave = None

    def fights(self, now: float) -> bool:
        """Five corrections in ten minutes: somebody else wants it otherwise, and goes on wanting it."""
        return len(self.corrections) == CORRECTIONS and now - self.corrections[0] < CORRECTION_WINDOW

    def wrote(self, before: Live | None, after: Live, now: float) -> None:
        """A write of ours was answered; `now` in unix seconds."""
        self.attempts, self.unanswered = 0, False
        if before is None or after.generation != before.generation:
            self.applied_at, self.old_status = now, before.status_digest if before is not None else 0
        elif after.outdated_since != before.outdated_since:
            self.touched_at = after.outdated_since

    def changed_at(self, live: Live) -> float | None:
        """When the object was last changed by us (unix seconds), as far as is known."""
        return self.applied_at if self.applied_at is not None else float(live.outdated_since) or None

    def outdated(self, live: Live) -> bool:
        """Whether the status is still the one from before our last change.

        After a restart only managedFields can tell: a status written before what was applied last.
        """
        if self.applied_at is None:
            return live.outdated_since not in (0, self.touched_at)
        if self.old_status and live.status_digest != self.old_status:
            self.old_status = 0
        return self.old_status != 0
