"""Keeps a stack's sources: looks for a new revision every interval, and holds on to the last good snapshot."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Iterable, Mapping

from clusterstack.api.spec import Source
from clusterstack.core.views import SourceView
from clusterstack.engine.context import Context
from clusterstack.engine.wait import first_of, sleep
from clusterstack.errors import ClusterStackError, SourceError
from clusterstack.helm.values import data_of
from clusterstack.sources.fetcher import Credentials, GitSpec, Snapshot
from clusterstack.telemetry.logs import logger

LOG = logger(__name__)
FIRST_RETRY = 2.0


class SourceKeeper:
    """One source, its last good snapshot, and the error of the last look; `looked` counts the looks.

    A suspended source stays at the snapshot that it has; without one, as after a restart, it looks once.
    """

    def __init__(self, context: Context, source: Source, *, before: SourceKeeper | None = None) -> None:
        self.context, self.source = context, source
        same = before is not None and before.source.git == source.git
        self.snapshot: Snapshot | None = before.snapshot if before is not None and same else None
        self.error: ClusterStackError | None = None
        self.looked = 0
        self._now = asyncio.Event()

    @property
    def key(self) -> tuple[str, str, str]:
        """The bus key on which every look is published."""
        return ("source", self.context.stack, self.source.name)

    def view(self) -> SourceView:
        """The source as it is shown."""
        ready = None if not self.looked else self.error is None
        revision = self.snapshot.revision if self.snapshot is not None else ""
        error = self.error
        return SourceView(
            name=self.source.name,
            revision=revision,
            ready=ready,
            reason=error.reason if error is not None else "",
            message=error.explained if error is not None else "",
        )

    def look(self) -> None:
        """Look now rather than when the interval has passed."""
        self._now.set()

    async def run(self) -> None:
        """Look, again and again, until cancelled. A failure keeps the last good snapshot and is tried again sooner."""
        pause = FIRST_RETRY
        while True:
            self._now.clear()
            try:
                if not self.source.suspend or self.snapshot is None:
                    await self._look()
                self.error, pause = None, FIRST_RETRY
                delay = self.source.interval.seconds
            except Exception as error:  # the boundary of a source: a bug here must not stop the stack
                expected = isinstance(error, ClusterStackError)
                extra = {"stack": self.context.stack, "source": self.source.name, "error": str(error)}
                LOG.warning("source not fetched", extra=extra, exc_info=not expected)
                self.error = error if isinstance(error, ClusterStackError) else _unexpected(error)
                delay = min(pause, self.source.interval.seconds)
                pause *= 2
            self.looked += 1
            reason = self.error.reason if self.error is not None else ""
            self.context.tally.fetched(self.context.stack, self.source.name, reason=reason)
            self.context.cluster.facts.publish(self.key)
            await first_of(sleep(self.context.clock, delay), self._now.wait())

    async def _look(self) -> None:
        git = self.source.git
        ref = git.ref
        spec = GitSpec(
            git.url,
            branch=ref.branch or "",
            tag=ref.tag or "",
            semver=ref.semver or "",
            name=ref.name or "",
            commit=ref.commit or "",
        )
        credentials = await self._credentials()
        revision = await self.context.fetcher.resolve_git(spec, credentials)
        if self.snapshot is None or self.snapshot.revision != str(revision):
            self.snapshot = await self.context.fetcher.fetch_git(spec, revision, credentials)

    async def _credentials(self) -> Credentials | None:
        """Secrets of sources live in the operator's namespace and are read as the operator."""
        reference = self.source.git.secret_ref
        if reference is None:
            return None
        namespace = self.context.installation.namespace
        found = await self.context.cluster.get("v1", "Secret", namespace, reference.name)
        if found is None:
            raise SourceError(
                f"Secret {namespace}/{reference.name} of source {self.source.name} does not exist",
                reason="CredentialsMissing",
                hint=f"create it in namespace {namespace}",
            )
        return Credentials.from_secret(data_of(found))


class SourceKeepers:
    """The sources of one stack. `looking` is called while it waits for the first look at one."""

    def __init__(self, context: Context, looking: Callable[[], None]) -> None:
        self._context, self._looking = context, looking
        self._kept: dict[str, tuple[SourceKeeper, asyncio.Task[None]]] = {}

    async def keep(self, sources: Iterable[Source]) -> None:
        """Keep exactly these from now on; return when each has been looked at once."""
        wanted = {source.name: source for source in sources}
        before = {name: keeper for name, (keeper, _) in self._kept.items()}
        for name, (keeper, task) in list(self._kept.items()):
            if wanted.get(name) != keeper.source:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                del self._kept[name]
        for name, source in wanted.items():
            known = self._kept.get(name)
            if known is None or known[1].done():  # after `stop` a source goes on with its last good snapshot
                keeper = known[0] if known is not None else SourceKeeper(self._context, source, before=before.get(name))
                self._kept[name] = (keeper, asyncio.create_task(keeper.run()))
        await self._looked(dict.fromkeys(self._kept, 1))

    async def look_again(self) -> None:
        """Look at every source now; return when that is done."""
        numbers = {name: keeper.looked + 1 for name, (keeper, _) in self._kept.items()}
        for keeper, _ in self._kept.values():
            keeper.look()
        await self._looked(numbers)

    async def stop(self) -> None:
        """Look no more, until `keep` is called again."""
        for _, task in self._kept.values():
            task.cancel()
        await asyncio.gather(*(task for _, task in self._kept.values()), return_exceptions=True)

    def known(self, sources: Iterable[Source]) -> bool:
        return all(source.name in self._kept for source in sources)

    def keys(self) -> list[Hashable]:
        """The bus keys on which looks are published."""
        return [keeper.key for keeper, _ in self._kept.values()]

    def snapshots(self) -> dict[str, Snapshot]:
        """The last good ones, by source."""
        return {name: keeper.snapshot for name, (keeper, _) in self._kept.items() if keeper.snapshot is not None}

    def views(self) -> tuple[SourceView, ...]:
        return tuple(keeper.view() for keeper, _ in self._kept.values())

    async def _looked(self, numbers: Mapping[str, int]) -> None:
        facts = self._context.cluster.facts
        while True:
            since = facts.now
            waiting = [keeper for name, (keeper, _) in self._kept.items() if keeper.looked < numbers[name]]
            if not waiting:
                return
            self._looking()
            await facts.wait([keeper.key for keeper in waiting], since)


def _unexpected(error: Exception) -> ClusterStackError:
    return ClusterStackError(f"{type(error).__name__}: {error}", reason="InternalError")
