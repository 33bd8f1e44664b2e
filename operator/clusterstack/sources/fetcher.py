"""The one way to everything outside of the cluster: Git, Helm repositories, OCI registries and remote files."""

from __future__ import annotations

import errno
from collections.abc import Awaitable, Callable, Collection, Hashable
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar
from urllib.parse import unquote, urlsplit

from clusterstack.errors import ChartError, SourceError
from clusterstack.sources.chartdir import ChartDirectory
from clusterstack.sources.client import HttpClient
from clusterstack.sources.credentials import Credentials
from clusterstack.sources.flights import Flights
from clusterstack.sources.git import GitSource, GitSpec, Revision
from clusterstack.sources.helmrepo import ChartRef, ChartSource, ResolvedChart
from clusterstack.sources.http import FileSource
from clusterstack.sources.mirrors import Mirrors
from clusterstack.sources.oci import OciArtifact, OciClient, OciSource, OciSpec, Repository
from clusterstack.sources.snapshot import Snapshot
from clusterstack.sources.store import Store

__all__ = [
    "ChartRef",
    "Credentials",
    "Fetcher",
    "GitSpec",
    "Mirrors",
    "OciArtifact",
    "OciSpec",
    "ResolvedChart",
    "Revision",
    "Snapshot",
]

T = TypeVar("T")


class _Shared:
    """What all views of one fetcher have in common."""

    def __init__(self, cache: Path, *, allow_file: bool, timeout: float) -> None:
        self.store = Store(cache)
        self.http = HttpClient(self.store, timeout=timeout)
        self.flights = Flights()
        self.git = GitSource(self.store, allow_file=allow_file, timeout=timeout)
        registry = OciClient(self.http, self.store)
        self.oci = OciSource(registry, self.store)
        self.charts = ChartSource(self.http, registry, self.store)
        self.files = FileSource(self.http, self.store)


