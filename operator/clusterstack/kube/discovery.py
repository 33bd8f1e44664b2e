"""Which kinds the API server serves: aggregated discovery, two requests, asked when something says that it changed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Self

import msgspec

from clusterstack.core.objects import GroupKind
from clusterstack.errors import ApiError, ClusterStackError, TransportError
from clusterstack.kube.client import KubeClient
from clusterstack.kube.facts import Bus, kind_key
from clusterstack.kube.resource import Resource

ACCEPT = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
ACCEPT_BETA = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList"
LANE = "discovery"
MIN_INTERVAL = 0.1  # seconds between two refreshes, or more on a server where they take long:
MAX_SHARE = 4.0  # times as long as a refresh took
# Discovery lags behind the objects that feed it, by up to some seconds for aggregated APIs: look again this often.
FOLLOW_UPS = (0.0, 0.1, 0.2, 0.4, 1.0, 2.0, 4.0, 8.0)
OUTAGE_PAUSE = 5.0


class ServerVersion(msgspec.Struct, frozen=True, rename="camel"):
    """The answer of /version: `v1.36.3`, and the numbers as Helm's capabilities show them."""

    git_version: str = ""
    major: str = ""
    minor: str = ""


class _ResponseKind(msgspec.Struct):
    kind: str = ""


class _Subresource(msgspec.Struct):
    subresource: str = ""


class _ApiResource(msgspec.Struct, rename="camel"):
    resource: str
    response_kind: _ResponseKind | None = None
    scope: str = "Namespaced"
    verbs: list[str] | None = None
    subresources: list[_Subresource] | None = None


class _Version(msgspec.Struct):
    version: str
    freshness: str = "Current"
    resources: list[_ApiResource] | None = None


class _Metadata(msgspec.Struct, frozen=True):
    name: str = ""


class _Group(msgspec.Struct):
    metadata: _Metadata = _Metadata()
    versions: list[_Version] | None = None


class _Groups(msgspec.Struct):
    items: list[_Group] = []


_groups = msgspec.json.Decoder(_Groups)
_version = msgspec.json.Decoder(ServerVersion)

# One document's kinds, most preferred version first, and the group/versions whose server did not answer.
_Served = dict[GroupKind, tuple[Resource, ...]]


