"""How the engine sees the world: a cluster of verbs and facts, and a clock.

Two protocols, so that every coroutine of the engine is tested with scripted answers and fake time. The real ones are
`kube/cluster.py` and `engine/clock.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Protocol

from clusterstack.core.objects import GroupKind, Manifest, ObjectRef
from clusterstack.kube.facts import Bus
from clusterstack.kube.live import Live
from clusterstack.kube.observer import Watch
from clusterstack.kube.resource import Resource


class Timer(Protocol):
    """A call that is yet to come."""

    def cancel(self) -> None: ...


class Clock(Protocol):
    """Time. Nothing in the engine reads another one."""

    def now(self) -> float:
        """Monotonic seconds."""
        ...

    def wall(self) -> datetime:
        """The time of day, in UTC."""
        ...

    def later(self, delay: float, call: Callable[[], None]) -> Timer:
        """Call once, `delay` seconds from now."""
        ...


class Cluster(Protocol):
    """The API server: verbs, and facts from its watches. `account` impersonates, empty means the operator itself."""

    @property
    def facts(self) -> Bus: ...

    async def resource(self, api_version: str, kind: str) -> Resource | None:
        """How a kind is served, after at most one refresh of discovery; None while it is not."""
        ...

    def preferred(self, group_kind: GroupKind) -> Resource | None:
        """How a kind is served in the API server's preferred version, as far as is known now."""
        ...

    def namespaced(self, group_kind: GroupKind) -> bool | None:
        """The scope of a kind; None while it is not served."""
        ...

    def api_versions(self) -> Sequence[str]: ...

    def versions(self, group_kind: GroupKind) -> Sequence[str]:
        """The versions in which a kind is served, the preferred one first, as far as is known now."""
        ...

    def unanswered(self) -> frozenset[str]:
        """The `group/version`s whose own server did not answer discovery: absence there means nothing."""
        ...

    def server_version(self) -> str: ...
    def watch_kind(self, resource: Resource) -> Watch:
        """All objects of a kind that carry our stack label."""
        ...

    def watch_object(self, resource: Resource, namespace: str, name: str) -> Watch: ...
    def watch_children(self, resource: Resource, namespace: str, selector: str) -> Watch:
        """Its key is published on every change of a child too."""
        ...

    def watch_events(self, resource: Resource, namespace: str, uid: str) -> Watch:
        """The Events of one object; its key is published on every change of them."""
        ...

    def synced(self, watch: Watch) -> bool: ...
    def members(self, watch: Watch) -> tuple[Live, ...]:
        """What a watch of children or of Events sees."""
        ...

    def live(self, ref: ObjectRef) -> Live | None: ...
    def last(self, ref: ObjectRef) -> Live | None:
        """How a Job that is gone was last seen."""
        ...

    def lives(self, group_kind: GroupKind) -> Iterable[Live]: ...

    async def apply(
        self, manifest: Manifest, resource: Resource, *, manager: str, account: str = "", lane: str = ""
    ) -> tuple[bool, Live]:
        """Server-side apply with force: whether it was created, and the object as we wrote it.

        The cache has it already, or what somebody wrote since.
        """
        ...

    async def rehearse(
        self, manifest: Manifest, resource: Resource, *, manager: str, account: str = "", lane: str = ""
    ) -> None:
        """The same as a dry run: admission and all, and nothing comes of it. Raises what the apply would."""
        ...

    async def get(
        self, api_version: str, kind: str, namespace: str, name: str, *, account: str = ""
    ) -> Manifest | None:
        """One object, as stored; None if it, or its kind, is not there."""
        ...

    async def list(
        self,
        api_version: str,
        kind: str,
        namespace: str = "",
        *,
        selector: str = "",
        account: str = "",
        metadata_only: bool = False,
    ) -> list[Manifest]: ...

    async def create(self, manifest: Manifest, *, manager: str, account: str = "") -> Manifest: ...
    async def replace(self, manifest: Manifest, *, manager: str, account: str = "") -> Manifest: ...
    async def patch(self, manifest: Manifest, patch: Manifest, *, manager: str) -> Manifest:
        """Merge patch of the object that `manifest` names."""
        ...

    async def apply_status(self, manifest: Manifest, *, manager: str) -> Manifest:
        """Server-side apply of the status: what `manifest` no longer says is removed."""
        ...

    async def delete(
        self, api_version: str, ref: ObjectRef, *, uid: str = "", propagation: str = "Background", account: str = ""
    ) -> bool:
        """Delete, with the UID as a precondition when given; whether it is gone now, finalizers and all."""
        ...
