"""Which unit of a stack has which object, when several render it: one owner, who stays the owner; the others say so."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from clusterstack.core.objects import ObjectRef

MANIFESTS = ""


@dataclass(frozen=True, slots=True)
class Holder:
    """A unit: a layer and the id of one of its releases, or its own manifests (empty)."""

    layer: str
    unit: str

    def __str__(self) -> str:
        return f"release {self.unit}" if self.unit else f"the manifests of layer {self.layer}"


@dataclass(slots=True)
class Claims:
    """Objects by owner. What the inventories say at the start holds, so that a restart changes no owner."""

    holders: dict[ObjectRef, Holder] = field(default_factory=dict)
    _held: dict[Holder, set[ObjectRef]] = field(default_factory=lambda: defaultdict(set))
    _news: set[str] = field(default_factory=set)

    def seed(self, ref: ObjectRef, holder: Holder) -> None:
        """The owner as the inventory knows it."""
        if self.holders.setdefault(ref, holder) == holder:
            self._held[holder].add(ref)

    def claim(self, holder: Holder, refs: Collection[ObjectRef]) -> dict[ObjectRef, Holder]:
        """Claim what a unit renders, give up what it no longer does; what somebody else has, by owner.

        A layer's own manifests are known before anything is applied and take precedence over releases.
        """
        for ref in self._held[holder] - set(refs):
            self._free(ref)
        taken: dict[ObjectRef, Holder] = {}
        for ref in refs:
            owner = self.holders.get(ref)
            if owner is not None and owner != holder and holder.unit != MANIFESTS:
                taken[ref] = owner
            elif owner != holder:
                self._give(ref, holder)
        return taken

    def keep(self, holders: Iterable[Holder]) -> None:
        """Forget the claims of units that are no more."""
        known = set(holders)
        for ref in [ref for ref, holder in self.holders.items() if holder not in known]:
            self._free(ref)

    def news(self) -> frozenset[str]:
        """The releases that lost an object since the last call; an empty id says that some object became free."""
        news = frozenset(self._news)
        self._news.clear()
        return news

    def _give(self, ref: ObjectRef, holder: Holder) -> None:
        before = self.holders.get(ref)
        if before is not None:
            self._held[before].discard(ref)
            self._news.add(before.unit)
        self.holders[ref] = holder
        self._held[holder].add(ref)

    def _free(self, ref: ObjectRef) -> None:
        self._held[self.holders.pop(ref)].discard(ref)
        self._news.add("")
