"""One list and watch: what it does when the server misbehaves."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from typing import Any, cast

from clusterstack.core.objects import ObjectRef
from clusterstack.errors import ApiError, ClusterStackError, TransportError
from clusterstack.kube.client import KubeClient
from clusterstack.kube.live import Live
from clusterstack.kube.resource import Resource
from clusterstack.kube.stream import Selection, Stream, StreamState
from tests.virtual_time import run

KIND = Resource("example.dev", "v1", "Thing", "things", namespaced=True)
REF = ObjectRef("example.dev", "Thing", "shop", "web")


def thing(revision: int, name: str = "web") -> dict[str, Any]:
    return {"metadata": {"namespace": "shop", "name": name, "uid": f"u-{name}", "resourceVersion": str(revision)}}


def listed(revision: int, *items: dict[str, Any]) -> bytes:
    return json.dumps({"metadata": {"resourceVersion": str(revision)}, "items": items}).encode()


def event(kind: str, value: dict[str, Any]) -> bytes:
    return json.dumps({"type": kind, "object": value}).encode()


def bookmark(revision: int) -> bytes:
    return event("BOOKMARK", {"metadata": {"resourceVersion": str(revision)}})


def error(code: int) -> bytes:
    return event("ERROR", {"kind": "Status", "code": code, "message": "trouble"})


OPEN = b""
HANG = object()
Step = bytes | Exception | object


class Script:
    """Answers lists and watches from two scripts, and notes what was asked; a watch past its script hangs."""

    def __init__(self, lists: list[bytes | Exception], watches: list[list[Step]]) -> None:
        self.lists, self.watches = lists, watches
        self.asked: list[str] = []
        self.now = 1000  # the revision that a check finds

    async def pages(
        self, resource: Resource, namespace: str = "", *, limit: int = 500, **_: Any
    ) -> AsyncIterator[bytes]:
        if limit == 1:
            self.asked.append("check")
            yield listed(self.now)
            return
        self.asked.append(f"list {resource.api_version}")
        step = self.lists.pop(0)
        if isinstance(step, Exception):
            raise step
        yield step

    async def watch(
        self, resource: Resource, namespace: str = "", *, query: Mapping[str, str], **_: Any
    ) -> AsyncGenerator[bytes, None]:
        self.asked.append(f"watch {query['resourceVersion']}")
        for step in self.watches.pop(0) if self.watches else [OPEN, HANG]:
            if isinstance(step, Exception):
                raise step
            if step is HANG:
                await asyncio.Event().wait()
            yield cast("bytes", step)


class Notes:
    """A sink that writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.states: list[StreamState] = []

    def put(self, live: Live) -> None:
        self.told.append(f"put {live.ref.name} {live.revision}")

    def removed(self, ref: ObjectRef, revision: int) -> None:
        self.told.append(f"removed {ref.name} {revision}")

    def relisted(self, seen: set[ObjectRef], revision: int) -> None:
        self.told.append(f"relisted {sorted(ref.name for ref in seen)} {revision}")

    def rewound(self) -> None:
        self.told.append("rewound")

    def settled(self, state: StreamState, error: ClusterStackError | None) -> None:
        self.states.append(state)


def play(
    lists: list[bytes | Exception],
    watches: list[list[Step]],
    *,
    resource: Resource = KIND,
    served: Resource | None = KIND,
    resolve: Callable[[], Resource | None] | None = None,
    notes: Notes | None = None,
    seconds: float = 60,
) -> tuple[Script, Notes]:
    notes = notes or Notes()

    async def scenario() -> tuple[Script, Notes]:
        script = Script(lists, watches)
        stream = Stream(
            cast("KubeClient", script),
            Selection(resource),
            notes,
            resolve=resolve or (lambda: served),
            rest=asyncio.sleep,
        )
        task = asyncio.create_task(stream.run())
        asyncio.get_running_loop().call_later(seconds, task.cancel)
        await asyncio.gather(task, return_exceptions=True)
        return script, notes

    return run(scenario())


def test_it_lists_then_watches_from_there() -> None:
    events: list[Step] = [OPEN, event("MODIFIED", thing(12)), event("DELETED", thing(13)), HANG]
    script, notes = play([listed(10, thing(5))], [events])
    assert script.asked == ["list example.dev/v1", "watch 10"]
    assert notes.told == ["put web 5", "relisted ['web'] 10", "put web 12", "removed web 13"]
    assert notes.states == [StreamState.SYNCED]


def test_it_continues_from_the_last_bookmark_when_the_server_ends_a_watch() -> None:
    script, notes = play([listed(10)], [[OPEN, event("ADDED", thing(12)), bookmark(40)], [OPEN, HANG]])
    assert script.asked == ["list example.dev/v1", "watch 10", "watch 40"]
    assert notes.states == [StreamState.SYNCED]


def test_a_broken_connection_is_resumed_without_a_list() -> None:
    broken = TransportError("reset", reason="Disconnected")
    script, notes = play([listed(10)], [[OPEN, event("ADDED", thing(12)), broken], [OPEN, HANG]])
    assert script.asked == ["list example.dev/v1", "watch 10", "check", "watch 12"]
    assert notes.states == [StreamState.SYNCED]


