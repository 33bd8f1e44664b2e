"""Takes releases away: their hooks run around the deletion of their objects, and their records go last."""

from __future__ import annotations

from dataclasses import dataclass, replace

from clusterstack.engine.context import Context
from clusterstack.engine.hooks import HookFailed, HookRunner
from clusterstack.engine.records import RELEASE_LAYER, RELEASE_OF, Records
from clusterstack.errors import ApiError, ClusterStackError
from clusterstack.helm import hooks as hook_events
from clusterstack.helm.record import Release, Status, head_of, latest
from clusterstack.telemetry.logs import logger

LOG = logger(__name__)
HOOK_TIMEOUT = 300.0


@dataclass(frozen=True, slots=True)
class Installed:
    """A release of ours as the cluster's records tell it."""

    name: str
    namespace: str  # of its records
    layer: str


async def installed(context: Context) -> tuple[Installed, ...]:
    """Every release whose records carry our stack's label."""
    secrets = await context.cluster.list(
        "v1", "Secret", selector=f"owner=helm,{RELEASE_OF}={context.stack}", account=context.account
    )
    found = set()
    for secret in secrets:
        head = head_of(secret["metadata"])
        if head is not None:
            layer = (secret["metadata"].get("labels") or {}).get(RELEASE_LAYER, "")
            found.add(Installed(head.name, secret["metadata"]["namespace"], layer))
    return tuple(sorted(found, key=lambda item: (item.namespace, item.name)))


class Uninstall:
    """One release on its way out. A hook that fails is logged and does not hold up the rest."""

    def __init__(self, context: Context, release: Installed) -> None:
        self._context = context
        self._records = Records(
            context.cluster, name=release.name, namespace=release.namespace, account=context.account
        )
        self._release: Release | None = None

    async def before(self) -> None:
        """Run the pre-delete hooks."""
        head = latest(await self._records.heads())
        if head is None:
            return
        try:
            release = await self._records.read(head.revision)
        except ValueError:
            return
        if release is not None:
            self._release = replace(release, status=Status.UNINSTALLING)
            await self._hooks(hook_events.DELETE[0])

    async def after(self) -> None:
        """Run the post-delete hooks, then delete the records."""
        if self._release is not None:
            await self._hooks(hook_events.DELETE[1])
        for head in await self._records.heads():
            await self._records.delete(head.revision)

    async def _hooks(self, event: str) -> None:
        assert self._release is not None
        runner = HookRunner(
            self._context,
            namespace=self._release.namespace,
            timeout=HOOK_TIMEOUT,
            save=self._save,
            waiting=lambda *_: None,
        )
        try:
            self._release = await runner.run(self._release, event)
        except (HookFailed, ClusterStackError) as error:
            LOG.warning("delete hook failed", extra={"release": self._release.name, "error": str(error)})

    async def _save(self, release: Release) -> None:
        self._release = release
        try:
            await self._records.update(release)
        except ApiError as error:
            if error.status != 404:
                raise
