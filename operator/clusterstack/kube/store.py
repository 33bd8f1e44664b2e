"""The cache of live objects: fed by watches and by the answers of our own writes, in whatever order these arrive.

Resource versions decide: nothing older than what is known gets in. An object leaves when no watch sees it any more;
what is known to be gone leaves a tombstone, so that a late event cannot bring it back.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from clusterstack.core.objects import JOB, GroupKind, ObjectRef
from clusterstack.kube.facts import Bus, object_key
from clusterstack.kube.live import Live

TOMBSTONES = 20_000


@dataclass(frozen=True, slots=True)
class Tombstone:
    """An object that is gone. `final`: our own delete was answered, this UID cannot come back. Otherwise it is a hint,
    by a DELETED event or by absence from a list: a stripped label looks the same. `last` is how a Job was last seen:
    those with a time to live are deleted because of what they had come to.
    """

    uid: str
    revision: int
    final: bool
    last: Live | None = None


@dataclass(slots=True, eq=False)
class View:
    """What one watch sees: which objects it would select, and which it has seen."""

    group_kind: GroupKind
    selects: Callable[[Live], bool]
    members: set[ObjectRef] = field(default_factory=set)


class Store:
    """Live objects by kind and name; publishes `object_key(ref)` on every change."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._kinds: dict[GroupKind, dict[ObjectRef, Live]] = {}
        self._views: dict[GroupKind, set[View]] = {}
        self._tombstones: OrderedDict[ObjectRef, Tombstone] = OrderedDict()

    def get(self, ref: ObjectRef) -> Live | None:
        return self._kinds.get(ref.group_kind, {}).get(ref)

    def list(self, group_kind: GroupKind) -> tuple[Live, ...]:
        return tuple(self._kinds.get(group_kind, {}).values())

    def members(self, view: View) -> tuple[Live, ...]:
        """What a watch sees now."""
        entries = self._kinds.get(view.group_kind, {})
        return tuple(entries[ref] for ref in view.members if ref in entries)

    def tombstone(self, ref: ObjectRef) -> Tombstone | None:
        return self._tombstones.get(ref)

    def open(self, view: View) -> None:
        """A watch begins."""
        self._views.setdefault(view.group_kind, set()).add(view)

    def close(self, view: View) -> None:
        """A watch ends; what only it saw leaves the cache, unpublished, because nobody looks any more."""
        views = self._views.get(view.group_kind, set())
        views.discard(view)
        entries = self._kinds.get(view.group_kind, {})
        for ref in view.members:
            if not self._is_seen(ref):
                entries.pop(ref, None)
        view.members.clear()
        if not views:
            self._views.pop(view.group_kind, None)
            self._kinds.pop(view.group_kind, None)

    def put(self, view: View, live: Live) -> bool:
        """A watch or list showed an object; false if that is old news."""
        if not self._admits(live):
            return False
        view.members.add(live.ref)
        return self._enter(live)

    def absorb(self, live: Live) -> Live | None:
        """An answer of the server showed an object: what is known now, or None if the object is known to be gone.

        It is kept only if some watch would see it, so that whatever is kept is also kept up to date.
        """
        if not self._admits(live):
            return None
        views = [view for view in self._views.get(live.ref.group_kind, ()) if view.selects(live)]
        for view in views:
            view.members.add(live.ref)
        if views:
            self._enter(live)
        return self.get(live.ref) or live

    def remove(self, view: View, ref: ObjectRef, revision: int) -> None:
        """A watch sees an object no more, as of a revision."""
        known = self.get(ref)
        if known is not None and known.revision > revision > 0:
            return  # it was written again since
        view.members.discard(ref)
        if known is None or self._is_seen(ref):
            return
        del self._kinds[ref.group_kind][ref]
        self._bury(ref, Tombstone(known.uid, revision, final=False, last=known if ref.group_kind == JOB else None))

    def relisted(self, view: View, seen: Iterable[ObjectRef], revision: int) -> None:
        """A list is complete: whatever of the watch it did not show, and nothing newer brought in, is seen no more."""
        for ref in view.members.difference(seen):
            self.remove(view, ref, revision)

    def rewind(self, view: View) -> None:
        """The server went back in time (restored from a backup): what this watch saw, and what is buried, is void."""
        for ref in [ref for ref in self._tombstones if ref.group_kind == view.group_kind]:
            del self._tombstones[ref]
        entries = self._kinds.get(view.group_kind, {})
        for ref in view.members:
            entries.pop(ref, None)
            self._bus.publish(object_key(ref))
        view.members.clear()

    def forget(self, ref: ObjectRef, uid: str) -> None:
        """Our delete was answered: this very object is gone for good."""
        known = self.get(ref)
        if known is not None and known.uid != uid:
            return
        for view in self._views.get(ref.group_kind, ()):
            view.members.discard(ref)
        self._kinds.get(ref.group_kind, {}).pop(ref, None)
        self._bury(ref, Tombstone(uid, known.revision if known else 0, final=True))

    def _admits(self, live: Live) -> bool:
        grave = self._tombstones.get(live.ref)
        if grave is None:
            return True
        if live.uid == grave.uid and (grave.final or live.revision <= grave.revision):
            return False
        return not 0 < live.revision <= grave.revision

    def _enter(self, live: Live) -> bool:
        known = self.get(live.ref)
        if known is not None and _is_old_news(live, known):
            return False
        self._tombstones.pop(live.ref, None)
        self._kinds.setdefault(live.ref.group_kind, {})[live.ref] = live
        self._bus.publish(object_key(live.ref))
        return True

    def _bury(self, ref: ObjectRef, grave: Tombstone) -> None:
        old = self._tombstones.get(ref)
        if old is None or not old.final or old.uid != grave.uid:
            self._tombstones[ref] = grave
            if len(self._tombstones) > TOMBSTONES:
                self._tombstones.popitem(last=False)
        self._bus.publish(object_key(ref))

    def _is_seen(self, ref: ObjectRef) -> bool:
        return any(ref in view.members for view in self._views.get(ref.group_kind, ()))


def _is_old_news(live: Live, known: Live) -> bool:
    """Whether an object as shown is no newer than as known; a server that does not number its objects is believed."""
    if live.revision == 0:
        return live == known
    if live.revision == known.revision:
        return live.api_version == known.api_version  # the same state in another version: the watch's version wins
    return live.revision < known.revision
