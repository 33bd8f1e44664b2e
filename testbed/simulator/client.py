"""The API server, straight over aiohttp: the verbs a controller needs, patient with a server that is down."""

from __future__ import annotations

import asyncio
import base64
import ssl
import tempfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Self

import aiohttp
import msgspec
import yaml

from testbed.simulator.objects import MANAGER, Obj, Resource

_MERGE = "application/merge-patch+json"
_JSON_PATCH = "application/json-patch+json"
_METADATA = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
_METADATA_WATCH = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"


class ApiError(Exception):
    """An answer that is not a success."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


class ApiClient:
    """Use as an async context manager. Connection errors and 429 are retried until the server answers."""

    def __init__(self, server: str, context: ssl.SSLContext | None, token: str) -> None:
        self._server = server.rstrip("/")
        self._context = context
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._session: aiohttp.ClientSession | None = None

    @classmethod
    def from_kubeconfig(cls, path: Path) -> Self:
        """Reads the current context: a token or a client certificate. Raises ValueError for anything else."""
        config = yaml.safe_load(path.read_text())
        context = _named(config["contexts"], config["current-context"])["context"]
        cluster = _named(config["clusters"], context["cluster"])["cluster"]
        user = _named(config["users"], context["user"])["user"]
        return cls(cluster["server"], _tls(cluster, user, base=path.parent), user.get("token", ""))

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(ssl=self._context or True, limit=0)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5)
        headers = {**self._headers, "User-Agent": MANAGER}
        self._session = aiohttp.ClientSession(connector=connector, timeout=timeout, headers=headers)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def find(self, resource: Resource, namespace: str, name: str) -> Obj | None:
        try:
            return await self._call("GET", resource.path(namespace, name))
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    async def page(self, resource: Resource, *, query: Mapping[str, str], metadata_only: bool) -> Obj:
        accept = {"Accept": _METADATA} if metadata_only else {}
        return await self._call("GET", resource.path(), query=query, headers=accept)

    async def create(self, resource: Resource, obj: Obj) -> Obj | None:
        """None if there is one already."""
        try:
            path = resource.path(obj["metadata"].get("namespace", ""))
            return await self._call("POST", path, query={"fieldManager": MANAGER}, body=obj)
        except ApiError as error:
            if error.status == 409:
                return None
            raise

    async def merge(self, resource: Resource, namespace: str, name: str, patch: Obj, *, subresource: str = "") -> Obj:
        path = resource.path(namespace, name, subresource)
        return await self._call("PATCH", path, query={"fieldManager": MANAGER}, body=patch, content_type=_MERGE)

    async def json_patch(self, resource: Resource, namespace: str, name: str, patch: list[Obj]) -> Obj:
        path = resource.path(namespace, name)
        return await self._call("PATCH", path, query={"fieldManager": MANAGER}, body=patch, content_type=_JSON_PATCH)

    async def delete(self, resource: Resource, namespace: str, name: str) -> None:
        try:
            await self._call("DELETE", resource.path(namespace, name))
        except ApiError as error:
            if error.status != 404:
                raise

    async def watch(
        self, resource: Resource, *, query: Mapping[str, str], metadata_only: bool
    ) -> AsyncIterator[tuple[str, Obj]]:
        """Events of one watch until the server ends it."""
        headers = {"Accept": _METADATA_WATCH} if metadata_only else {}
        params = {**query, "watch": "true", "allowWatchBookmarks": "true", "timeoutSeconds": "600"}
        async with self._started.get(self._server + resource.path(), params=params, headers=headers) as answer:
            if answer.status != 200:
                raise ApiError(answer.status, (await answer.read())[:200].decode(errors="replace"))
            rest = b""
            async for chunk in answer.content.iter_any():
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    if line:
                        event = msgspec.json.decode(line)
                        yield event["type"], event["object"]

    @property
    def _started(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("the client is not open")
        return self._session

    async def _call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: object = None,
        content_type: str = "application/json",
        headers: Mapping[str, str] | None = None,
    ) -> Obj:
        data = None if body is None else msgspec.json.encode(body)
        sent = {"Content-Type": content_type, **(headers or {})} if data is not None else dict(headers or {})
        while True:
            try:
                url = self._server + path
                async with self._started.request(method, url, params=query, data=data, headers=sent) as answer:
                    content = await answer.read()
            except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, TimeoutError):
                await asyncio.sleep(0.3)
                continue
            if answer.status in (429, 503):
                await asyncio.sleep(0.5)
                continue
            if answer.status >= 400:
                raise ApiError(answer.status, _message(content))
            decoded: Obj = msgspec.json.decode(content)
            return decoded


def _message(content: bytes) -> str:
    try:
        return str(msgspec.json.decode(content)["message"])
    except (msgspec.DecodeError, KeyError, TypeError):
        return content[:200].decode(errors="replace")


def _named(entries: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return next(entry for entry in entries if entry["name"] == name)


def _tls(cluster: dict[str, Any], user: dict[str, Any], *, base: Path) -> ssl.SSLContext | None:
    if not cluster["server"].startswith("https"):
        return None
    ca = _content(cluster, "certificate-authority", base)
    context = ssl.create_default_context(cadata=ca.decode() if ca else None)
    if cluster.get("insecure-skip-tls-verify"):
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    certificate, key = _content(user, "client-certificate", base), _content(user, "client-key", base)
    if certificate and key:
        with tempfile.NamedTemporaryFile() as file:  # the ssl module loads client certificates from files only
            file.write(certificate + b"\n" + key)
            file.flush()
            context.load_cert_chain(file.name)
    elif not user.get("token"):
        raise ValueError("the kubeconfig's user has neither a token nor a client certificate")
    return context


def _content(entry: dict[str, Any], field: str, base: Path) -> bytes:
    if data := entry.get(f"{field}-data"):
        return base64.b64decode(data)
    return (base / entry[field]).read_bytes() if entry.get(field) else b""