def test_a_connection_that_stays_broken_is_told_and_so_is_its_return() -> None:
    broken = TransportError("reset", reason="Disconnected")
    _script, notes = play([listed(10)], [[broken], [broken], [broken], [OPEN, HANG]])
    assert notes.states == [StreamState.SYNCED, StreamState.DEGRADED, StreamState.SYNCED]


def test_too_old_a_version_is_listed_again_at_once() -> None:
    for watches in ([[OPEN, error(410)]], [[ApiError("gone", status=410, reason="Expired")]]):
        script, notes = play([listed(10, thing(5)), listed(50)], cast("list[list[Step]]", watches), seconds=2)
        assert script.asked == ["list example.dev/v1", "watch 10", "list example.dev/v1", "watch 50"]
        assert notes.told[-1] == "relisted [] 50"
        assert notes.states == [StreamState.SYNCED]


def test_any_error_event_is_survived_by_listing_again() -> None:
    for code in (500, 429, 504):
        script, notes = play([listed(10), listed(20)], [[OPEN, error(code)]])
        assert script.asked == ["list example.dev/v1", "watch 10", "list example.dev/v1", "watch 20"]
        assert notes.states == [StreamState.SYNCED, StreamState.DEGRADED, StreamState.SYNCED]


def test_a_forbidden_or_missing_kind_is_tried_again_with_growing_pauses() -> None:
    for status, reason in ((403, "Forbidden"), (404, "KindNotServed"), (500, "InternalError")):
        failures: list[bytes | Exception] = [ApiError("no", status=status, reason=reason) for _ in range(100)]
        script, notes = play(failures, [], seconds=300)
        assert notes.states == [StreamState.DEGRADED]
        assert 10 <= len(script.asked) <= 17


def test_a_version_no_longer_served_is_replaced_by_the_one_that_is() -> None:
    newer = Resource("example.dev", "v2", "Thing", "things", namespaced=True)
    script, _notes = play([listed(10)], [], served=newer)
    assert script.asked == ["list example.dev/v2", "watch 10"]


def test_a_watch_changes_over_when_another_version_is_preferred() -> None:
    newer = Resource("example.dev", "v2", "Thing", "things", namespaced=True)
    served = [KIND]

    class Upgraded(Notes):
        def relisted(self, seen: set[ObjectRef], revision: int) -> None:
            super().relisted(seen, revision)
            served[:] = [newer]

    events: list[Step] = [OPEN, event("ADDED", thing(12)), HANG]
    script, notes = play([listed(10), listed(12, thing(12))], [events], resolve=lambda: served[0], notes=Upgraded())
    assert script.asked == ["list example.dev/v1", "watch 10", "list example.dev/v2", "watch 12"]
    assert notes.told == ["relisted [] 10", "put web 12", "relisted ['web'] 12"]


def test_a_server_that_went_back_in_time_is_noticed_before_its_objects_are_told() -> None:
    _script, notes = play([listed(50, thing(45)), listed(20, thing(15))], [[OPEN, error(410)]])
    assert notes.told == ["put web 45", "relisted ['web'] 50", "rewound", "put web 15", "relisted ['web'] 20"]


def test_a_break_is_used_to_see_whether_the_server_went_back_in_time() -> None:
    broken = TransportError("reset", reason="Disconnected")
    script, notes = play([listed(5000, thing(45)), listed(1000)], [[OPEN, broken], [OPEN, HANG]])
    assert script.asked == ["list example.dev/v1", "watch 5000", "check", "list example.dev/v1", "watch 1000"]
    assert notes.told[-2:] == ["rewound", "relisted [] 1000"]


def test_a_bookmark_from_the_past_is_a_server_that_went_back() -> None:
    script, notes = play([listed(5000), listed(1000)], [[OPEN, bookmark(900)], [OPEN, HANG]])
    assert script.asked == ["list example.dev/v1", "watch 5000", "list example.dev/v1", "watch 1000"]
    assert "rewound" in notes.told


def test_what_cannot_be_read_does_not_end_the_stream() -> None:
    script, notes = play([listed(10)], [[OPEN, b"{torn"], [OPEN, event("ADDED", thing(12)), HANG]])
    assert notes.told[-1] == "put web 12"
    assert script.asked[-1] == "watch 10"


def test_watches_that_end_at_once_are_not_repeated_hotly() -> None:
    script, _notes = play([listed(10)], [[OPEN] for _ in range(1000)], seconds=60)
    assert len(script.asked) < 15


def test_a_kind_that_cannot_be_watched_is_listed_now_and_then() -> None:
    unwatched = Resource("example.dev", "v1", "Thing", "things", namespaced=True, verbs=frozenset({"get", "list"}))
    pages: list[bytes | Exception] = [listed(number) for number in range(10, 20)]
    script, _notes = play(pages, [], resource=unwatched, served=unwatched, seconds=100)
    assert script.asked == ["list example.dev/v1"] * 4
