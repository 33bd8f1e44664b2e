"""HTTP for every source: bounded in time, size and redirects, guarded in where it connects, straight into the cache."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urljoin, urlsplit, urlunsplit

import aiohttp
from yarl import URL

from clusterstack import __version__
from clusterstack.errors import SourceError
from clusterstack.sources.credentials import Credentials
from clusterstack.sources.guard import GuardedResolver, Reach, check_url, is_loopback
from clusterstack.sources.store import Store

_REDIRECTS = frozenset((301, 302, 303, 307, 308))
_MAX_REDIRECTS = 5
_MAX_TEXT = 8 << 20
_TRANSIENT = frozenset((429, 502, 503, 504))
_ATTEMPTS = 3
_CONTEXTS = 64
_UNREACHABLE = "is the host reachable from the cluster?"


@dataclass(frozen=True, slots=True)
class Request:
    """A GET. `credentials` go to the URL's own origin only; `limit` is in bytes, on what is kept."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    credentials: Credentials = field(default_factory=Credentials)
    authorization: str = ""
    reach: Reach = Reach.PRIVATE
    limit: int = _MAX_TEXT
    expected: str = ""  # `sha256:<hex>` the content must have
    raw: bool = False  # keep the bytes as stored there, whatever Content-Encoding claims (archives)


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back: a kept success has a `digest` in the cache, anything else a `body`."""

    status: int
    headers: Mapping[str, str]
    url: str
    body: bytes = b""
    digest: str = ""


class HttpClient:
    """Two sessions of one kind, one for each reach: a resolved name is never shared between them."""

    def __init__(self, store: Store, *, timeout: float = 60.0) -> None:
        self._store = store
        self._timeout = timeout
        self._sessions: dict[Reach, aiohttp.ClientSession] = {}
        self._contexts: dict[bytes, ssl.SSLContext] = {}

    async def close(self) -> None:
        for session in self._sessions.values():
            await session.close()
        self._sessions.clear()

    async def get(self, request: Request, *, keep: bool = False) -> Reply:
        """Fetch; with `keep` a 200 goes into the cache. Any status is an answer.

        Raises SourceError: FetchFailed (no answer, too long, too large), FetchRefused, DigestMismatch.
        """
        shown = displayed(request.url)
        try:
            async with asyncio.timeout(self._timeout):
                return await self._persist(request, keep=keep)
        except TimeoutError:
            raise SourceError(
                f"GET {shown}: no complete answer in {self._timeout:g} s",
                hint="is the host reachable from the cluster?",
            ) from None
        except (aiohttp.ClientError, ssl.SSLError, ValueError) as error:
            raise SourceError(f"GET {shown}: {_cause(error)}", hint=_hint(error)) from None

    async def _persist(self, request: Request, *, keep: bool) -> Reply:
        """Try again, shortly after, what fails in passing."""
        for attempt in range(1, _ATTEMPTS):
            try:
                reply = await self._follow(request, keep=keep)
                if reply.status not in _TRANSIENT:
                    return reply
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientPayloadError, ConnectionResetError):
                pass
            await asyncio.sleep(0.25 * attempt)
        return await self._follow(request, keep=keep)

    async def _follow(self, request: Request, *, keep: bool) -> Reply:
        url = request.url
        for _ in range(_MAX_REDIRECTS + 1):
            async with self._open(url, request) as response:
                location = response.headers.get("Location")
                if response.status not in _REDIRECTS or not location:
                    return await self._read(response, request, url=url, keep=keep)
            target = urljoin(url, location)
            if urlsplit(url).scheme == "https" and urlsplit(target).scheme != "https":
                raise SourceError(
                    f"GET {displayed(request.url)}: redirected from https to {displayed(target)}",
                    reason="FetchRefused",
                    retryable=False,
                )
            url = target
        raise SourceError(f"GET {displayed(request.url)}: more than {_MAX_REDIRECTS} redirects")

    @asynccontextmanager
    async def _open(self, url: str, request: Request) -> AsyncIterator[aiohttp.ClientResponse]:
        home = _origin(url) == _origin(request.url)
        if urlsplit(url).scheme not in ("http", "https"):
            raise SourceError(
                f"GET {displayed(url)}: only http and https are fetched", reason="FetchRefused", retryable=False
            )
        same_host = urlsplit(url).hostname == urlsplit(request.url).hostname
        check_url(url, redirected=url != request.url, private=same_host)
        headers = dict(request.headers)
        if home and request.authorization:
            headers["Authorization"] = request.authorization
        if request.raw:
            headers["Accept-Encoding"] = "identity"
        session = self._session(request.reach if same_host else Reach.PUBLIC)
        context = await self._context(request.credentials, client=home)
        async with session.get(
            URL(url, encoded=url.isascii() and " " not in url),
            headers=headers,
            allow_redirects=False,
            ssl=context,
            auto_decompress=not request.raw,
        ) as response:
            yield response

    async def _read(self, response: aiohttp.ClientResponse, request: Request, *, url: str, keep: bool) -> Reply:
        headers = response.headers.copy()
        if not keep or response.status != 200:
            body = bytearray()
            async for chunk in response.content.iter_chunked(1 << 16):
                body += chunk
                _check_size(len(body), request)
            return Reply(response.status, headers, url, bytes(body))
        _check_size(response.content_length or 0, request)
        with self._store.writer() as writer:
            async for chunk in response.content.iter_chunked(1 << 18):
                writer.write(chunk)
                _check_size(writer.size, request)
            digest = await asyncio.to_thread(writer.commit, expected=request.expected)
        return Reply(200, headers, url, digest=digest)

    def _session(self, reach: Reach) -> aiohttp.ClientSession:
        if reach not in self._sessions:
            connector = aiohttp.TCPConnector(limit=32, limit_per_host=8, resolver=GuardedResolver(reach))
            self._sessions[reach] = aiohttp.ClientSession(
                connector=connector,
                trust_env=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=30),
                headers={"User-Agent": f"clusterstack/{__version__}"},
            )
        return self._sessions[reach]

    async def _context(self, credentials: Credentials, *, client: bool) -> ssl.SSLContext | bool:
        """TLS as the Secret wants it; kept, because connections are reused per context."""
        pair = (credentials.client_cert, credentials.client_key) if client else ("", "")
        if not credentials.ca and not pair[0]:
            return True
        key = hashlib.sha256("\0".join((credentials.ca, *pair)).encode()).digest()
        if key not in self._contexts:
            while len(self._contexts) >= _CONTEXTS:
                self._contexts.pop(next(iter(self._contexts)))
            self._contexts[key] = await asyncio.to_thread(
                _make_context, credentials.ca, *pair, scratch=self._store.scratch()
            )
        return self._contexts[key]


def displayed(url: str) -> str:
    """A URL for people: without user information and query, which may hold secrets."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "", ""))


