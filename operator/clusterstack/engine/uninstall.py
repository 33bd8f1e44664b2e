"""Takes releases away: their hooks run around the deletion of their objects, and their records go last."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from clusterstack.core.inventory import Entry
from clusterstack.core.objects import GroupKind, ObjectRef, group_of
from clusterstack.core.order import teardown_rank
from clusterstack.core.scope import place
from clusterstack.core.yaml import load_all
from clusterstack.engine.context import Context
from clusterstack.engine.hooks import HookFailed, HookRunner
from clusterstack.engine.ledger import Ledger
from clusterstack.engine.prune import remove
from clusterstack.engine.records import RELEASE_LAYER, RELEASE_OF, Records
from clusterstack.engine.wait import sleep
from clusterstack.errors import ApiError, ClusterStackError
from clusterstack.helm import hooks as hook_events
from clusterstack.helm.record import Release, Status, head_of, latest
from clusterstack.telemetry.logs import logger

LOG = logger(__name__)
HOOK_TIMEOUT = 300.0
GONE_WITHIN, GONE_POLL = 10.0, 0.25


@dataclass(frozen=True, slots=True)
class Installed:
    """A release of ours as the cluster's records tell it."""

    name: str
    namespace: str  # of its records
    layer: str


async def installed(context: Context) -> tuple[Installed, ...]:
    """Every release whose records carry our stack's label; found by the operator, for an account with rights in some
    namespaces may not look through all."""
    secrets = await context.cluster.list(
        "v1",
        "Secret",
        selector=f"owner=helm,{RELEASE_OF}={context.stack}",
        metadata_only=True,
    )
    newest: dict[tuple[str, str], tuple[int, Installed]] = {}
    for secret in secrets:
        head = head_of(secret["metadata"])
        if head is not None:
            layer = (secret["metadata"].get("labels") or {}).get(RELEASE_LAYER, "")
            found = Installed(head.name, secret["metadata"]["namespace"], layer)
            key = (found.namespace, found.name)
            newest[key] = max(newest.get(key, (0, found)), (head.revision, found), key=lambda item: item[0])
    return tuple(found for _, (_, found) in sorted(newest.items()))


async def retire(
    context: Context,
    ledgers: Mapping[str, Ledger],
    wanted: Mapping[str, Collection[ObjectRef]],
    releases: Collection[tuple[str, str]],
    *,
    spared: Collection[str] = (),
) -> int:
    """Uninstall what is installed and no longer declared; how many are not gone yet, to be looked at again.

    `wanted` are the objects that any layer still renders, `releases` the declared ones (storage namespace and name),
    `spared` the layers of which nothing is deleted.
    """
    kept = {ref for refs in wanted.values() for ref in refs}
    left = 0
    for release in await installed(context):
        if (release.namespace, release.name) not in releases and release.layer not in spared:
            left += not await _retire(context, ledgers, Uninstall(context, release), kept)
    return left


async def _retire(context: Context, ledgers: Mapping[str, Ledger], uninstall: Uninstall, kept: set[ObjectRef]) -> bool:
    """One release: hooks, objects by rank, hooks, records. What has to wait goes on where it was the next time."""
    if not await uninstall.before():
        return True
    mine = set(uninstall.objects()) - kept
    for layer, ledger in ledgers.items():
        entries = [entry for entry in ledger.entries() if entry.ref in mine]
        for rank in sorted({teardown_rank(entry.ref) for entry in entries}):
            gone = await _removed(context, [entry for entry in entries if teardown_rank(entry.ref) == rank])
            await ledger.forget([entry.ref for entry in gone])
            if len(gone) < sum(teardown_rank(entry.ref) == rank for entry in entries):
                LOG.info("a release's objects are still going", extra={"stack": context.stack, "layer": layer})
                return False
    await uninstall.after()
    return True


async def _removed(context: Context, entries: Sequence[Entry]) -> list[Entry]:
    """Delete objects, and wait a little for them to be gone; those that are."""
    gone: list[Entry] = []
    waiting = list(entries)
    deadline = context.clock.now() + GONE_WITHIN
    while True:
        still: list[Entry] = []
        for entry in waiting:
            (still if await remove(context, entry) is None else gone).append(entry)
        if not still or context.clock.now() >= deadline:
            return gone
        waiting = still
        await sleep(context.clock, GONE_POLL)


class Uninstall:
    """One release on its way out. A hook that fails is logged and does not hold up the rest."""

    def __init__(self, context: Context, release: Installed) -> None:
        self._context, self._installed = context, release
        self._records = Records(
            context.cluster, name=release.name, namespace=release.namespace, account=context.account
        )
        self._release: Release | None = None

    async def before(self) -> bool:
        """Run the pre-delete hooks, those that have not run; False when the release is not ours to take away."""
        head = latest(await self._records.heads())
        if head is None:
            return False
        release = await self._records.read(head.revision)
        if release is None or release.labels.get(RELEASE_OF) != self._context.stack:
            return False
        self._release = release
        if release.progress != hook_events.DELETE[1]:
            self._release = replace(release, status=Status.UNINSTALLING)
            await self._hooks(hook_events.DELETE[0])
        return True

    def objects(self) -> tuple[ObjectRef, ...]:
        """What the newest revision's manifest holds."""
        if self._release is None:
            return ()
        refs = []
        for manifest in load_all(self._release.manifest, source=f"release {self._installed.name}"):
            kind = GroupKind(group_of(manifest["apiVersion"]), manifest["kind"])
            namespaced = self._context.namespaced(kind)
            refs.append(place(manifest, namespaced=namespaced, default=self._release.namespace)[0])
        return tuple(refs)

    async def after(self) -> None:
        """Run the post-delete hooks, then delete the records."""
        if self._release is None:
            return
        await self._hooks(hook_events.DELETE[1])
        for head in await self._records.heads():
            await self._records.delete(head.revision)

    async def _hooks(self, event: str) -> None:
        assert self._release is not None
        runner = HookRunner(
            self._context,
            self._release,
            namespace=self._release.namespace,
            timeout=HOOK_TIMEOUT,
            save=self._save,
            waiting=lambda *_: None,
        )
        try:
            await runner.run(event)
        except (HookFailed, ClusterStackError) as error:
            LOG.warning("delete hook failed", extra={"release": self._release.name, "error": str(error)})
        self._release = runner.release

    async def _save(self, release: Release) -> None:
        try:
            await self._records.update(release)
        except ApiError as error:
            if error.status != 404:
                raise