class Discovery:
    """The served kinds as last asked. `generation` rises whenever they change; each change is published per kind.

    `incomplete` holds the `group/version`s whose own server failed to answer: what was known of them is kept, and a
    kind's absence there means nothing. Close it, or use it in an `async with`, to end its look-ups in the background.
    """

    def __init__(self, client: KubeClient, bus: Bus) -> None:
        self._client = client
        self._bus = bus
        self._served: _Served = {}
        self._documents: dict[str, tuple[str, _Groups]] = {}  # path → ETag, groups
        self._group_versions: tuple[str, ...] = ()
        self._pending: asyncio.Task[None] | None = None
        self._asking = asyncio.Lock()
        self._asked = float("-inf")
        self._interval = MIN_INTERVAL
        self._following: asyncio.Task[None] | None = None
        self.version = ServerVersion()
        self.incomplete: frozenset[str] = frozenset()
        self.generation = 0

    @property
    def server_version(self) -> str:
        return self.version.git_version

    def resource(self, api_version: str, kind: str) -> Resource | None:
        """The kind in exactly this version, if it is known to be served."""
        group, _, version = api_version.rpartition("/")
        served = self._served.get(GroupKind(group, kind), ())
        return next((resource for resource in served if resource.version == version), None)

    def preferred(self, group: str, kind: str) -> Resource | None:
        """The kind in the version that the server prefers."""
        served = self._served.get(GroupKind(group, kind))
        return served[0] if served else None

    def versions(self, group_kind: GroupKind) -> tuple[str, ...]:
        """The versions in which a kind is served, the preferred one first."""
        return tuple(resource.version for resource in self._served.get(group_kind, ()))

    def resources(self) -> Iterable[Resource]:
        """Every kind in every version."""
        for served in self._served.values():
            yield from served

    def api_versions(self) -> tuple[str, ...]:
        """What a chart sees as `.Capabilities.APIVersions`: `apps/v1` and `apps/v1/Deployment`."""
        kinds = {f"{resource.api_version}/{resource.kind}" for resource in self.resources()}
        return (*self._group_versions, *sorted(kinds))

    async def find(self, api_version: str, kind: str) -> Resource | None:
        """Like `resource`, but asks the server again before it answers None. Raises ApiError and TransportError."""
        if (known := self.resource(api_version, kind)) is not None:
            return known
        await self.refresh()
        return self.resource(api_version, kind)

    async def refresh(self) -> None:
        """Asks the server, later than this call began; calls that come together share one question.

        Raises ApiError and TransportError; what was known stays.
        """
        if self._pending is None:
            self._pending = asyncio.create_task(self._refresh())
            self._pending.add_done_callback(_observed)
        await asyncio.shield(self._pending)

    def expect_change(self) -> None:
        """Something that feeds discovery changed: refresh now, and a few times more until that has arrived there."""
        if self._following is not None:
            self._following.cancel()
        self._following = asyncio.create_task(self._follow())

    async def close(self) -> None:
        tasks = [task for task in (self._pending, self._following) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _follow(self) -> None:
        for pause in FOLLOW_UPS:
            await asyncio.sleep(pause)
            while True:
                try:
                    await self.refresh()
                    break
                except ClusterStackError:
                    await asyncio.sleep(OUTAGE_PAUSE)

    async def _refresh(self) -> None:
        clock = asyncio.get_running_loop().time
        try:
            async with self._asking:
                await asyncio.sleep(max(0.0, self._asked + self._interval - clock()))
                self._asked = clock()
                self._pending = None  # from here on, newcomers need a newer answer
                await self._ask()
                self._interval = max(MIN_INTERVAL, MAX_SHARE * (clock() - self._asked))
        finally:
            if self._pending is asyncio.current_task():
                self._pending = None

    async def _ask(self) -> None:
        if not self.version.git_version:
            self.version = _version.decode((await self._client.raw("/version", lane=LANE)).body)
        before = [document for _, document in self._documents.values()]
        for path in ("/api", "/apis"):
            await self._fetch(path)
        if [document for _, document in self._documents.values()] != before:
            self._adopt([group for _, document in self._documents.values() for group in document.items])

    async def _fetch(self, path: str) -> None:
        etag, _ = self._documents.get(path, ("", None))
        headers = {"Accept": f"{ACCEPT},{ACCEPT_BETA}"} | ({"If-None-Match": etag} if etag else {})
        answer = await self._client.raw(path, headers=headers, lane=LANE)
        if answer.status == 304:
            return
        if "APIGroupDiscoveryList" not in answer.headers.get("Content-Type", ""):
            raise ApiError(
                f"{path}: the API server does not serve aggregated discovery",
                status=406,
                reason="OldServer",
            )
        self._documents[path] = (answer.headers.get("ETag", ""), _decoded(path, answer.body))

    def _adopt(self, groups: list[_Group]) -> None:
        served, incomplete = _read(groups, self._served)
        versions = [version for group in groups for version in _names(group)]
        self._group_versions, self.incomplete = tuple(versions), incomplete
        before, self._served = self._served, served
        changed = {kind for kind in before.keys() | served.keys() if before.get(kind) != served.get(kind)}
        if changed:
            self.generation += 1
        for kind in sorted(changed):
            self._bus.publish(kind_key(kind))


def _decoded(path: str, body: bytes) -> _Groups:
    try:
        return _groups.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise TransportError(f"{path}: the API server's discovery document cannot be read: {error}") from error


def _observed(task: asyncio.Task[None]) -> None:
    """Marks a failure as seen, also when every caller that waited for it was cancelled."""
    if not task.cancelled():
        task.exception()


def _names(group: _Group) -> list[str]:
    prefix = f"{group.metadata.name}/" if group.metadata.name else ""
    return [f"{prefix}{version.version}" for version in group.versions or ()]


def _read(groups: Iterable[_Group], known: Mapping[GroupKind, tuple[Resource, ...]]) -> tuple[_Served, frozenset[str]]:
    """The served kinds of all groups; those of versions that did not answer are taken from what was known."""
    served: dict[GroupKind, list[Resource]] = {}
    incomplete: set[str] = set()
    for group in groups:
        for version in group.versions or ():
            found = list(_resources(group.metadata.name, version))
            if version.freshness != "Current":
                name = group.metadata.name
                incomplete.add(f"{name}/{version.version}" if name else version.version)
                found = found or [
                    resource
                    for resources in known.values()
                    for resource in resources
                    if (resource.group, resource.version) == (name, version.version)
                ]
            for resource in found:
                served.setdefault(resource.group_kind, []).append(resource)
    return {kind: tuple(resources) for kind, resources in served.items()}, frozenset(incomplete)


def _resources(group: str, version: _Version) -> Iterable[Resource]:
    seen: set[str] = set()
    for entry in version.resources or ():
        kind = entry.response_kind.kind if entry.response_kind else ""
        if kind and kind not in seen and entry.verbs:
            seen.add(kind)
            yield Resource(
                group,
                version.version,
                kind,
                entry.resource,
                entry.scope == "Namespaced",
                frozenset(entry.verbs),
                any(part.subresource == "status" for part in entry.subresources or ()),
            )
