"""When what happened in a layer: the clock of its time-out, and the seconds per step that people read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from clusterstack.core.views import Run, Timings
from clusterstack.engine.world import Clock, Timer

HISTORY = 10


@dataclass(slots=True)
class Chronicle:
    """Times of a layer's runs, in Unix seconds."""

    clock: Clock
    revision: str = ""
    started_at: float = 0.0
    opened_at: float = 0.0
    applied_at: float = 0.0
    ready_at: float = 0.0
    timed_out: bool = False
    build_seconds: float = 0.0
    last_duration: float = 0.0
    history: tuple[Run, ...] = ()
    since: dict[str, float] = field(default_factory=dict)
    _timer: Timer | None = None
    _late: Callable[[], None] | None = None
    _timeout: float = 0.0

    def begin(self, revision: str) -> None:
        """A run starts; one that did not end is superseded."""
        if self.started_at and not self.ready_at and self.revision:
            self._close("Superseded")
        self.revision, self.started_at = revision, self._now()
        self.opened_at = self.applied_at = self.ready_at = 0.0
        self._stop()

    def opened(self, timeout: float, late: Callable[[], None]) -> None:
        """The gates are open: from here the time-out runs. `late` is called when it has passed."""
        self.opened_at = self._now()
        self._timeout, self._late = timeout, late
        self._arm()

    def applied(self) -> None:
        """Every object is applied."""
        if not self.applied_at:
            self.applied_at = self._now()

    def ready(self) -> None:
        """The layer is Ready: the run is over, and the time-out is off until it no longer is."""
        self._stop()
        self.applied()
        if not self.ready_at:
            self.ready_at = self._now()
            self.last_duration = self.ready_at - (self.opened_at or self.started_at)
            self._close("Ready")

    def not_ready(self) -> None:
        """The layer is not, or no longer, Ready: the time-out runs."""
        if self.opened_at and self._timer is None and not self.timed_out:
            self._arm()

    def since_phase(self, phase: str) -> float:
        """Since when the layer has been in this phase."""
        if phase not in self.since:
            self.since = {phase: self._now()}
        return self.since[phase]

    def timings(self) -> Timings:
        """Seconds per step of this run, so far."""
        now = self.ready_at or self._now()
        opened, applied = self.opened_at or now, self.applied_at or now
        return Timings(
            blocked=max(0.0, opened - self.started_at) if self.started_at else 0.0,
            render=self.build_seconds,
            apply=max(0.0, applied - opened),
            health=max(0.0, now - applied),
        )

    def close(self) -> None:
        self._stop()

    def _arm(self) -> None:
        self._stop()
        self._timer = self.clock.later(self._timeout, self._pass)

    def _pass(self) -> None:
        self.timed_out = True
        self._timer = None
        if self._late is not None:
            self._late()

    def _stop(self) -> None:
        self.timed_out = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _close(self, result: str) -> None:
        run = Run(revision=self.revision, result=result, started_at=self.started_at, finished_at=self._now())
        self.history = (run, *self.history)[:HISTORY]

    def _now(self) -> float:
        return self.clock.wall().timestamp()
