"""`deletionPolicy: Delete`: layers go in reverse order, each level gone before the next; nothing is ever forced."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from clusterstack.core.inventory import Entry
from clusterstack.core.objects import GroupKind, ObjectRef
from clusterstack.core.order import teardown_rank
from clusterstack.engine.context import Context
from clusterstack.engine.ledger import Ledger
from clusterstack.engine.prune import remove
from clusterstack.engine.uninstall import Installed, Uninstall, installed
from clusterstack.engine.wait import sleep

LEVEL_DEADLINE = 600.0
FRAME = 4  # from this rank on: CRDs and Namespaces, which hold the rest, the releases' records too
POLL = 0.25
SLOWEST_POLL = 2.0


class Teardown:
    """Deletes what a stack created. `say` hears one line about what is going on; `run` answers what stays.

    Nothing more is deleted once `given_up` says so: a person has settled for leaving the rest.
    """

    def __init__(
        self,
        context: Context,
        ledgers: Mapping[str, Ledger],
        say: Callable[[str], None],
        *,
        given_up: Callable[[], bool] = lambda: False,
    ) -> None:
        self._context, self._ledgers, self._say, self._given_up = context, ledgers, say, given_up
        self._left: list[ObjectRef] = []

    async def run(self, levels: Sequence[Sequence[str]]) -> tuple[ObjectRef, ...]:
        """Take down all levels, the last one first; objects of layers that the spec no longer has go before them."""
        known = {name for level in levels for name in level}
        forgotten = [name for name in self._ledgers if name not in known]
        releases = await installed(self._context)
        await self._level(forgotten, [release for release in releases if release.layer not in known])
        for level in reversed(levels):
            present = [name for name in level if name in self._ledgers]
            await self._level(present, [release for release in releases if release.layer in level])
        return tuple(self._left)

    async def _level(self, layers: Sequence[str], releases: Sequence[Installed]) -> None:
        if self._given_up():
            return
        uninstalls = [Uninstall(self._context, release) for release in releases]
        for uninstall in uninstalls:
            await uninstall.before()
        entries = [entry for layer in layers for entry in self._ledgers[layer].entries()]
        ranks = sorted({teardown_rank(entry.ref) for entry in entries})
        for rank in [rank for rank in ranks if rank < FRAME]:
            await self._rank([entry for entry in entries if teardown_rank(entry.ref) == rank])
        for uninstall in uninstalls:
            await uninstall.after()
        for rank in [rank for rank in ranks if rank >= FRAME]:
            await self._rank([entry for entry in entries if teardown_rank(entry.ref) == rank])
        for layer in layers if not self._given_up() else ():
            await self._ledgers[layer].forget([entry.ref for entry in self._ledgers[layer].entries()])

    async def _rank(self, entries: Sequence[Entry]) -> None:
        """Delete one rank and wait until it is gone, or its deadline has passed."""
        clock = self._context.clock
        deadline, pause = clock.now() + LEVEL_DEADLINE, POLL
        waiting = [entry for entry in entries if await self._may_go(entry)]
        while waiting and not self._given_up():
            waiting = [entry for entry in waiting if await remove(self._context, entry, teardown=True) is None]
            if not waiting:
                return
            self._say(f"deleting {waiting[0].ref}" + (f" and {len(waiting) - 1} more" if len(waiting) > 1 else ""))
            if clock.now() > deadline:
                self._left += [entry.ref for entry in waiting]
                return
            await sleep(clock, pause)
            pause = min(SLOWEST_POLL, pause * 1.5)

    async def _may_go(self, entry: Entry) -> bool:
        """CRDs and Namespaces stay while they hold something that is not ours."""
        ref = entry.ref
        if ref.group_kind == GroupKind("apiextensions.k8s.io", "CustomResourceDefinition"):
            return not await self._holds_objects(entry)
        if ref.group_kind == GroupKind("", "Namespace"):
            return not await self._holds_foreign(ref.name)
        return True

    async def _holds_objects(self, entry: Entry) -> bool:
        crd = await self._context.cluster.get(entry.api_version, entry.ref.kind, "", entry.ref.name)
        if crd is None:
            return False
        spec = crd["spec"]
        served = next((version["name"] for version in spec["versions"] if version.get("served")), None)
        if served is None:
            return False
        objects = await self._context.cluster.list(f"{spec['group']}/{served}", spec["names"]["kind"])
        return bool(objects)

    async def _holds_foreign(self, namespace: str) -> bool:
        """Workloads, claims and configuration that we did not create; what Kubernetes puts there does not count."""
        for api_version, kind in _FOREIGN_KINDS:
            for found in await self._context.cluster.list(api_version, kind, namespace):
                if not _by_kubernetes(kind, found["metadata"]):
                    return True
        return False


_FOREIGN_KINDS = (
    ("apps/v1", "Deployment"),
    ("apps/v1", "StatefulSet"),
    ("apps/v1", "DaemonSet"),
    ("v1", "PersistentVolumeClaim"),
    ("v1", "Service"),
    ("v1", "Secret"),
    ("v1", "ConfigMap"),
)


def _by_kubernetes(kind: str, metadata: Mapping[str, object]) -> bool:
    owned = bool(metadata.get("ownerReferences"))
    return owned or (kind == "ConfigMap" and metadata.get("name") == "kube-root-ca.crt")
