"""One HTTP exchange with the API server: bytes in, bytes out, failures as our two errors."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Coroutine, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import aiohttp
import msgspec

from clusterstack.core.objects import Manifest
from clusterstack.errors import ApiError, TransportError
from clusterstack.kube.auth import Connection

T = TypeVar("T")

JSON = "application/json"
MAX_CAUSES = 10
HANDSHAKE_GRACE = 1.0  # seconds
DEFAULT_RETRY_AFTER = 1.0  # seconds, for a 429 that names none


@dataclass(frozen=True, slots=True)
class Request:
    """What is sent; `path` starts with a slash, `subject` names the object in error messages."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    subject: str = ""
    timeout: float = 30.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, whatever the status."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Manifest:
        """The body as an object. Raises TransportError when it is none."""
        try:
            decoded = msgspec.json.decode(self.body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise TransportError(f"the API server answered {self.status} with something that is not JSON") from error
        if not isinstance(decoded, dict):
            raise TransportError(f"the API server answered {self.status} with JSON that is no object")
        return decoded

    @property
    def continuation(self) -> str:
        """Where a list goes on; empty on its last page."""
        return _page.decode(self.body).metadata.continue_

    @property
    def retry_after(self) -> float:
        """Seconds the server asks us to wait; zero when it does not say."""
        try:
            return max(0.0, float(self.headers.get("Retry-After", "")))
        except ValueError:
            return 0.0


class _Cause(msgspec.Struct):
    field: str = ""
    message: str = ""


class _Details(msgspec.Struct, rename="camel"):
    name: str = ""
    causes: list[_Cause] | None = None
    retry_after_seconds: int = 0


class _Status(msgspec.Struct):
    message: str = ""
    reason: str = ""
    details: _Details | None = None


class _PageMetadata(msgspec.Struct):
    continue_: str = msgspec.field(name="continue", default="")


class _Page(msgspec.Struct):
    metadata: _PageMetadata


_status = msgspec.json.Decoder(_Status)
_page = msgspec.json.Decoder(_Page)


def failure(request: Request, answer: Answer) -> ApiError:
    """The error that a failed answer stands for."""
    try:
        status = _status.decode(answer.body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        status = _Status(message=answer.body[:500].decode(errors="replace").strip())
    details = status.details or _Details()
    causes = tuple(
        f"{cause.field}: {cause.message}" if cause.field else cause.message for cause in details.causes or ()
    )
    subject = f"{request.subject}: " if request.subject and request.subject not in status.message else ""
    return ApiError(
        f"{subject}{status.message or f'HTTP {answer.status}'}",
        status=answer.status,
        reason=_reason(answer.status, status, details),
        retry_after=answer.retry_after or float(details.retry_after_seconds),
        causes=causes[:MAX_CAUSES],
    )


def _reason(code: int, status: _Status, details: _Details) -> str:
    if code == 404 and not details.name:
        return "KindNotServed"  # the path is unknown; an object that is not there is named
    return status.reason or f"HTTP{code}"


def without_secrets(error: ApiError, manifest: Manifest) -> ApiError:
    """The same error with whatever a Secret's manifest holds taken out: API servers quote the values they refuse."""
    values = sorted({text for part in ("data", "stringData") for text in _leaves(manifest.get(part))}, key=len)

    def clean(text: str) -> str:
        for value in reversed(values):
            text = text.replace(value, "***")
        return _QUOTED_VALUE.sub("***", text)

    return ApiError(
        clean(str(error)),
        status=error.status,
        reason=error.reason,
        retry_after=error.retry_after,
        causes=tuple(clean(cause) for cause in error.causes),
    )


_QUOTED_VALUE = re.compile(r"&?value\.valueUnstructured\{.*", re.DOTALL)  # Go's print of a value; nothing shows its end
_NOT_A_SECRET = 2  # characters: values this short are words of any message


def _leaves(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for inner in value.values():
            yield from _leaves(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner)
    elif len(text := str(value)) > _NOT_A_SECRET:
        yield text


class Transport:
    """Sends requests over one connection; no retries, no slots."""

    def __init__(self, connection: Connection, *, user_agent: str, connect_timeout: float) -> None:
        self._connection = connection
        self._connect_timeout = connect_timeout
        # Compression costs the server more than it saves on the networks where API servers live.
        self._headers = {"User-Agent": user_agent, "Accept": JSON, "Accept-Encoding": "identity"}

    async def send(self, request: Request, *, renew: bool = False) -> Answer:
        """One exchange. Raises TransportError: `Unreachable` if nothing was sent, else `Timeout` or `Disconnected`."""
        timeout = aiohttp.ClientTimeout(total=request.timeout, connect=self._connect_timeout)
        try:
            headers = self._headers | await self._connection.headers(renew=renew) | dict(request.headers)
            async with await self._open(request, headers, timeout) as response:
                return Answer(response.status, response.headers, await response.read())
        except (aiohttp.ClientError, OSError) as error:
            raise unreachable(request, error) from error

    async def stream(self, request: Request, *, idle: float) -> AsyncGenerator[bytes, None]:
        """The lines of an endless answer, an empty one first when it begins; ends when `idle` seconds bring nothing.

        Raises ApiError for a status other than 200, TransportError when the connection breaks.
        """
        timeout = aiohttp.ClientTimeout(total=None, connect=self._connect_timeout, sock_read=idle)
        try:
            headers = self._headers | await self._connection.headers() | dict(request.headers)
            async with await self._open(request, headers, timeout) as response:
                if response.status != 200:
                    raise failure(request, Answer(response.status, response.headers, await response.read()))
                try:
                    yield b""
                    async for line in _lines(response.content):
                        yield line
                finally:
                    _abort(response)
        except aiohttp.SocketTimeoutError:
            return
        except (aiohttp.ClientError, OSError) as error:
            raise unreachable(request, error) from error

    async def _open(
        self, request: Request, headers: dict[str, str], timeout: aiohttp.ClientTimeout
    ) -> aiohttp.ClientResponse:
        """Sends, and waits for the answer's beginning; a cancellation leaves a TLS handshake some time to end, because
        asyncio loses the socket of a handshake that is cancelled.
        """
        opening = asyncio.ensure_future(self._request(request, headers, timeout))
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            await asyncio.wait({opening}, timeout=HANDSHAKE_GRACE)
            if opening.cancel() or opening.cancelled() or opening.exception() is not None:
                raise
            _abort(opening.result())
            raise

    async def _request(
        self, request: Request, headers: dict[str, str], timeout: aiohttp.ClientTimeout
    ) -> aiohttp.ClientResponse:
        connection = self._connection
        return await connection.session.request(
            request.method,
            connection.server + request.path,
            params=request.query,
            data=request.body,
            headers=headers,
            timeout=timeout,
            allow_redirects=False,
            **connection.options,
        )


def _abort(response: aiohttp.ClientResponse) -> None:
    """Drops an unfinished answer's connection now: a polite end of TLS would wait for the server, past our own end."""
    transport = response.connection.transport if response.connection is not None else None
    if transport is not None:
        transport.abort()
    response.close()


async def _lines(content: aiohttp.StreamReader) -> AsyncGenerator[bytes, None]:
    """Splits at newlines, whatever a line's length: a CRD exceeds any buffer. A torn end is dropped."""
    parts: list[bytes] = []
    async for chunk in content.iter_any():
        head, *rest = chunk.split(b"\n")
        parts.append(head)
        for following in rest:
            if line := b"".join(parts):
                yield line
            parts = [following]


def unreachable(request: Request, error: Exception) -> TransportError:
    """The TransportError of a connection's failure; its reason tells whether the server may have got the request."""
    match error:
        case aiohttp.ConnectionTimeoutError() | aiohttp.ClientConnectorError():
            reason = "Unreachable"
        case TimeoutError():
            reason = "Timeout"
        case _:
            reason = "Disconnected"
    what = request.subject or request.path
    return TransportError(
        f"{request.method} {what}: no answer from the API server: {str(error) or type(error).__name__}",
        reason=reason,
        hint="it is tried again by itself; if it lasts, look at the API server and the network to it",
    )


async def to_its_end(work: Coroutine[Any, Any, T]) -> T:
    """Awaits work that a cancellation must not interrupt: the cancellation takes effect once the work is done."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        if not task.cancelled():
            task.exception()  # its outcome is the cancelled caller's no more; marks it as seen
        raise cancelled
    return task.result()