class Fetcher:
    """Resolves references and fetches content into one cache; every URL passes the mirrors.

    Questions and fetches of the same thing at the same time are made once. Nothing runs in the background. Everything
    raises from the tree in `errors`: SpecError, SourceError, ChartError.
    """

    def __init__(
        self, cache: Path, mirrors: Mirrors | None = None, *, allow_file: bool = False, timeout: float = 60.0
    ) -> None:
        self._mirrors = mirrors or Mirrors()
        self._shared = _Shared(cache, allow_file=allow_file, timeout=timeout)

    def with_mirrors(self, mirrors: Mirrors) -> Fetcher:
        """A view of this fetcher with a stack's own mirrors before the present ones; only the original is closed."""
        view = object.__new__(Fetcher)
        view._mirrors = mirrors.over(self._mirrors)
        view._shared = self._shared
        return view

    # -- Git

    async def resolve_git(self, spec: GitSpec, credentials: Credentials | None = None) -> Revision:
        """Ask the remote which commit the spec means now."""
        account, url = credentials or Credentials(), self._mirrors.rewrite(spec.url)
        return await self._once(("git?", spec, url, account), lambda: self._shared.git.resolve(spec, url, account))

    async def fetch_git(self, spec: GitSpec, revision: Revision, credentials: Credentials | None = None) -> Snapshot:
        """The content of a revision; at once when the cache has it."""
        account, url = credentials or Credentials(), self._mirrors.rewrite(spec.url)
        key = ("git", spec, revision, url, account)
        return await self._once(key, lambda: self._shared.git.fetch(spec, revision, url, account))

    # -- charts

    async def resolve_chart(self, ref: ChartRef, credentials: Credentials | None = None) -> ResolvedChart:
        """The newest version that satisfies the reference, with the digest of its archive."""
        account, mirrors = credentials or Credentials(), self._mirrors
        key = ("chart?", ref, mirrors.rewrite(ref.repo), account)
        return await self._once(key, lambda: self._shared.charts.resolve(ref, mirrors, account))

    async def fetch_chart(self, chart: ResolvedChart, credentials: Credentials | None = None) -> Path:
        """The chart as an archive in the cache, or as a directory when it came out of a snapshot."""
        account, mirrors = credentials or Credentials(), self._mirrors
        if urlsplit(chart.url).scheme == "file":
            return _directory(chart)
        key = ("chart", chart, mirrors.rewrite(chart.url), account)
        return await self._once(key, lambda: self._shared.charts.fetch(chart, mirrors, account))

    def expire(self) -> None:
        """Somebody asks for a look right now: the next question to a chart repository goes to the repository itself."""
        self._shared.charts.expire()

    async def chart_from_directory(self, snapshot: Snapshot, path: str) -> ResolvedChart:
        """The chart in a directory of a snapshot, with the dependencies that it does not contain itself."""

        async def dependency(ref: ChartRef) -> Path:
            return await self.fetch_chart(await self.resolve_chart(ref))

        source = ChartDirectory(self._shared.store, dependency)
        key = ("chartdir", snapshot.path, path, self._mirrors)
        return await self._once(key, lambda: source.resolve(snapshot, path))

    async def chart_from_artifact(self, artifact: OciArtifact, credentials: Credentials | None = None) -> ResolvedChart:
        """The chart that an OCI artifact is."""
        repository = Repository.parse(self._mirrors.rewrite(artifact.url), insecure=artifact.insecure)
        account = credentials or Credentials()
        key = ("chartoci", artifact, repository, account)
        return await self._once(key, lambda: self._shared.charts.from_artifact(artifact, repository, account))

    # -- OCI and files

    async def resolve_oci(self, spec: OciSpec, credentials: Credentials | None = None) -> OciArtifact:
        """Ask the registry which artifact the spec means now."""
        repository = Repository.parse(self._mirrors.rewrite(spec.url), insecure=spec.insecure)
        account = credentials or Credentials()
        key = ("oci?", spec, repository, account)
        return await self._once(key, lambda: self._shared.oci.resolve(spec, repository, account))

    async def fetch_oci(self, artifact: OciArtifact, credentials: Credentials | None = None) -> Snapshot:
        """The artifact's content as a directory; its tree hashes are not git's, but serve the same end."""
        repository = Repository.parse(self._mirrors.rewrite(artifact.url), insecure=artifact.insecure)
        account = credentials or Credentials()
        key = ("oci", artifact, repository, account)
        tree = await self._once(key, lambda: self._shared.oci.fetch(artifact, repository, account))
        return Snapshot(tree.path, artifact.revision, tree.meta["trees"], tuple(tree.meta["skipped"]))

    async def fetch_file(self, url: str, *, max_bytes: int = 50 << 20) -> Path:
        """One remote file, in the cache; the last good one when the remote fails."""
        key = ("file", url, self._mirrors, max_bytes)
        return await self._once(key, lambda: self._shared.files.fetch(url, self._mirrors, max_bytes=max_bytes))

    # -- housekeeping

    async def collect(
        self, *, keep: Collection[Path] = (), max_age: float = 7 * 86_400.0, max_bytes: int = 4 << 30
    ) -> int:
        """Shrink the cache (see `Store.collect`); `keep` are paths still in use. Returns bytes freed."""
        return await self._shared.store.collect(keep=keep, max_age=max_age, max_bytes=max_bytes)

    async def close(self) -> None:
        """Close the connections; fetches under way fail."""
        await self._shared.http.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _once(self, key: Hashable, call: Callable[[], Awaitable[T]]) -> T:
        try:
            return await self._shared.flights.join(key, call)
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            raise SourceError(
                f"the cache cannot be written: {error.strerror or error}",
                reason="CacheFailed",
                hint="the operator's cache volume is full: give it more room"
                if full
                else "is the cache volume writable?",
            ) from error


def _directory(chart: ResolvedChart) -> Path:
    path = Path(unquote(urlsplit(chart.url).path))
    if not path.is_dir():
        raise ChartError(f"chart {chart} is no longer in the cache", reason="ChartFetchFailed", hint="it is read again")
    return path
