"""OCI registries: tags, manifests and blobs (distribution specification), every blob checked against its digest."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit

from clusterstack.errors import SourceError, SpecError
from clusterstack.helm.versions import newest
from clusterstack.sources.archive import extract
from clusterstack.sources.client import HttpClient, Reply, Request, failure, plain_http
from clusterstack.sources.credentials import Credentials
from clusterstack.sources.snapshot import tree_hashes
from clusterstack.sources.store import Store, Tree

HELM_LAYERS = ("application/vnd.cncf.helm.chart.content.v1.tar+gzip", "application/tar+gzip")
_MANIFESTS = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"
_MAX_MANIFEST = 4 << 20
_MAX_LAYER = 256 << 20
_MAX_PAGES = 100
_REPOSITORY = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True, slots=True)
class OciSpec:
    """Which artifact: `digest`, or else the newest tag that satisfies `semver`, or else `tag` (default `latest`).

    `operation` is Flux's: `extract` unpacks the layer, `copy` keeps it as the file it is.
    """

    url: str
    tag: str = ""
    semver: str = ""
    semver_filter: str = ""
    digest: str = ""
    layer_media_type: str = ""
    operation: str = "extract"
    insecure: bool = False


@dataclass(frozen=True, slots=True)
class OciArtifact:
    """A resolved artifact: nothing about it can change any more."""

    url: str
    revision: str  # `tag@sha256:…`
    digest: str  # of the manifest
    layer: str  # digest of the chosen layer
    layer_media_type: str
    size: int
    tag: str
    operation: str = "extract"
    insecure: bool = False


@dataclass(frozen=True, slots=True)
class Repository:
    """Where a repository answers: `base` is scheme and host."""

    base: str
    name: str

    @classmethod
    def parse(cls, url: str, *, insecure: bool = False) -> Repository:
        """Read `oci://host/path`; `http://` and `https://` come from mirrors. Raises SpecError."""
        parts = urlsplit(url)
        name = parts.path.strip("/")
        if parts.scheme not in ("oci", "http", "https") or not parts.hostname or not _REPOSITORY.fullmatch(name):
            raise SpecError(
                f"{url!r} is no OCI repository", hint="write oci://host/path, in small letters, without a tag"
            )
        if "@" in parts.netloc:
            raise SpecError("an OCI URL holds no user name or password", hint="put them into the Secret of the source")
        host = parts.netloc
        if host in ("docker.io", "index.docker.io"):
            host = "registry-1.docker.io"
            name = name if "/" in name else f"library/{name}"
        plain = parts.scheme == "http" or (parts.scheme == "oci" and (insecure or plain_http(parts.hostname)))
        return cls(f"{'http' if plain else 'https'}://{host}", name)

    @property
    def host(self) -> str:
        return urlsplit(self.base).netloc

    def __str__(self) -> str:
        return f"oci://{self.host}/{self.name}"


class OciClient:
    """Reads registries. Tokens are kept until they expire, per repository and account."""

    def __init__(self, http: HttpClient, store: Store) -> None:
        self._http = http
        self._store = store
        self._tokens: dict[tuple[Repository, Credentials], tuple[float, str]] = {}

    async def tags(self, repository: Repository, credentials: Credentials) -> tuple[str, ...]:
        """Every tag of the repository, over all pages. Raises SourceError."""
        found: list[str] = []
        url = f"{repository.base}/v2/{repository.name}/tags/list?n=1000"
        for _ in range(_MAX_PAGES):
            reply = await self._get(repository, Request(url, credentials=credentials))
            if reply.status != 200:
                raise _failure(f"the tags of {repository}", reply)
            found += _json(reply).get("tags") or ()
            following = re.match(r'\s*<([^>]*)>\s*;.*rel="?next', reply.headers.get("Link", ""))
            if following is None:
                break
            url = urljoin(url, following[1])
        return tuple(tag for tag in found if isinstance(tag, str))

    async def manifest(
        self, repository: Repository, reference: str, credentials: Credentials
    ) -> tuple[str, Mapping[str, Any]] | None:
        """Digest and content of the manifest under a tag or digest; None when there is none. Raises SourceError."""
        if not (_TAG.fullmatch(reference) or _DIGEST.fullmatch(reference)):
            raise SpecError(f"{reference!r} is no tag or digest of {repository}")
        url = f"{repository.base}/v2/{repository.name}/manifests/{reference}"
        request = Request(url, headers={"Accept": _MANIFESTS}, credentials=credentials, limit=_MAX_MANIFEST)
        reply = await self._get(repository, request)
        if reply.status == 404:
            return None
        if reply.status != 200:
            raise _failure(f"{repository}:{reference}", reply)
        digest = "sha256:" + hashlib.sha256(reply.body).hexdigest()
        claimed = reference if _DIGEST.fullmatch(reference) else reply.headers.get("Docker-Content-Digest", digest)
        if claimed.startswith("sha256:") and claimed != digest:
            raise SourceError(
                f"the manifest of {repository}:{reference} has digest {digest}, not {claimed}", reason="DigestMismatch"
            )
        return digest, _json(reply)

    async def blob(
        self, repository: Repository, digest: str, credentials: Credentials, *, limit: int = _MAX_LAYER
    ) -> Path:
        """The blob as a file of the cache. Raises SourceError, also when its content is not what its digest says."""
        if not _DIGEST.fullmatch(digest):
            raise SourceError(f"{repository}: the digest {digest!r} is not sha256", retryable=False)
        if found := await self._store.get(digest):
            return found
        url = f"{repository.base}/v2/{repository.name}/blobs/{digest}"
        request = Request(url, credentials=credentials, limit=limit, expected=digest, raw=True)
        reply = await self._get(repository, request, keep=True)
        if reply.status != 200:
            raise _failure(f"{repository}@{digest}", reply)
        found = await self._store.get(digest)
        if found is None:
            raise SourceError("the cache directory was emptied while it was written to", reason="CacheFailed")
        return found

    # -- authorization

    async def _get(self, repository: Repository, request: Request, *, keep: bool = False) -> Reply:
        """GET with the token for this repository, fetched when the registry asks for one."""
        account = request.credentials.for_registry(repository.host)
        now = time.monotonic()
        expiry, authorization = self._tokens.get((repository, account), (0.0, ""))
        first = _with(request, account, authorization if expiry > now else "")
        reply = await self._http.get(first, keep=keep)
        if reply.status != 401:
            return reply
        authorization, lifetime = await self._authorize(repository, reply, account)
        if not authorization:
            return reply
        self._tokens = {key: value for key, value in self._tokens.items() if value[0] > now}
        self._tokens[repository, account] = (now + lifetime, authorization)
        return await self._http.get(_with(request, account, authorization), keep=keep)

    async def _authorize(self, repository: Repository, reply: Reply, account: Credentials) -> tuple[str, float]:
        """The Authorization header that the registry's challenge asks for, and for how many seconds it holds."""
        challenge = reply.headers.get("WWW-Authenticate", "")
        scheme = challenge.partition(" ")[0].lower()
        if scheme == "basic":
            return account.authorization(), 3600.0
        fields = dict(_CHALLENGE.findall(challenge))
        if scheme != "bearer" or not fields.get("realm"):
            return "", 0.0
        if account.bearer:
            return account.authorization(), 3600.0
        if urlsplit(fields["realm"]).scheme == "http" and repository.base.startswith("https:"):
            raise SourceError(f"{repository} sends its users to a token service without TLS", reason="FetchRefused")
        query = {"service": fields.get("service", ""), "scope": f"repository:{repository.name}:pull"}
        url = (
            fields["realm"]
            + ("&" if "?" in fields["realm"] else "?")
            + urlencode({k: v for k, v in query.items() if v})
        )
        token = await self._http.get(Request(url, credentials=account, authorization=account.authorization()))
        if token.status != 200:
            raise _failure(f"a token for {repository}", token)
        answer = _json(token)
        text = answer.get("token") or answer.get("access_token") or ""
        lifetime = answer.get("expires_in")
        return f"Bearer {text}", max(0.0, (lifetime if isinstance(lifetime, int) else 60) - 10.0)


