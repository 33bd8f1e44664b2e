"""One list and watch, kept going for ever: continued, resumed, listed again, backed off; its failures are its own."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import msgspec

from clusterstack.core.objects import ObjectRef
from clusterstack.errors import ApiError, ClusterStackError
from clusterstack.kube.client import KubeClient
from clusterstack.kube.live import Live, project_json, revision_of
from clusterstack.kube.resource import Resource

LANE = "observer"
SERVER_TIMEOUT = 290  # seconds, at most; each watch asks for a little less, so that not all end together
IDLE_TIMEOUT = 75.0  # the server sends a bookmark a minute: silence past that is a dead connection
POLL_PERIOD = 30.0  # for the few kinds that can be listed but not watched
STEADY_AFTER = 5.0  # a watch that lasted this long proves that all is well again


class StreamState(StrEnum):
    """Starting: nothing listed yet. Synced: absence means something. Degraded: it failed more than once in a row."""

    STARTING = "Starting"
    SYNCED = "Synced"
    DEGRADED = "Degraded"


@dataclass(frozen=True, slots=True)
class Selection:
    """What a stream shows; an empty namespace is all of them, empty selectors select all."""

    resource: Resource
    namespace: str = ""
    label_selector: str = ""
    field_selector: str = ""
    metadata_only: bool = False


class Sink(Protocol):
    """Who is told. `settled` follows each change of state, with the error that caused it, if any; `rewound` comes when
    the server's revisions went back (it was restored from a backup), before what it lists then.
    """

    def put(self, live: Live) -> None: ...

    def removed(self, ref: ObjectRef, revision: int) -> None: ...

    def relisted(self, seen: set[ObjectRef], revision: int) -> None: ...

    def rewound(self) -> None: ...

    def settled(self, state: StreamState, error: ClusterStackError | None) -> None: ...


class _ListMetadata(msgspec.Struct, rename="camel"):
    resource_version: str = ""


class _Page(msgspec.Struct):
    metadata: _ListMetadata
    items: list[msgspec.Raw] | None = None


class _Event(msgspec.Struct):
    type: str
    object: msgspec.Raw


class _Bookmark(msgspec.Struct):
    metadata: _ListMetadata


class _Status(msgspec.Struct):
    code: int = 500
    reason: str = ""
    message: str = ""


_page = msgspec.json.Decoder(_Page)
_event = msgspec.json.Decoder(_Event)
_bookmark = msgspec.json.Decoder(_Bookmark)
_status = msgspec.json.Decoder(_Status)


class Backoff:
    """Pauses that double from `least` to `most` seconds, each with up to half of itself as jitter."""

    def __init__(self, least: float, most: float) -> None:
        self._least, self._most = least, most
        self._next = least

    def pause(self) -> float:
        pause, self._next = self._next, min(self._next * 2, self._most)
        return pause * (1 + 0.5 * random.random())  # noqa: S311 - spreads retries, protects nothing

    def reset(self) -> None:
        self._next = self._least


class Stream:
    """Runs one selection. `resolve` gives the kind as served now; `rest` sleeps, but not past a change in that."""

    def __init__(
        self,
        client: KubeClient,
        selection: Selection,
        sink: Sink,
        *,
        resolve: Callable[[], Resource | None],
        rest: Callable[[float], Awaitable[None]],
        backoff: tuple[float, float] = (0.25, 30.0),
    ) -> None:
        self._client = client
        self._selection = selection
        self._sink = sink
        self._resolve = resolve
        self._rest = rest
        self._backoff = Backoff(*backoff)
        self._failures = 0
        self._broken = False  # the last connection did not end as agreed
        self._highest = 0  # revision seen here
        self._version = ""  # of the last event; empty: list first
        self.state = StreamState.STARTING
        self.error: ClusterStackError | None = None

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self._once()
            except ClusterStackError as error:
                self._failed(error)
            except Exception as error:  # a defect here must not end the sight of one kind, nor hide
                self._failed(ClusterStackError(f"defect in a watch: {error!r}", reason="Defect"))
            else:
                continue
            await self._rest(self._backoff.pause())

    async def _once(self) -> None:
        selection = self._selection
        if not self._version:
            self._selection = selection = _as_served(selection, self._resolve())
            self._version = await self._list()
            self._settle(StreamState.SYNCED, None)
        elif self._broken:
            await self._check_time()
        self._broken = False
        if "watch" not in selection.resource.verbs:
            self._version = ""
            await asyncio.sleep(POLL_PERIOD)
            return
        await self._watch()

    def _failed(self, error: ClusterStackError) -> None:
        self._broken = True
        if isinstance(error, ApiError):
            self._version = ""  # whatever the server objects to, a list starts afresh
            if error.status == 410:
                self._backoff.reset()
                return
        self._failures += 1
        if self._failures > 1 or self.state is StreamState.STARTING or isinstance(error, ApiError):
            self._settle(StreamState.DEGRADED, error)

    def _settle(self, state: StreamState, error: ClusterStackError | None) -> None:
        if (state, str(error)) == (self.state, str(self.error)):
            return
        self.state, self.error = state, error
        self._sink.settled(state, error)

    async def _list(self) -> str:
        seen: set[ObjectRef] = set()
        version = ""
        selection = self._selection
        query = {"labelSelector": selection.label_selector, "fieldSelector": selection.field_selector}
        pages = self._client.pages(
            selection.resource, selection.namespace, query=query, metadata_only=selection.metadata_only, lane=LANE
        )
        async for body in pages:
            page = _page.decode(body)
            if not version:
                version = page.metadata.resource_version
                self._began_at(revision_of(version))
            for item in page.items or ():
                live = project_json(selection.resource, item)
                seen.add(live.ref)
                self._sink.put(live)
        self._sink.relisted(seen, revision_of(version))
        return version or "0"

    async def _check_time(self) -> None:
        """After a break: a server restored from a backup would let our watch sleep until its revisions catch up."""
        pages = self._client.pages(
            self._selection.resource, self._selection.namespace, query={}, metadata_only=True, lane=LANE, limit=1
        )
        async for body in pages:
            self._believe(_page.decode(body).metadata.resource_version)
            return

    def _believe(self, version: str) -> None:
        if 0 < revision_of(version) < self._highest:
            raise ApiError(
                f"{self._selection.resource}: the server's revisions went back to {version}",
                status=410,
                reason="Expired",
            )

    def _began_at(self, revision: int) -> None:
        """A list is as new as anything seen before it, or the server has gone back in time."""
        if revision < self._highest:
            self._sink.rewound()
        self._highest = revision

    async def _watch(self) -> None:
        """One watch, from the last version seen to its end, whichever way it ends."""
        clock = asyncio.get_running_loop().time
        began = clock()
        query = {
            "labelSelector": self._selection.label_selector,
            "fieldSelector": self._selection.field_selector,
            "resourceVersion": self._version,
            "timeoutSeconds": str(SERVER_TIMEOUT - random.randrange(50)),  # noqa: S311 - jitter
        }
        lines = self._client.watch(
            self._selection.resource,
            self._selection.namespace,
            query=query,
            metadata_only=self._selection.metadata_only,
            idle=IDLE_TIMEOUT,
        )
        async with aclosing(lines):
            async for line in lines:
                self._failures = 0
                self._settle(StreamState.SYNCED, None)
                if line and self._selection != _as_served(self._selection, self._resolve()):
                    self._version = ""  # a watch outlives its version; what it shows is better read in the served one
                    return
                if line:
                    self._received(line)
                    self._backoff.reset()
        if clock() - began >= STEADY_AFTER:
            self._backoff.reset()
        else:
            await self._rest(self._backoff.pause())

    def _received(self, line: bytes) -> None:
        event = _event.decode(line)
        match event.type:
            case "ADDED" | "MODIFIED":
                live = project_json(self._selection.resource, event.object)
                self._continue_from(live.resource_version)
                self._sink.put(live)
            case "DELETED":
                live = project_json(self._selection.resource, event.object)
                self._continue_from(live.resource_version)
                self._sink.removed(live.ref, live.revision)
            case "BOOKMARK":
                version = _bookmark.decode(event.object).metadata.resource_version
                self._believe(version)
                self._continue_from(version)
            case _:
                status = _status.decode(event.object)
                raise ApiError(
                    f"watch of {self._selection.resource} ended: {status.message or event.type}",
                    status=status.code,
                    reason=status.reason or "WatchError",
                )

    def _continue_from(self, version: str) -> None:
        self._version = version or self._version
        self._highest = max(self._highest, revision_of(version))


def _as_served(selection: Selection, served: Resource | None) -> Selection:
    """The selection in the version that is served now: a CustomResourceDefinition may drop the one we began with."""
    if served is None or served == selection.resource:
        return selection
    return Selection(
        served, selection.namespace, selection.label_selector, selection.field_selector, selection.metadata_only
    )
