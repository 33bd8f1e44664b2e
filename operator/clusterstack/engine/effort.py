"""What is remembered of one object between attempts."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, field

from clusterstack.engine.world import Timer

CORRECTIONS, CORRECTION_WINDOW = 5, 600.0


@dataclass(slots=True)
class Effort:
    """Attempts, the timer of the next, when drift was corrected; `unanswered`: a write may have been carried out."""

    attempts: int = 0
    timer: Timer | None = None
    parked: tuple[Hashable, ...] = ()
    applied_at: float | None = None
    unanswered: bool = False
    corrections: deque[float] = field(default_factory=lambda: deque(maxlen=CORRECTIONS))

    def fights(self, now: float) -> bool:
        """Five corrections in ten minutes: somebody else wants it otherwise, and goes on wanting it."""
        return len(self.corrections) == CORRECTIONS and now - self.corrections[0] < CORRECTION_WINDOW
