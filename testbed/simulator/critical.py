"""The simulated critical path: how long the controllers alone need, given their delays and what each waits for.

Worked out from a journal, as if every object had been applied the moment its group was allowed to start: nothing of
what the operator under test did, or how long it took, is in it. Workloads count with the time that their pods took.
"""

from __future__ import annotations

import datetime as dt
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

Entry = Mapping[str, Any]
_END = sys.maxsize


class Item(NamedTuple):
    """An object, as the journal names it."""

    kind: str
    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class Group:
    """What starts together: a layer, or a release in it.

    `after` names groups and `needs` objects that must be done first; a group that is `part_of` another holds up that
    one's end and starts no sooner than it.
    """

    name: str
    after: Sequence[str] = ()
    needs: Sequence[Item] = ()
    part_of: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """One object on the path, and the second at which it is done."""

    item: Item
    done: float


@dataclass(frozen=True, slots=True)
class CriticalPath:
    seconds: float
    steps: tuple[Step, ...]


class CycleError(ValueError):
    """Groups that wait for one another."""


def critical_path(
    entries: Iterable[Entry], groups: Iterable[Group], group_of: Callable[[Item], str | None]
) -> CriticalPath:
    """`group_of`: the group with which an object is applied; None for what controllers make. Raises CycleError."""
    model = _Model(_read(entries), {group.name: group for group in groups}, group_of)
    return model.path()


class _Need(NamedTuple):
    """`passed`: how much of the object's own delay was over; `begun`: not for it to be healthy, only to be there.

    `line` is where the journal says so: what comes later in it depends on this need, what came before does not.
    """

    passed: float
    item: Item
    line: int = -1
    begun: bool = False


@dataclass(slots=True)
class _Track:
    """What the journal says about one object. `first` is the line that names it first, `noticed` that of its
    controller's first word on it."""

    needs: list[_Need] = field(default_factory=list)
    total: float = 0.0
    maker: _Need | None = None
    healthy: bool = False
    first: int = _END
    noticed: int = _END


class _When(NamedTuple):
    seconds: float
    because: Item | None


_START = _When(0.0, None)


class _Model:
    def __init__(
        self, tracks: dict[Item, _Track], groups: dict[str, Group], group_of: Callable[[Item], str | None]
    ) -> None:
        self._tracks = tracks
        self._groups = groups
        self._members: dict[str, list[Item]] = {name: [] for name in groups}
        self._group_of = {item: group_of(item) for item in tracks}
        for item, name in self._group_of.items():
            if name in self._members and tracks[item].healthy:
                self._members[name].append(item)
        self._moments: dict[tuple[Item, float, int], _When] = {}
        self._starts: dict[str, _When] = {}
        self._open: set[object] = set()

    def path(self) -> CriticalPath:
        last = _latest(_When(self.done(item).seconds, item) for members in self._members.values() for item in members)
        steps: list[Step] = []
        item = last.because
        while item is not None and all(step.item != item for step in steps):
            when = self.done(item)
            steps.append(Step(item, when.seconds))
            item = when.because
        return CriticalPath(last.seconds, tuple(reversed(steps)))

    def done(self, item: Item) -> _When:
        return self._at(item, self._tracks.get(item, _Track()).total, _END)

    def _at(self, item: Item, passed: float, line: int) -> _When:
        """When `passed` seconds of an object's delay are over, as far as the journal before `line` matters."""
        key = item, passed, line
        if key not in self._moments:
            if key in self._open:
                return _START  # guarded kinds may stand behind their own webhook: whoever asked first is the later one
            self._open.add(key)
            track = self._tracks.get(item, _Track())
            needs = (need for need in track.needs if need.line < line and need.item != item)
            begin = self._begin(item, track)
            moments = [_When(self._met(need) + passed - need.passed, need.item) for need in needs]
            self._moments[key] = _latest([_When(begin.seconds + passed, begin.because), *moments])
            self._open.discard(key)
        return self._moments[key]

    def _met(self, need: _Need) -> float:
        if not need.begun:
            return self.done(need.item).seconds
        return self._at(need.item, 0.0, self._tracks.get(need.item, _Track()).noticed).seconds

    def _begin(self, item: Item, track: _Track) -> _When:
        name = self._group_of.get(item)
        if name in self._groups:
            return self._start(name)
        if track.maker is None:
            return _START
        passed, maker, line, _ = track.maker
        if maker.kind == "Deployment":  # an operator that makes something once it is up
            return _When(self.done(maker).seconds + passed, maker)
        return _When(self._at(maker, passed, line).seconds, maker)

    def _start(self, name: str) -> _When:
        if name not in self._starts:
            if name in self._open:
                raise CycleError(f"group {name} waits for itself")
            self._open.add(name)
            group = self._groups[name]
            moments = [_START, *(_When(self.done(item).seconds, item) for item in group.needs)]
            moments += [self._end(before) for before in group.after]
            if group.part_of:
                moments.append(self._start(group.part_of))
            self._starts[name] = _latest(moments)
            self._open.discard(name)
        return self._starts[name]

    def _end(self, name: str) -> _When:
        inside = [name, *(group.name for group in self._groups.values() if group.part_of == name)]
        ends = [_When(self.done(item).seconds, item) for part in inside for item in self._members[part]]
        return _latest([self._start(name), *ends])


