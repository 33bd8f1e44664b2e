"""Single remote files, such as kustomize's remote resources: fetched by us, once, and kept."""

from __future__ import annotations

import logging
import re
import time
from pathlib import Path
from urllib.parse import urlsplit

from clusterstack.errors import SourceError, SpecError
from clusterstack.sources.client import HttpClient, Request, displayed, failure
from clusterstack.sources.guard import Reach
from clusterstack.sources.mirrors import Mirrors
from clusterstack.sources.store import Store

_log = logging.getLogger(__name__)

_FRESH = 600.0
# A version or a commit in the path: what such a URL names is not expected to change.
_PINNED = re.compile(
    r"(?:^|[/=@_-])v?\d+\.\d+\.\d+(?:[-+.][0-9A-Za-z.+-]*)?(?=[/?&]|$)|(?<![0-9a-f])[0-9a-f]{40}(?![0-9a-f])"
)


class FileSource:
    """Remote files by URL. A URL that names a version is fetched once; any other is asked about every ten minutes."""

    def __init__(self, http: HttpClient, store: Store) -> None:
        self._http = http
        self._store = store
        self._checked: dict[str, float] = {}

    async def fetch(self, url: str, mirrors: Mirrors, *, max_bytes: int) -> Path:
        """The file's content in the cache, under a name made of its digest.

        When the remote fails, the last good content is returned. Raises SpecError, SourceError (FetchFailed,
        FetchRefused, FetchTooLarge) naming the URL.
        """
        check_file_url(url)
        actual = mirrors.rewrite(url)
        note = await self._store.note("files", actual) or {}
        kept = await self._store.get(str(note.get("digest", "")))
        if kept and (is_pinned(url) or time.monotonic() - self._checked.get(actual, -_FRESH) < _FRESH):
            return kept
        conditions = {"If-None-Match": note.get("etag"), "If-Modified-Since": note.get("modified")} if kept else {}
        headers = {key: value for key, value in conditions.items() if value}
        mirrored = urlsplit(actual).hostname in mirrors.hosts
        reach = Reach.PRIVATE if mirrored else Reach.PUBLIC
        try:
            reply = await self._http.get(Request(actual, headers=headers, reach=reach, limit=max_bytes), keep=True)
            if reply.status != 200 and not (reply.status == 304 and kept):
                raise failure(f"remote file {displayed(url)}", reply)
        except SourceError as error:
            if not kept:
                raise
            _log.warning("a remote file could not be asked for again, its last good content is used: %s", error)
            return kept
        self._checked[actual] = time.monotonic()
        if reply.status == 304 and kept:
            return kept
        known = {
            "digest": reply.digest,
            "etag": reply.headers.get("ETag"),
            "modified": reply.headers.get("Last-Modified"),
        }
        await self._store.put_note("files", actual, known)
        found = await self._store.get(reply.digest)
        if found is None:
            raise SourceError("the cache directory was emptied while it was written to", reason="CacheFailed")
        return found


def is_pinned(url: str) -> bool:
    """Whether a URL names a full version or a commit."""
    parts = urlsplit(url)
    return _PINNED.search(f"{parts.path}?{parts.query}" if parts.query else parts.path) is not None


def check_file_url(url: str) -> None:
    """Refuse what is no plain http(s) URL. Raises SpecError."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or re.search(r"[\x00-\x20\x7f]", url):
        raise SpecError(f"{displayed(url)[:200]!r} is no remote file", hint="write https://host/path of a single file")
    if parts.username is not None:
        raise SpecError(f"{displayed(url)}: the URL of a remote file holds no user name or password")
