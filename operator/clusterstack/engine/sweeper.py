"""When a stack is swept, and of what: only once everything that is wanted is known."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from clusterstack.core.inventory import Entry, Origin
from clusterstack.core.objects import ObjectRef, digest
from clusterstack.core.prune import NEVER
from clusterstack.core.views import PruneView
from clusterstack.engine.contents import Content
from clusterstack.engine.context import Context
from clusterstack.engine.layer import Layer
from clusterstack.engine.ledger import Ledger, Store
from clusterstack.engine.prune import sweep
from clusterstack.engine.uninstall import retire
from clusterstack.engine.wait import changed_or_later
from clusterstack.errors import ClusterStackError
from clusterstack.telemetry.logs import logger

LOG = logger(__name__)
AGAIN, CALM = 5.0, 600.0
LISTED = 10


class Sweeper:
    """Sweeps one stack. `contents` and `layers` give what its layers are to contain, and the layers at work."""

    def __init__(
        self,
        context: Context,
        store: Store,
        ledgers: dict[str, Ledger],
        *,
        contents: Callable[[], Mapping[str, Content]],
        layers: Callable[[], Mapping[str, Layer]],
    ) -> None:
        self._context, self._store, self._ledgers = context, store, ledgers
        self._contents, self._layers = contents, layers
        self._declared: tuple[frozenset[tuple[str, str]], set[str]] | None = None
        self._not_before = 0.0

    @property
    def key(self) -> tuple[str, str]:
        """The bus key on which is published that some layer is, or no longer is, applied in full."""
        return ("applied", self._context.stack)

    async def run(self) -> None:
        """Sweep whenever something may have become stale, until cancelled."""
        facts = self._context.cluster.facts
        while True:
            since = facts.now
            try:
                delay = await self._sweep()
            except Exception as error:  # the boundary of the sweep: a bug here must not end it for good
                expected = isinstance(error, ClusterStackError)
                extra = {"stack": self._context.stack, "error": str(error)}
                LOG.warning("sweep failed", extra=extra, exc_info=not expected)
                delay = AGAIN
            keys = [("stack", self._context.stack), self.key, *(("layer", name) for name in self._layers())]
            await changed_or_later(facts, keys, since, self._context.clock, delay)

    async def _sweep(self) -> float:
        """One sweep; seconds until the next one, if nothing happens before."""
        wanted = self._wanted()
        if wanted is None:
            return CALM
        layers, now = self._layers(), self._context.clock.now()
        waiting = {name for name, layer in layers.items() if not layer.applied}
        if waiting and now < self._not_before:
            return self._not_before - now
        self._not_before = now + AGAIN
        empty = {name for name in layers if not wanted[name]}
        kept = {name for name, layer in layers.items() if layer.content and not layer.content.spec.prune.enabled}
        left = 0 if waiting else await self._retire(wanted, kept | empty)
        left += (await sweep(self._context, self._ledgers, wanted, keeping=kept | empty | waiting))[1]
        for name, layer in layers.items():
            layer.show_prune(self._blocked(name, wanted) if name in empty - kept else None)
        await self._close_books()
        return AGAIN if left else CALM

    def _wanted(self) -> dict[str, set[ObjectRef]] | None:
        """Every object that is wanted, by layer; None while it is not known of some unit what it wants.

        A layer's own manifests are known before they are applied, what a release renders only afterwards.
        """
        contents, layers = self._contents(), self._layers()
        if not contents or set(contents) != set(layers):
            return None
        wanted: dict[str, set[ObjectRef]] = {name: set() for name in self._ledgers}
        for name, layer in layers.items():
            content = contents[name]
            if layer.content is not content or content.broken is not None or content.unknown_units or content.suspended:
                return None
            if content.releases and not layer.applied:
                return None
            wanted[name] = {item.ref for item in content.desired}
            if layer.applied:
                wanted[name] |= {ref for unit in layer.units for ref in unit.keeper.board.states}
        return wanted

    async def _retire(self, wanted: Mapping[str, set[ObjectRef]], spared: set[str]) -> int:
        """Uninstall the releases that are no longer declared; looked for when the declared ones have changed."""
        declared = frozenset(release.spec.key for content in self._contents().values() for release in content.releases)
        if (declared, spared) == self._declared:
            return 0
        left = await retire(self._context, self._ledgers, wanted, declared, spared=spared)
        self._declared = None if left else (declared, spared)
        return left

    def _blocked(self, name: str, wanted: Mapping[str, set[ObjectRef]]) -> PruneView | None:
        """What a layer would lose that suddenly renders nothing at all."""
        elsewhere = {ref for refs in wanted.values() for ref in refs}
        lost = sorted(
            entry.ref for entry in self._ledgers[name].entries() if entry.ref not in elsewhere and _perishable(entry)
        )
        if not lost:
            return None
        shown = ", ".join(str(ref) for ref in lost[:3]) + (f" and {len(lost) - 3} more" if len(lost) > 3 else "")
        return PruneView(
            digest=digest([ref.id for ref in lost]),
            count=len(lost),
            objects=tuple(str(ref) for ref in lost[:LISTED]),
            message=f"the layer renders nothing any more, so nothing is deleted: {shown} would be; "
            "to have them deleted, remove the layer from the stack",
        )

    async def _close_books(self) -> None:
        """Layers that are no more, and of which nothing is left, need no inventory."""
        done = [name for name, ledger in self._ledgers.items() if name not in self._contents() and not ledger.size]
        for name in done:
            del self._ledgers[name]
            await self._store.remove(name)


def _perishable(entry: Entry) -> bool:
    return entry.origin is Origin.CREATED and entry.ref.group_kind not in NEVER
