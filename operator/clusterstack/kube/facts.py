"""The numbered bus: what changed, and a way to wait for it that cannot miss a change.

A reader notes `bus.now`, looks at the facts, and then waits for its keys *since that number*. A change that fell
between the look and the wait has a higher number, so the wait returns at once.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Collection, Hashable, Iterable
from types import TracebackType
from typing import Self

from clusterstack.core.objects import GroupKind, ObjectRef


def object_key(ref: ObjectRef) -> tuple[str, ObjectRef]:
    """The key of one object: its cache entry changed, appeared or went."""
    return ("object", ref)


def kind_key(group_kind: GroupKind) -> tuple[str, GroupKind]:
    """The key of one kind: whether, and in which versions, it is served."""
    return ("kind", group_kind)


class Bus:
    """Publishes keys under rising numbers.

    Numbers of the longest unchanged keys are forgotten past `capacity`; whoever asks for such a key since a number
    before the forgotten one is woken without need, never the other way round.
    """

    def __init__(self, capacity: int = 200_000) -> None:
        self.now = 0
        self._capacity = capacity
        self._forgotten = 0  # highest number of any forgotten key
        self._numbers: OrderedDict[Hashable, int] = OrderedDict()
        self._readers: dict[Hashable, set[Subscription]] = {}

    def publish(self, key: Hashable) -> int:
        """Marks a key as changed, wakes its readers, and returns the change's number."""
        self.now += 1
        self._numbers[key] = self.now
        self._numbers.move_to_end(key)
        if len(self._numbers) > self._capacity:
            self._forgotten = self._numbers.popitem(last=False)[1]
        for reader in self._readers.get(key, ()):
            reader.mark(key)
        return self.now

    def changed_since(self, key: Hashable, since: int) -> bool:
        """Whether a key changed, or may have changed, after that number."""
        return self._numbers.get(key, self._forgotten) > since

    async def wait(self, keys: Collection[Hashable], since: int) -> frozenset[Hashable]:
        """Returns those of the keys that changed after `since`, as soon as there is one."""
        with self.subscribe(keys, since=since) as subscription:
            return await subscription.changed()

    def subscribe(self, keys: Iterable[Hashable] = (), *, since: int | None = None) -> Subscription:
        """A standing wait, for readers of many keys; `since` defaults to now. Close it, or use it in a `with`."""
        subscription = Subscription(self)
        subscription.add(keys, self.now if since is None else since)
        return subscription

    def attach(self, key: Hashable, reader: Subscription) -> None:
        """For subscriptions: from now on, tell this reader of the key's changes."""
        self._readers.setdefault(key, set()).add(reader)

    def detach(self, key: Hashable, reader: Subscription) -> None:
        """For subscriptions: undoes `attach`."""
        readers = self._readers.get(key)
        if readers is not None:
            readers.discard(reader)
            if not readers:
                del self._readers[key]


class Subscription:
    """One reader's keys, and those of them that changed since it last asked."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._keys: set[Hashable] = set()
        self._dirty: set[Hashable] = set()
        self._wake = asyncio.Event()

    def add(self, keys: Iterable[Hashable], since: int) -> None:
        """Follows more keys; those that changed after `since` count as changed."""
        for key in keys:
            self._keys.add(key)
            self._bus.attach(key, self)
            if self._bus.changed_since(key, since):
                self.mark(key)

    def discard(self, keys: Iterable[Hashable]) -> None:
        """Stops following keys; changes of them that were not taken yet are dropped."""
        for key in keys:
            self._keys.discard(key)
            self._dirty.discard(key)
            self._bus.detach(key, self)

    def mark(self, key: Hashable) -> None:
        """Counts a key as changed; the bus calls it, and a reader may, to wake itself."""
        self._dirty.add(key)
        self._wake.set()

    def take(self) -> frozenset[Hashable]:
        """What changed since the last call; empty if nothing did."""
        changed = frozenset(self._dirty)
        self._dirty.clear()
        self._wake.clear()
        return changed

    async def changed(self) -> frozenset[Hashable]:
        """Waits until something changed, then returns all of it."""
        while not self._dirty:
            self._wake.clear()
            await self._wake.wait()
        return self.take()

    def close(self) -> None:
        self.discard(tuple(self._keys))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
