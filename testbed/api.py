"""A small blocking client for the API server, for tests and for setting up a control plane."""

from __future__ import annotations

import http.client
import json
import ssl
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

APPLY = "application/apply-patch+yaml"
_JSON = "application/json"
_BUSY_TRIES = 100
_BUSY_SECONDS = 0.1


class ApiError(RuntimeError):
    """The API server answered with a failure; `code` is the HTTP status, `body` what it sent."""

    def __init__(self, code: int, method: str, path: str, body: bytes) -> None:
        super().__init__(f"{method} {path}: {code} {body[:500].decode(errors='replace')}")
        self.code = code
        self.body = body


class Api:
    """Requests to one API server with a bearer token, one connection a request, safe to use from any thread."""

    def __init__(self, url: str, *, token: str, ca: Path, user_agent: str = "testbed") -> None:
        self._address = urlsplit(url)
        self._context = ssl.create_default_context(cafile=str(ca))
        self._headers = {"Authorization": f"Bearer {token}", "User-Agent": user_agent, "Accept": _JSON}

    def raw(self, method: str, path: str, body: bytes | None = None, *, content_type: str = _JSON) -> tuple[int, bytes]:
        """Status and body of one request; OSError when there is no answer."""
        host, port = self._address.hostname, self._address.port
        assert host is not None
        connection = http.client.HTTPSConnection(host, port, context=self._context, timeout=60)
        try:
            connection.request(method, path, body, {**self._headers, "Content-Type": content_type})
            response = connection.getresponse()
            return response.status, response.read()
        except http.client.HTTPException as error:
            raise ConnectionError(f"{method} {path}: {error!r}") from error
        finally:
            connection.close()

    def request(self, method: str, path: str, body: object = None, *, content_type: str = _JSON) -> Any:
        """The decoded answer of one request; ApiError for a status of 400 or more.

        Tries again while the server answers 429, which it does for a moment after a CRD was added.
        """
        data = None if body is None else json.dumps(body).encode()
        for _ in range(_BUSY_TRIES):
            code, answer = self.raw(method, path, data, content_type=content_type)
            if code != 429:
                break
            time.sleep(_BUSY_SECONDS)
        if code >= 400:
            raise ApiError(code, method, path, answer)
        return json.loads(answer) if answer else None

    def get(self, path: str) -> Any:
        return self.request("GET", path)

    def find(self, path: str) -> Any | None:
        """Like `get`, but None for an object that is not there."""
        try:
            return self.get(path)
        except ApiError as error:
            if error.code == 404:
                return None
            raise

    def create(self, collection: str, manifest: Mapping[str, Any]) -> Any:
        return self.request("POST", collection, manifest)

    def delete(self, path: str) -> Any:
        return self.request("DELETE", path)

    def apply(self, path: str, manifest: Mapping[str, Any], *, manager: str = "testbed") -> Any:
        """Server-side apply of a manifest to the object at `path`."""
        query = urlencode({"fieldManager": manager, "force": "true"})
        return self.request("PATCH", f"{path}?{query}", manifest, content_type=APPLY)

    def wait(self, path: str, condition: Callable[[Any], bool], *, timeout: float = 30.0) -> Any:
        """Polls the object at `path` until `condition` holds for it (None: not there); else TimeoutError."""
        deadline = time.monotonic() + timeout
        while not condition(found := self.find(path)):
            if time.monotonic() > deadline:
                status = found.get("status", found) if isinstance(found, dict) else found
                raise TimeoutError(
                    f"{path} did not get there within {timeout:.0f} s; it is {json.dumps(status)[:1500]}"
                )
            time.sleep(0.05)
        return found