class OciSource:
    """OCI artifacts as sources: a tag, range or digest → a directory."""

    def __init__(self, client: OciClient, store: Store) -> None:
        self._client = client
        self._store = store

    async def resolve(self, spec: OciSpec, repository: Repository, credentials: Credentials) -> OciArtifact:
        """Find what the spec means now. Raises SpecError, SourceError (OciNotFound, OciAuthFailed, FetchFailed)."""
        tag = "" if spec.digest else await self._tag(spec, repository, credentials)
        found = await self._client.manifest(repository, spec.digest or tag, credentials)
        if found is None:
            raise SourceError(
                f"{spec.url} has no {spec.digest or tag}", reason="OciNotFound", hint="check the tag, semver or digest"
            )
        digest, manifest = found
        layer = _layer(spec, manifest)
        return OciArtifact(
            spec.url, f"{tag or spec.tag or 'latest'}@{digest}", digest, layer["digest"], layer.get("mediaType", ""),
            layer.get("size", 0), tag, spec.operation, spec.insecure,
        )  # fmt: skip

    async def _tag(self, spec: OciSpec, repository: Repository, credentials: Credentials) -> str:
        if not spec.semver:
            return spec.tag or "latest"
        tags = await self._client.tags(repository, credentials)
        try:
            pattern = re.compile(spec.semver_filter)
            found = newest((tag for tag in tags if pattern.search(tag)), spec.semver)
        except (ValueError, re.error) as error:
            raise SpecError(f"{spec.url}: {error}") from None
        if found is None:
            raise SourceError(f"{spec.url} has no tag that satisfies {spec.semver}", reason="OciNotFound")
        return found

    async def fetch(self, artifact: OciArtifact, repository: Repository, credentials: Credentials) -> Tree:
        """The artifact's content as a directory of the cache. Raises SourceError, also for an unsafe archive."""
        key = f"oci-{artifact.layer.removeprefix('sha256:')}-{artifact.operation}"

        async def build(content: Path) -> dict[str, Any]:
            blob = await self._client.blob(repository, artifact.layer, credentials)
            if artifact.operation == "copy":
                await asyncio.to_thread(shutil.copyfile, blob, content / blob.name)
                skipped: tuple[str, ...] = ()
            else:
                skipped = await asyncio.to_thread(extract, blob, content)
            return {"skipped": list(skipped), "trees": await asyncio.to_thread(tree_hashes, content)}

        return await self._store.build_tree(key, build)


