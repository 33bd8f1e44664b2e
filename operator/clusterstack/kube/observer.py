"""Watches, shared and counted, and the facts they bring: the eyes of the engine."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Protocol, Self

from clusterstack.core.objects import GroupKind, Manifest, ObjectRef
from clusterstack.errors import ClusterStackError
from clusterstack.kube.client import KubeClient
from clusterstack.kube.discovery import Discovery
from clusterstack.kube.facts import Bus, kind_key
from clusterstack.kube.live import Live, project, project_json
from clusterstack.kube.resource import API_SERVICE, CUSTOM_RESOURCE_DEFINITION, Resource, metadata_only
from clusterstack.kube.store import Store, Tombstone, View
from clusterstack.kube.stream import Selection, Stream, StreamState

MANAGED = "clusterstack.dev/stack"  # the label that every object of ours carries
LINGER = 30.0  # seconds a watch outlives its last reader: new content asks for the same again


@dataclass(frozen=True, slots=True, order=True)
class WatchKey:
    """One watch's identity, and the bus key under which changes of its state are published."""

    group_kind: GroupKind
    namespace: str = ""
    label_selector: str = ""
    name: str = ""
    field_selector: str = ""


class _Watch:
    """A running stream, what it sees, and how many read it."""

    def __init__(self, key: WatchKey, view: View, store: Store, bus: Bus) -> None:
        self.key, self.view = key, view
        self.readers = 0
        self.state = StreamState.STARTING
        self.error: ClusterStackError | None = None
        self.task: asyncio.Task[None] | None = None
        self.ending: asyncio.TimerHandle | None = None
        self._store, self._bus = store, bus

    def put(self, live: Live) -> None:
        self._store.put(self.view, live)
        self._tell()

    def removed(self, ref: ObjectRef, revision: int) -> None:
        self._store.remove(self.view, ref, revision)
        self._tell()

    def relisted(self, seen: set[ObjectRef], revision: int) -> None:
        self._store.relisted(self.view, seen, revision)
        self._tell()

    def rewound(self) -> None:
        self._store.rewind(self.view)

    def settled(self, state: StreamState, error: ClusterStackError | None) -> None:
        self.state, self.error = state, error
        self._bus.publish(self.key)

    def _tell(self) -> None:
        """Whoever watches children cannot name them: a change of any is published under the watch's own key."""
        if self.key.namespace and (self.key.label_selector or self.key.field_selector):
            self._bus.publish(self.key)


class Watch(Protocol):
    """What a reader needs of a held watch; `Handle` is one."""

    @property
    def key(self) -> Hashable: ...
    @property
    def error(self) -> ClusterStackError | None: ...
    def release(self) -> None: ...