def failure(what: str, reply: Reply) -> SourceError:
    """The error for an answer that is no success."""
    hint = {
        401: "check the Secret of the source",
        403: "check the Secret of the source, and what its account may read",
        404: "check the URL",
        429: "the remote limits requests; it is asked again later",
    }.get(reply.status, "the remote is in trouble; it is asked again later" if reply.status >= 500 else "")
    return SourceError(f"{what}: GET {displayed(reply.url)} answered {reply.status}", hint=hint)


def plain_http(host: str) -> bool:
    """Whether a registry on this host is spoken to without TLS: only on this machine, as other clients have it."""
    return is_loopback(host)


def _check_size(size: int, request: Request) -> None:
    if size > request.limit:
        raise SourceError(
            f"GET {displayed(request.url)}: larger than the limit of {request.limit >> 20} MiB",
            reason="FetchTooLarge",
            retryable=False,
        )


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return (parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme))


def same_origin(one: str, other: str) -> bool:
    """Whether two URLs have scheme, host and port in common."""
    return _origin(one) == _origin(other)


def _make_context(ca: str, cert: str, key: str, *, scratch: Path) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context()
        if ca:
            context.load_verify_locations(cadata=ca)
        if cert:
            with tempfile.TemporaryDirectory(
                dir=scratch
            ) as folder:  # 0700; the library reads key pairs from files only
                pair = (Path(folder) / "tls.crt", Path(folder) / "tls.key")
                pair[0].write_text(cert)
                pair[1].write_text(key)
                context.load_cert_chain(*pair)
    except (ssl.SSLError, ValueError) as error:
        raise SourceError(
            f"the certificate or key in the Secret cannot be used: {error.__class__.__name__}",
            reason="InvalidCertificate",
            hint="ca.crt, tls.crt and tls.key are PEM texts",
            retryable=False,
        ) from None
    return context


def _cause(error: Exception) -> str:
    """One line on why there was no answer."""
    match error:
        case aiohttp.ClientConnectorCertificateError() | ssl.SSLCertVerificationError():
            return f"its certificate is not trusted ({error})"
        case aiohttp.ClientConnectorDNSError():
            return f"its name does not resolve ({error.os_error})"
        case aiohttp.ClientConnectorError():
            return f"cannot connect ({error.os_error.strerror or error.os_error})"
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientPayloadError():
            return "the connection broke off before the answer was complete"
        case _:
            return str(error) or error.__class__.__name__


def _hint(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorCertificateError | ssl.SSLCertVerificationError):
        return "put the authority's certificate into the Secret's ca.crt"
    return _UNREACHABLE
