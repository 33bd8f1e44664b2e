"""Charts out of Helm repositories and OCI registries: a name and a constraint → one archive with a known digest."""

from __future__ import annotations

import asyncio
import difflib
import logging
import re
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import yaml

from clusterstack.errors import ChartError, SourceError, SpecError
from clusterstack.helm.versions import Constraint, descending, is_exact, newest
from clusterstack.sources.archive import read_member
from clusterstack.sources.client import HttpClient, Request, displayed, failure, same_origin
from clusterstack.sources.credentials import Credentials
from clusterstack.sources.guard import check_url
from clusterstack.sources.helmindex import Entry, Listing, SafeLoader, read_entries
from clusterstack.sources.mirrors import Mirrors
from clusterstack.sources.oci import HELM_LAYERS, OciArtifact, OciClient, Repository
from clusterstack.sources.store import Store

_log = logging.getLogger(__name__)

_MAX_INDEX = 64 << 20
_MAX_CHART = 64 << 20
_INDEX_FRESH = 60.0
_SHOWN_VERSIONS = 5
_CHART = re.compile(r"(?!\.)[A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True)
class ChartRef:
    """A chart as a spec names it: `repo` is `https://…`, `http://…` or `oci://…`; `version` a constraint, or empty.

    An empty version means the newest release. `pass_credentials` sends them to other hosts that the index names, too.
    """

    repo: str
    chart: str
    version: str = ""
    pass_credentials: bool = False
    insecure: bool = False


@dataclass(frozen=True, slots=True)
class ResolvedChart:
    """One archive: `digest` is the sha256 of its content, `url` where that is to be had."""

    name: str
    version: str
    url: str
    digest: str
    send_credentials: bool = True
    insecure: bool = False

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


class ChartSource:
    """Resolves and fetches charts. An index is downloaded only when a question needs it, and read from disk."""

    def __init__(self, http: HttpClient, oci: OciClient, store: Store) -> None:
        self._http = http
        self._oci = oci
        self._store = store
        self._checked: dict[str, float] = {}

    async def resolve(self, ref: ChartRef, mirrors: Mirrors, credentials: Credentials) -> ResolvedChart:
        """The newest version that satisfies the reference, with its digest.

        An exact version that was fetched before is answered from the cache. Raises SpecError, or ChartError:
        ChartNotFound, ChartVersionNotFound, ChartFetchFailed, DigestMismatch.
        """
        check_ref(ref)
        key = "\n".join((mirrors.rewrite(ref.repo), ref.chart, ref.version))
        if is_exact(ref.version) and (noted := await self._noted(key)):
            return noted
        is_oci = urlsplit(ref.repo).scheme == "oci"
        try:
            chart = await (self._resolve_oci if is_oci else self._resolve_http)(ref, mirrors, credentials)
        except ChartError:
            raise
        except SourceError as error:
            raise _as_chart_error(f"chart {ref.chart} of {displayed(ref.repo)}", error) from None
        if is_exact(ref.version):
            await self._store.put_note("charts", key, asdict(chart))
        return chart

    def expire(self) -> None:
        """Take no index for fresh any more."""
        self._checked.clear()

    async def _noted(self, key: str) -> ResolvedChart | None:
        note = await self._store.note("charts", key)
        try:
            chart = ResolvedChart(**note) if note else None
        except TypeError:  # written by another version
            return None
        return chart if chart and await self._store.get(chart.digest) else None

    async def fetch(self, chart: ResolvedChart, mirrors: Mirrors, credentials: Credentials) -> Path:
        """The archive as a file of the cache, its content checked against the digest. Raises ChartError."""
        if found := await self._store.get(chart.digest):
            return found
        try:
            if urlsplit(chart.url).scheme == "oci":
                repository = Repository.parse(mirrors.rewrite(chart.url), insecure=chart.insecure)
                path = await self._oci.blob(repository, chart.digest, credentials, limit=_MAX_CHART)
            else:
                path = await self._download(chart.url, mirrors, _for(chart, credentials), expected=chart.digest)
        except SourceError as error:
            raise _as_chart_error(f"chart {chart} from {displayed(chart.url)}", error) from None
        return path

    async def from_artifact(
        self, artifact: OciArtifact, repository: Repository, credentials: Credentials
    ) -> ResolvedChart:
        """The chart that an OCI artifact is. Raises ChartError when it is none."""
        try:
            path = await self._oci.blob(repository, artifact.layer, credentials, limit=_MAX_CHART)
            meta = await asyncio.to_thread(chart_yaml, path)
        except ChartError:
            raise
        except SourceError as error:
            raise _as_chart_error(f"chart {artifact.url}", error) from None
        return ResolvedChart(
            str(meta["name"]), str(meta["version"]), artifact.url, artifact.layer, insecure=artifact.insecure
        )

    # -- HTTP repositories

    async def _resolve_http(self, ref: ChartRef, mirrors: Mirrors, credentials: Credentials) -> ResolvedChart:
        entry = await self._entry(ref, mirrors, credentials)
        if not entry.urls:
            raise ChartError(f"chart {ref.chart} {entry.version} of {displayed(ref.repo)} has no URL in the index")
        base = ref.repo.partition("?")[0].rstrip("/") + "/"
        url = urljoin(base, entry.urls[0])
        send = ref.pass_credentials or same_origin(url, ref.repo)
        digest = entry.digest
        if not digest:  # an index may leave it out; the archive itself then says what it is
            account = credentials if send else Credentials()
            digest = "sha256:" + (await self._download(url, mirrors, account)).name
        return ResolvedChart(ref.chart, entry.version, url, digest, send_credentials=send)

    async def _entry(self, ref: ChartRef, mirrors: Mirrors, credentials: Credentials) -> Entry:
        """The index's entry for the reference; a recent copy that lacks it is asked for again before giving up."""
        for fresh in (False, True):
            path, current = await self._index(ref, mirrors, credentials, fresh=fresh)
            listing = await asyncio.to_thread(_read, path, ref)
            by_version = {entry.version: entry for entry in reversed(listing.entries)}
            version = newest(by_version, ref.version)
            if version is not None:
                return by_version[version]
            if current:
                break
        raise _not_listed(ref, listing)

    async def _index(
        self, ref: ChartRef, mirrors: Mirrors, credentials: Credentials, *, fresh: bool
    ) -> tuple[Path, bool]:
        """The repository's index as a file, and whether the remote was asked just now.

        A copy younger than a minute is taken as it is, unless `fresh`; so is any copy when the remote fails.
        """
        repo, _, query = mirrors.rewrite(ref.repo).partition("?")
        url = repo.rstrip("/") + "/index.yaml" + (f"?{query}" if query else "")
        note = await self._store.note("indexes", url) or {}
        kept = await self._store.get(str(note.get("digest", "")))
        recent = time.monotonic() - self._checked.get(url, -_INDEX_FRESH) < _INDEX_FRESH
        if kept and recent and not fresh:
            return kept, False
        conditions = {"If-None-Match": note.get("etag"), "If-Modified-Since": note.get("modified")} if kept else {}
        request = Request(
            url, headers={key: value for key, value in conditions.items() if value}, credentials=credentials,
            authorization=credentials.authorization(), limit=_MAX_INDEX,
        )  # fmt: skip
        try:
            reply = await self._http.get(request, keep=True)
            if reply.status != 200 and not (reply.status == 304 and kept):
                raise failure(f"the index of {displayed(ref.repo)}", reply)
        except SourceError as error:
            if not kept or fresh:
                raise
            _log.warning("an index could not be asked for again, its last good copy is used: %s", error)
            return kept, False
        self._checked[url] = time.monotonic()
        if reply.status == 304 and kept:
            return kept, True
        known = {
            "digest": reply.digest,
            "etag": reply.headers.get("ETag"),
            "modified": reply.headers.get("Last-Modified"),
        }
        await self._store.put_note("indexes", url, known)
        return await kept_blob(self._store, reply.digest), True

    async def _download(self, url: str, mirrors: Mirrors, credentials: Credentials, *, expected: str = "") -> Path:
        request = Request(
            mirrors.rewrite(url), credentials=credentials, authorization=credentials.authorization(),
            limit=_MAX_CHART, expected=expected, raw=True,
        )  # fmt: skip
        reply = await self._http.get(request, keep=True)
        if reply.status != 200:
            raise failure("the archive", reply)
        path = await kept_blob(self._store, reply.digest)
        if not await asyncio.to_thread(_is_gzip, path):
            await self._store.forget(path)
            raise ChartError(
                f"{displayed(url)} is no chart archive", reason="ChartInvalid", hint="does it lead to a web page?"
            )
        return path

    # -- OCI registries

    async def _resolve_oci(self, ref: ChartRef, mirrors: Mirrors, credentials: Credentials) -> ResolvedChart:
        url = f"{ref.repo.rstrip('/')}/{ref.chart}"
        repository = Repository.parse(mirrors.rewrite(url), insecure=ref.insecure)
        tag = ref.version.replace("+", "_") if is_exact(ref.version) else ""
        found = await self._oci.manifest(repository, tag, credentials) if tag else None
        if found is None:
            tag = await self._oci_tag(ref, repository, credentials)
            found = await self._oci.manifest(repository, tag, credentials)
        layers = found[1].get("layers") if found else None
        for layer in layers if isinstance(layers, list) else ():
            if isinstance(layer, dict) and layer.get("mediaType") in HELM_LAYERS:
                name = ref.chart.rpartition("/")[2]
                return ResolvedChart(name, tag.replace("_", "+"), url, str(layer["digest"]), insecure=ref.insecure)
        raise ChartError(f"{url}:{tag} is no Helm chart", reason="ChartInvalid", hint="does the tag name an image?")

    async def _oci_tag(self, ref: ChartRef, repository: Repository, credentials: Credentials) -> str:
        try:
            tags = await self._oci.tags(repository, credentials)
        except SourceError as error:
            if error.reason != "OciNotFound":
                raise
            raise ChartError(
                f"{displayed(ref.repo)} has no chart {ref.chart}",
                hint="check the chart's name and the repository's URL",
            ) from None
        versions = {tag.replace("_", "+"): tag for tag in tags}
        version = newest(versions, ref.version)
        if version is None:
            raise _not_listed(ref, Listing(tuple(Entry(version, (), "") for version in versions)))
        return versions[version]


def check_ref(ref: ChartRef) -> None:
    """Refuse a reference that no repository could answer. Raises SpecError naming the field."""
    parts = urlsplit(ref.repo)
    if parts.scheme not in ("http", "https", "oci") or not parts.hostname or re.search(r"[\x00-\x20]", ref.repo):
        raise SpecError(f"{ref.repo[:200]!r} is no chart repository", hint="write https://host/path or oci://host/path")
    if parts.password is not None:
        raise SpecError("a repository URL holds no password", hint="put it into the Secret of the repository")
    check_url(ref.repo)
    names = ref.chart.split("/") if parts.scheme == "oci" else [ref.chart]
    if not all(_CHART.fullmatch(name) for name in names):
        raise SpecError(
            f"{ref.chart[:200]!r} is no name of a chart", hint="charts in a Git repository need its snapshot"
        )
    try:
        Constraint.parse(ref.version)
    except ValueError as error:
        raise SpecError(
            f"chart {ref.chart}: {error}", hint="write a version, or a range such as ^1.2 or >=1.2 <2"
        ) from None


def chart_yaml(archive: Path) -> Mapping[str, Any]:
    """Chart.yaml of an archive; has at least name and version. Raises ChartError (ChartInvalid)."""
    return parse_chart_yaml(read_member(archive, "Chart.yaml", depth=1), "the archive")


def parse_chart_yaml(text: bytes | None, where: str) -> Mapping[str, Any]:
    """A Chart.yaml's content; has at least name and version. Raises ChartError (ChartInvalid)."""
    value = load_yaml(text, where) if text is not None else None
    if not isinstance(value, dict) or not value.get("name") or not value.get("version"):
        why = "has no Chart.yaml" if text is None else "has a Chart.yaml without name or version"
        raise ChartError(f"{where} is no chart: it {why}", reason="ChartInvalid", retryable=False)
    if not _CHART.fullmatch(str(value["name"])):
        raise ChartError(f"{where}: {value['name']!r} is no name of a chart", reason="ChartInvalid", retryable=False)
    return value


def load_yaml(text: bytes, where: str) -> Any:
    """A small YAML file of a chart. Raises ChartError (ChartInvalid) when it cannot be read."""
    try:
        return yaml.load(text, Loader=SafeLoader)  # noqa: S506 - it is a safe loader
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        why = str(error).splitlines()[0] if str(error) else error.__class__.__name__
        raise ChartError(f"{where} cannot be read: {why}", reason="ChartInvalid", retryable=False) from None


def _for(chart: ResolvedChart, credentials: Credentials) -> Credentials:
    return credentials if chart.send_credentials else Credentials()


def _read(path: Path, ref: ChartRef) -> Listing:
    try:
        return read_entries(path, ref.chart)
    except ChartError as error:
        raise ChartError(f"{displayed(ref.repo)}: {error}", reason=error.reason, hint=error.hint) from None


def _not_listed(ref: ChartRef, listing: Listing) -> ChartError:
    """Name repository, chart and version, and what there is instead."""
    repo = displayed(ref.repo)
    if not listing.entries:
        near = difflib.get_close_matches(ref.chart, listing.charts, n=3)
        others = f"; it has {', '.join(near)}" if near else ""
        return ChartError(
            f"{repo} has no chart {ref.chart}{others}", hint="check the chart's name and the repository's URL"
        )
    newest_first = [str(version) for version in descending(entry.version for entry in listing.entries)]
    shown = ", ".join(newest_first[:_SHOWN_VERSIONS]) or "none that is a semantic version"
    only = "" if ref.version else " that is no pre-release"
    return ChartError(
        f"{repo} has no version {ref.version or '*'}{only} of chart {ref.chart}; the newest are {shown}",
        reason="ChartVersionNotFound",
        hint="choose one of these versions, or wait until it is published",
    )


def _as_chart_error(what: str, error: SourceError) -> ChartError:
    kept = ("DigestMismatch", "CacheFailed", "FetchRefused", "FetchTooLarge", "InvalidCertificate")
    reason = error.reason if error.reason in kept else "ChartFetchFailed"
    return ChartError(f"{what}: {error}", reason=reason, hint=error.hint, retryable=error.retryable)


async def kept_blob(store: Store, digest: str) -> Path:
    """The file just put into the cache. Raises SourceError when someone emptied the cache in between."""
    found = await store.get(digest)
    if found is None:
        raise SourceError("the cache directory was emptied while it was written to", reason="CacheFailed")
    return found


def _is_gzip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"