def _layer(spec: OciSpec, manifest: Mapping[str, Any]) -> Mapping[str, Any]:
    layers = manifest.get("layers")
    if not isinstance(layers, list):
        raise SourceError(f"{spec.url} is no artifact but an index of several", reason="OciNotFound", retryable=False)
    for layer in layers:
        if isinstance(layer, dict) and layer.get("digest") and spec.layer_media_type in ("", layer.get("mediaType")):
            return layer
    wanted = f" of type {spec.layer_media_type}" if spec.layer_media_type else ""
    raise SourceError(f"{spec.url} has no layer{wanted}", reason="OciNotFound", retryable=False)


def _with(request: Request, account: Credentials, authorization: str) -> Request:
    return Request(
        request.url, headers=request.headers, credentials=account, authorization=authorization, reach=request.reach,
        limit=request.limit, expected=request.expected, raw=request.raw,
    )  # fmt: skip


def _failure(what: str, reply: Reply) -> SourceError:
    error = failure(what, reply)
    if reply.status in (401, 403):
        error.reason = "OciAuthFailed"
    if reply.status == 404:
        error.reason = "OciNotFound"
    return error


def _json(reply: Reply) -> Mapping[str, Any]:
    try:
        value = json.loads(reply.body)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise failure("the answer is no JSON object", reply)
    return value
