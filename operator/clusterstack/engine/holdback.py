"""Holds new webhook configurations back until the servers behind them may be up."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from clusterstack.core.board import Board
from clusterstack.core.objects import ObjectRef
from clusterstack.core.order import stage
from clusterstack.engine.world import Clock, Cluster, Timer

LAST_STAGE, PATIENCE = 2, 30.0
WORKLOADS = frozenset({("apps", "Deployment"), ("apps", "StatefulSet"), ("apps", "DaemonSet")})


class Holdback:
    """A webhook configuration that comes before its server is up refuses what the server itself needs to start: so new
    ones wait for the unit's workloads on `board`, and not for ever, for some wait for each other."""

    def __init__(self, cluster: Cluster, clock: Clock, board: Board, wake: Callable[[], None]) -> None:
        self._cluster, self._clock, self._board, self._wake = cluster, clock, board, wake
        self._until = 0.0
        self._timer: Timer | None = None

    def begin(self, refs: Iterable[ObjectRef]) -> None:
        """These objects are wanted from now on; `wake` is called when patience ends."""
        if any(stage(ref) == LAST_STAGE for ref in refs):
            self.close()
            self._until = self._clock.now() + PATIENCE
            self._timer = self._clock.later(PATIENCE, self._wake)

    def too_early(self, ref: ObjectRef) -> bool:
        """Whether an object has to wait for the others."""
        if stage(ref) != LAST_STAGE or self._clock.now() >= self._until or self._cluster.live(ref) is not None:
            return False
        return any((other.group, other.kind) in WORKLOADS for other in self._board.blockers)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
