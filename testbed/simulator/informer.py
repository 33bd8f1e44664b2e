"""List and watch of one kind, for ever, into the store."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import aiohttp

from testbed.simulator.client import ApiClient, ApiError
from testbed.simulator.objects import Obj, Resource
from testbed.simulator.store import Store


class Informer:
    """`synced` is set once the first list is in the store."""

    def __init__(
        self,
        client: ApiClient,
        store: Store,
        resource: Resource,
        *,
        query: Mapping[str, str] | None = None,
        metadata_only: bool = False,
    ) -> None:
        self._client = client
        self._store = store
        self._resource = resource
        self._query = dict(query or {})
        self._metadata_only = metadata_only
        self.synced = asyncio.Event()

    async def run(self) -> None:
        while True:
            try:
                version = await self._list()
                while True:
                    version = await self._follow(version)
            except (ApiError, aiohttp.ClientError, TimeoutError):
                # A kind that is served no longer, a version too old, a server that went away: list again.
                await asyncio.sleep(0.3)

    async def _list(self) -> str:
        objects: list[Obj] = []
        more = ""
        while True:
            query = {**self._query, "limit": "500", **({"continue": more} if more else {})}
            page = await self._client.page(self._resource, query=query, metadata_only=self._metadata_only)
            objects += [self._named(obj) for obj in page["items"] or ()]
            more = page["metadata"].get("continue", "")
            if not more:
                break
        self._store.replace(self._resource, objects)
        self.synced.set()
        return str(page["metadata"]["resourceVersion"])

    async def _follow(self, version: str) -> str:
        query = {**self._query, "resourceVersion": version}
        async for kind, obj in self._client.watch(self._resource, query=query, metadata_only=self._metadata_only):
            if kind == "ERROR":
                raise ApiError(int(obj.get("code", 500)), str(obj.get("message", "")))
            version = str(obj["metadata"]["resourceVersion"])
            if kind == "DELETED":
                self._store.drop(self._resource, self._named(obj))
            elif kind != "BOOKMARK":
                self._store.put(self._resource, self._named(obj))
        return version

    def _named(self, obj: Obj) -> Obj:
        # Lists leave apiVersion and kind out; metadata-only answers carry their own.
        return {**obj, "apiVersion": self._resource.api_version, "kind": self._resource.kind}