def _latest(moments: Iterable[_When]) -> _When:
    return max(moments, key=lambda moment: moment.seconds, default=_START)


def _read(entries: Iterable[Entry]) -> dict[Item, _Track]:
    tracks: dict[Item, _Track] = {}
    started: dict[Item, Entry] = {}
    guards: list[tuple[str, Item, int]] = []
    kinds: dict[Item, str] = {}
    for line, entry in enumerate(entries):
        item = Item(entry["kind"], entry["namespace"], entry["name"])
        track = tracks.setdefault(item, _Track())
        track.first = min(track.first, line)
        kinds[item] = f"{entry['kind']}.{entry['apiVersion'].rpartition('/')[0]}"
        if entry["state"] in ("progressing", "healthy"):
            track.noticed = min(track.noticed, line)
        match entry["state"]:
            case "seen":
                started.setdefault(item, entry)
            case "created":
                track.maker = _Need(entry["waited"], _item(entry["by"]), line)
            case "unblocked" if not track.healthy:
                needed = _item(entry["waitedFor"])
                track.needs.append(_Need(entry["waited"], needed, line, bool(entry.get("begun"))))
                started[item] = entry
            case "healthy" if not track.healthy:
                track.healthy = True
                track.total = _total(entry, started.get(item))
                track.needs += [_Need(0.0, needed) for needed in _behind(entry)]
                guards += [(kind, item, line) for kind in entry.get("guards", ())]
    for item, track in tracks.items():
        # What was there before the webhook answered has not been held up by it.
        guarded = (webhook for kind, webhook, line in guards if kind == kinds[item] and track.first > line)
        track.needs += [_Need(0.0, webhook) for webhook in guarded]
    return tracks


def _item(named: Mapping[str, str]) -> Item:
    return Item(named["kind"], named["namespace"], named["name"])


def _total(entry: Entry, started: Entry | None) -> float:
    """Seconds of delay; for what is not played but watched, the seconds it took once nothing was in its way."""
    if "waited" in entry:
        return float(entry["waited"])
    return _time(entry) - _time(started) if started is not None else 0.0


def _behind(entry: Entry) -> list[Item]:
    """What a webhook consists of."""
    deployments = [Item("Deployment", entry["namespace"], name) for name in entry.get("deployments", ())]
    secret = entry.get("secret")
    return [*deployments, Item("Secret", entry["namespace"], secret)] if secret else deployments


def _time(entry: Entry) -> float:
    return dt.datetime.fromisoformat(entry["time"]).timestamp()