class Handle:
    """One reader's hold on a watch; release it when its facts are needed no more."""

    __slots__ = ("_release", "_watch")

    def __init__(self, watch: _Watch, release: Callable[[], None]) -> None:
        self._watch = watch
        self._release: Callable[[], None] | None = release

    @property
    def key(self) -> WatchKey:
        """Published on the bus whenever `state` or `error` changes, and on every change of a child."""
        return self._watch.key

    @property
    def state(self) -> StreamState:
        return self._watch.state

    @property
    def error(self) -> ClusterStackError | None:
        """Why the watch is degraded: 403, 404 for a kind that is served no more, no connection."""
        return self._watch.error

    @property
    def view(self) -> View:
        return self._watch.view

    def release(self) -> None:
        """Gives the watch back; a second time does nothing."""
        if self._release is not None:
            self._release()
            self._release = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class Observer:
    """Reference-counted watches over one cache.

    Entering it starts the watches that feed discovery (CustomResourceDefinitions and APIServices, metadata only) and
    makes the client's answers enter the cache before its verbs return. Leaving it ends every watch.
    """

    def __init__(
        self,
        client: KubeClient,
        discovery: Discovery,
        bus: Bus,
        *,
        selector: str = MANAGED,
        backoff: tuple[float, float] = (0.25, 30.0),
        linger: float = LINGER,
    ) -> None:
        self._client, self._discovery, self._bus = client, discovery, bus
        self._selector = selector
        self._backoff = backoff
        self._linger = linger
        self._store = Store(bus)
        self._watches: dict[WatchKey, _Watch] = {}
        self._feeds: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._client.on_answer = self.learn
        self._client.on_deleted = self.forget
        for resource in (CUSTOM_RESOURCE_DEFINITION, API_SERVICE):
            stream = self._stream(Selection(resource, metadata_only=True), _DiscoveryFeed(self._discovery))
            self._feeds.append(asyncio.create_task(stream.run(), name=f"discovery feed {resource}"))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.on_answer = self._client.on_deleted = None
        watches = list(self._watches.values())
        for watch in watches:
            self._stop(watch)
        tasks = [*self._feeds, *(watch.task for watch in watches if watch.task is not None)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def watch_kind(self, resource: Resource) -> Handle:
        """All managed objects of a kind, in every namespace; one watch for all versions of the kind."""
        key = WatchKey(resource.group_kind, label_selector=self._selector)
        return self._hold(key, Selection(resource, label_selector=self._selector))

    def watch_object(self, resource: Resource, namespace: str, name: str) -> Handle:
        """One object, ours or not, by name."""
        where = namespace if resource.namespaced else ""
        key = WatchKey(resource.group_kind, where, name=name)
        return self._hold(key, Selection(resource, where, field_selector=f"metadata.name={name}"))

    def watch_children(self, resource: Resource, namespace: str, label_selector: str) -> Handle:
        """The objects of a kind in a namespace that carry given labels (`a=b,c`); an empty selector takes all."""
        where = namespace if resource.namespaced else ""
        key = WatchKey(resource.group_kind, where, label_selector)
        return self._hold(key, Selection(resource, where, label_selector))

    def watch_fields(self, resource: Resource, namespace: str, field_selector: str) -> Handle:
        """The objects of a kind in a namespace by the fields that its API selects by (`involvedObject.uid=…`)."""
        where = namespace if resource.namespaced else ""
        key = WatchKey(resource.group_kind, where, field_selector=field_selector)
        return self._hold(key, Selection(resource, where, field_selector=field_selector))

    def synced(self, handle: Handle) -> bool:
        """Whether absence from this watch means something: it has listed, and is not cut off."""
        return handle.state is StreamState.SYNCED

    def get(self, ref: ObjectRef) -> Live | None:
        """An object that some watch sees."""
        return self._store.get(ref)

    def list(self, group_kind: GroupKind) -> Iterable[Live]:
        """All objects of a kind that some watch sees."""
        return self._store.list(group_kind)

    def members(self, handle: Handle) -> tuple[Live, ...]:
        """The objects that this watch sees."""
        return self._store.members(handle.view)

    def tombstone(self, ref: ObjectRef) -> Tombstone | None:
        """What is known of an object that is gone, or seems to be."""
        return self._store.tombstone(ref)

    def absorb(self, manifest: Manifest) -> Live | None:
        """An object as just answered enters the cache: what is known now, or None if it is known to be gone."""
        group, _, version = manifest["apiVersion"].rpartition("/")
        kind = manifest["kind"]
        served = self._discovery.resource(manifest["apiVersion"], kind)
        return self._store.absorb(project(served or Resource(group, version, kind, "", namespaced=True), manifest))

    def learn(self, resource: Resource, body: bytes) -> None:
        """The same for an answer's JSON; the client calls it. What cannot be read waits for its watch event."""
        with contextlib.suppress(ClusterStackError):
            self._store.absorb(project_json(resource, body))

    def forget(self, ref: ObjectRef, uid: str) -> None:
        """Our delete was answered and the object is gone: later events of that UID are dropped."""
        self._store.forget(ref, uid)

    async def confirm(self, resource: Resource, ref: ObjectRef) -> Live | None:
        """Asks the server itself: the object as it is now, or None on its word that there is none.

        For what must not rest on a hint: before recreating, shrinking the inventory, calling a deletion done.
        Raises ApiError and TransportError.
        """
        only = metadata_only(resource.group_kind)
        known = self._store.get(ref)
        found = await self._client.find(resource, ref.namespace, ref.name, metadata_only=only)
        if found is None:
            if known is not None and self._store.get(ref) is known:
                self._store.forget(ref, known.uid)
            return None
        live = project(resource, found)
        return self._store.absorb(live) or live

    def _hold(self, key: WatchKey, selection: Selection) -> Handle:
        watch = self._watches.get(key)
        if watch is None:
            watch = self._watches[key] = self._start(key, selection)
        if watch.ending is not None:
            watch.ending.cancel()
            watch.ending = None
        watch.readers += 1
        return Handle(watch, partial(self._release, watch))

    def _start(self, key: WatchKey, selection: Selection) -> _Watch:
        view = View(key.group_kind, partial(_selects, key))
        watch = _Watch(key, view, self._store, self._bus)
        self._store.open(view)
        only = metadata_only(key.group_kind)
        stream = self._stream(
            Selection(
                selection.resource, selection.namespace, selection.label_selector, selection.field_selector, only
            ),
            watch,
        )
        watch.task = asyncio.create_task(stream.run(), name=f"watch {key.group_kind}")
        return watch

    def _stream(self, selection: Selection, sink: _Watch | _DiscoveryFeed) -> Stream:
        kind = selection.resource.group_kind
        return Stream(
            self._client,
            selection,
            sink,
            resolve=partial(self._discovery.preferred, kind.group, kind.kind),
            rest=partial(self._rest, kind),
            backoff=self._backoff,
        )

    async def _rest(self, group_kind: GroupKind, seconds: float) -> None:
        """Sleeps, but not past a change in how the kind is served."""
        try:
            async with asyncio.timeout(seconds):
                await self._bus.wait((kind_key(group_kind),), self._bus.now)
        except TimeoutError:
            return

    def _release(self, watch: _Watch) -> None:
        watch.readers -= 1
        if watch.readers == 0 and watch.task is not None:
            watch.ending = asyncio.get_running_loop().call_later(self._linger, self._stop, watch)

    def _stop(self, watch: _Watch) -> None:
        if watch.ending is not None:
            watch.ending.cancel()
            watch.ending = None
        if self._watches.get(watch.key) is watch:
            del self._watches[watch.key]
        if watch.task is not None:
            watch.task.cancel()
        self._store.close(watch.view)


class _DiscoveryFeed:
    """Turns any change of what feeds discovery into new looks at it."""

    def __init__(self, discovery: Discovery) -> None:
        self._discovery = discovery
        self._listed = False

    def put(self, live: Live) -> None:  # noqa: ARG002 - part of the protocol
        if self._listed:
            self._discovery.expect_change()

    def removed(self, ref: ObjectRef, revision: int) -> None:  # noqa: ARG002
        self._discovery.expect_change()

    def relisted(self, seen: set[ObjectRef], revision: int) -> None:  # noqa: ARG002
        self._listed = True
        self._discovery.expect_change()

    def rewound(self) -> None:
        self._discovery.expect_change()

    def settled(self, state: StreamState, error: ClusterStackError | None) -> None:
        """Nothing depends on it: a miss asks discovery by itself."""


def _selects(key: WatchKey, live: Live) -> bool:
    """Whether a watch would show an object; selectors beyond `a`, `a=b` and `a==b` are left to the server, and so are
    selectors of fields: what answers bring waits for the watch's own event."""
    if key.field_selector:
        return False
    if key.name and key.name != live.ref.name:
        return False
    if key.namespace and key.namespace != live.ref.namespace:
        return False
    for term in filter(None, key.label_selector.split(",")):
        label, equals, value = term.replace("==", "=").partition("=")
        if label not in live.labels or (equals and live.labels[label] != value):
            return False
    return True
