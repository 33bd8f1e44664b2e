"""A unit: what fails and waits as one. Here the layer's own manifests; a Helm release is in `engine/release.py`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from clusterstack.core.content import Desired
from clusterstack.core.gates import Blocker
from clusterstack.engine.context import Context
from clusterstack.engine.judge import Judge
from clusterstack.engine.keeper import Keeper, Terms
from clusterstack.engine.ledger import Ledger
from clusterstack.engine.wait import sleep
from clusterstack.errors import ApiError, TransportError

ANNOUNCE_AGAIN = 2.0


@dataclass(frozen=True, slots=True)
class UnitState:
    """A unit as its layer sees it. `pending` is what the unit itself waits for or failed on, its objects aside."""

    name: str
    total: int
    ready: int
    failed: int
    applied: bool
    pending: Blocker | None = None
    broken: bool = False
    revision: int = 0

    @property
    def healthy(self) -> bool:
        return self.pending is None and self.applied and self.ready == self.total


class ManifestUnit:
    """The objects that a layer renders itself."""

    name = ""
    awaited = True
    warnings: tuple[str, ...] = ()

    def __init__(
        self, context: Context, *, terms: Terms, ledger: Ledger, judge: Judge, changed: Callable[[], None]
    ) -> None:
        self.keeper = Keeper(context, terms=terms, ledger=ledger, judge=judge, changed=changed)
        self._clock, self._ledger, self._changed = context.clock, ledger, changed
        self._announced = False
        self._pending: Blocker | None = Blocker(reason="Pending", message="its manifests to be announced")

    def state(self) -> UnitState:
        board = self.keeper.board
        applied = self._announced and not board.unapplied
        ready = board.total - len(board.blockers)
        return UnitState(self.name, board.total, ready, len(board.failures), applied, self._pending)

    async def run(self, desired: tuple[Desired, ...]) -> None:
        """Keep the objects until cancelled; they are announced before the first is written."""
        await self._announce(desired)
        self._announced, self._pending = True, None
        self.keeper.want(desired)
        await self.keeper.run()

    async def _announce(self, desired: tuple[Desired, ...]) -> None:
        while True:
            try:
                return await self._ledger.announce(self.name, desired)
            except (ApiError, TransportError) as error:
                self._pending = Blocker(reason="InventoryNotWritten", message=f"the inventory is not written: {error}")
                self._changed()
            await sleep(self._clock, ANNOUNCE_AGAIN)
