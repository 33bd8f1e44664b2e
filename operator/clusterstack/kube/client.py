"""The verbs of the API server, on plain dictionaries.

Reads may be repeated underneath, writes only where the server says that it did nothing (429, 401). A write is never
torn: it is answered, and its answer has reached the cache, before a cancellation takes effect.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypedDict, Unpack

import msgspec

from clusterstack import __version__
from clusterstack.core.objects import Manifest, ObjectRef
from clusterstack.errors import ApiError, SpecError
from clusterstack.kube.auth import Connection
from clusterstack.kube.exchange import Exchange, RequestLog
from clusterstack.kube.live import Live, project_json
from clusterstack.kube.resource import Resource
from clusterstack.kube.slots import Slots
from clusterstack.kube.transport import JSON, Answer, Request, Transport, without_secrets

PAGE = 500
APPLY = "application/apply-patch+yaml"  # JSON is YAML
MERGE = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"

__all__ = ["Caller", "KubeClient", "RequestLog", "Written"]


class Caller(TypedDict, total=False):
    """For whom a verb acts: `impersonate` is `system:serviceaccount:<namespace>:<name>`, `lane` its line for a slot."""

    impersonate: str | None
    lane: str


@dataclass(frozen=True, slots=True)
class Written:
    """The outcome of an apply: whether the object was created, and the object as stored."""

    created: bool
    resource: Resource
    answer: Answer

    @property
    def object(self) -> Manifest:
        """The object, decoded afresh on each call."""
        return self.answer.json()

    @property
    def live(self) -> Live:
        """Its projection."""
        return project_json(self.resource, self.answer.body)


class KubeClient:
    """Every verb takes the keywords of `Caller` besides its own.

    Raises ApiError for the server's refusals and TransportError for no answer, with reason `Unreachable` when nothing
    was sent, else `Timeout` or `Disconnected`: whether a write happened is then unknown until the object is read back.

    `on_answer` and `on_deleted` get each successful write before its verb returns; the observer sets them. `fence` and
    `on_request`: see `Exchange`.
    """

    def __init__(
        self,
        connection: Connection,
        slots: Slots | None = None,
        *,
        user_agent: str = f"clusterstack/{__version__}",
        connect_timeout: float = 5.0,
        timeout: float = 30.0,
    ) -> None:
        self.slots = slots or Slots()
        self.exchange = Exchange(
            Transport(connection, user_agent=user_agent, connect_timeout=connect_timeout), self.slots
        )
        self.on_answer: Callable[[Resource, bytes], None] | None = None
        self.on_deleted: Callable[[ObjectRef, str], None] | None = None
        self._timeout = timeout

    @property
    def fence(self) -> Callable[[], None] | None:
        return self.exchange.fence

    @fence.setter
    def fence(self, check: Callable[[], None] | None) -> None:
        self.exchange.fence = check

    @property
    def on_request(self) -> Callable[[RequestLog], None] | None:
        return self.exchange.on_request

    @on_request.setter
    def on_request(self, observe: Callable[[RequestLog], None] | None) -> None:
        self.exchange.on_request = observe

    async def get(
        self, resource: Resource, namespace: str, name: str, *, metadata_only: bool = False, **caller: Unpack[Caller]
    ) -> Manifest:
        """One object. Raises ApiError 404 when there is none."""
        request = self._request("GET", resource, namespace, name, caller=caller)
        if metadata_only:
            request = _with_headers(request, Accept=METADATA)
        found = (await self.exchange.read(request, resource, caller.get("lane", ""))).json()
        return found | {"apiVersion": resource.api_version, "kind": resource.kind} if metadata_only else found

    async def find(
        self, resource: Resource, namespace: str, name: str, *, metadata_only: bool = False, **caller: Unpack[Caller]
    ) -> Manifest | None:
        """One object, or None when there is none. Raises ApiError `KindNotServed` when not even its kind is there."""
        try:
            return await self.get(resource, namespace, name, metadata_only=metadata_only, **caller)
        except ApiError as error:
            if error.reason == "NotFound":
                return None
            raise

    async def list(
        self,
        resource: Resource,
        namespace: str = "",
        *,
        label_selector: str = "",
        field_selector: str = "",
        metadata_only: bool = False,
        **caller: Unpack[Caller],
    ) -> list[Manifest]:
        """All objects of a selection, each with its apiVersion and kind; fetched in pages of 500."""
        found: list[Manifest] = []
        query = {"labelSelector": label_selector, "fieldSelector": field_selector}
        async for page in self.pages(resource, namespace, query=query, metadata_only=metadata_only, **caller):
            for item in msgspec.json.decode(page)["items"] or ():
                item["apiVersion"], item["kind"] = resource.api_version, resource.kind
                found.append(item)
        return found

    async def pages(
        self,
        resource: Resource,
        namespace: str = "",
        *,
        query: Mapping[str, str],
        metadata_only: bool = False,
        limit: int = PAGE,
        **caller: Unpack[Caller],
    ) -> AsyncGenerator[bytes, None]:
        """The JSON of each page of a list. Raises ApiError 410 when it grew too old between two pages: start over."""
        request = self._request("GET", resource, namespace, caller=caller)
        if metadata_only:
            request = _with_headers(request, Accept=METADATA_LIST)
        wanted = {key: value for key, value in query.items() if value} | {"limit": str(limit)}
        more = "start"
        while more:
            answer = await self.exchange.read(
                replace(request, query=dict(wanted)), resource, caller.get("lane", ""), verb="list"
            )
            yield answer.body
            more = answer.continuation
            wanted["continue"] = more

    def watch(
        self,
        resource: Resource,
        namespace: str = "",
        *,
        query: Mapping[str, str],
        metadata_only: bool = False,
        idle: float = 75.0,
    ) -> AsyncGenerator[bytes, None]:
        """The JSON lines of a watch; ends at the server's wish or after `idle` seconds of silence. Holds no slot."""
        request = self._request("GET", resource, namespace, caller={})
        wanted = {key: value for key, value in query.items() if value} | {"watch": "1", "allowWatchBookmarks": "true"}
        if metadata_only:
            request = _with_headers(request, Accept=METADATA)
        return self.exchange.stream(replace(request, query=wanted), idle=idle)

    async def raw(self, path: str, *, headers: Mapping[str, str] | None = None, lane: str = "") -> Answer:
        """A GET of any path; a 304 is an answer, statuses from 400 on raise."""
        request = Request("GET", path, headers=headers or {}, subject=path, timeout=self._timeout)
        return await self.exchange.read(request, None, lane)

    async def apply(
        self,
        resource: Resource,
        manifest: Manifest,
        *,
        manager: str,
        force: bool = True,
        dry_run: bool = False,
        subresource: str = "",
        **caller: Unpack[Caller],
    ) -> Written:
        """Server-side apply of the whole manifest; `force` takes over fields that others own."""
        request = self._manifest_request("PATCH", resource, manifest, subresource=subresource, caller=caller)
        request = _with_headers(request, **{"Content-Type": APPLY})
        query = {"fieldManager": manager, "force": "true" if force else "false"}
        answer = await self._write(request, resource, manifest, query=query, dry_run=dry_run, caller=caller)
        return Written(answer.status == 201, resource, answer)

    async def apply_status(
        self,
        resource: Resource,
        manifest: Manifest,
        *,
        manager: str,
        force: bool = True,
        **caller: Unpack[Caller],
    ) -> Manifest:
        """Server-side apply of the status subresource."""
        return (
            await self.apply(resource, manifest, manager=manager, force=force, subresource="status", **caller)
        ).object

    async def create(
        self, resource: Resource, manifest: Manifest, *, manager: str, dry_run: bool = False, **caller: Unpack[Caller]
    ) -> Manifest:
        """Creates an object. Raises ApiError 409 `AlreadyExists`."""
        request = self._manifest_request("POST", resource, manifest, caller=caller)
        query = {"fieldManager": manager}
        return (await self._write(request, resource, manifest, query=query, dry_run=dry_run, caller=caller)).json()

    async def replace(
        self, resource: Resource, manifest: Manifest, *, manager: str, dry_run: bool = False, **caller: Unpack[Caller]
    ) -> Manifest:
        """Puts a whole object; a `metadata.resourceVersion` makes it conditional (ApiError 409)."""
        request = self._manifest_request("PUT", resource, manifest, caller=caller)
        query = {"fieldManager": manager}
        return (await self._write(request, resource, manifest, query=query, dry_run=dry_run, caller=caller)).json()

    async def patch_merge(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        patch: Manifest,
        *,
        manager: str,
        subresource: str = "",
        **caller: Unpack[Caller],
    ) -> Manifest:
        """JSON merge patch (RFC 7386); a `metadata.resourceVersion` in it makes it conditional."""
        request = self._request("PATCH", resource, namespace, name, subresource=subresource, caller=caller)
        request = _with_headers(replace(request, body=msgspec.json.encode(patch)), **{"Content-Type": MERGE})
        query = {"fieldManager": manager}
        return (await self._write(request, resource, patch, query=query, caller=caller)).json()

    async def patch_json(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        operations: Sequence[Mapping[str, Any]],
        *,
        manager: str,
        subresource: str = "",
        **caller: Unpack[Caller],
    ) -> Manifest:
        """JSON patch (RFC 6902); a failed `test` is ApiError 422."""
        request = self._request("PATCH", resource, namespace, name, subresource=subresource, caller=caller)
        request = _with_headers(replace(request, body=msgspec.json.encode(operations)), **{"Content-Type": JSON_PATCH})
        values: Manifest = {"data": {operation["path"]: operation.get("value") for operation in operations}}
        return (await self._write(request, resource, values, query={"fieldManager": manager}, caller=caller)).json()

    async def patch_status(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        status: Manifest,
        *,
        manager: str,
        resource_version: str = "",
        **caller: Unpack[Caller],
    ) -> Manifest:
        """Merges into the status subresource, conditionally when a resource version is given."""
        patch: Manifest = {"status": status}
        if resource_version:
            patch["metadata"] = {"resourceVersion": resource_version}
        return await self.patch_merge(resource, namespace, name, patch, manager=manager, subresource="status", **caller)

    async def delete(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        *,
        uid: str = "",
        resource_version: str = "",
        propagation: str = "Background",
        dry_run: bool = False,
        **caller: Unpack[Caller],
    ) -> Manifest | None:
        """Deletes an object, if it still is the one meant. None: it is gone; else the object, held by its finalizers.

        Raises ApiError 409 when the UID or the resource version is another.
        """
        preconditions = {"uid": uid, "resourceVersion": resource_version}
        options: Manifest = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": propagation}
        if wanted := {key: value for key, value in preconditions.items() if value}:
            options["preconditions"] = wanted
        request = self._request("DELETE", resource, namespace, name, caller=caller)
        query = {"dryRun": "All"} if dry_run else {}
        request = replace(request, query=query, body=msgspec.json.encode(options))
        ref = _ref(resource, namespace, name)
        learn = None if dry_run else partial(self._deleted, resource, ref, uid)
        try:
            answer = await self.exchange.write(request, resource, caller.get("lane", ""), learn=learn)
        except ApiError as error:
            if error.reason == "NotFound":
                return None
            raise
        remains = answer.json()
        return None if _is_gone(remains) else remains

    def _request(
        self, method: str, resource: Resource, namespace: str, name: str = "", *, subresource: str = "", caller: Caller
    ) -> Request:
        if resource.namespaced and name and not namespace:
            raise SpecError(
                f"{resource.kind} {name}: metadata.namespace is missing and {resource.plural} are namespaced",
                reason="NamespaceMissing",
                hint="set metadata.namespace, or targetNamespace on the layer",
            )
        ref = _ref(resource, namespace, name)
        account = caller.get("impersonate")
        headers = {"Content-Type": JSON} | ({"Impersonate-User": account} if account else {})
        subject = str(ref) if name else f"{resource} in {ref.namespace or 'the cluster'}"
        path = resource.path(ref.namespace, name, subresource)
        return Request(method, path, headers=headers, subject=subject, timeout=self._timeout)

    def _manifest_request(
        self, method: str, resource: Resource, manifest: Manifest, *, subresource: str = "", caller: Caller
    ) -> Request:
        metadata = manifest.get("metadata") or {}
        namespace, name = metadata.get("namespace") or "", metadata.get("name") or ""
        request = self._request(method, resource, namespace, name, subresource=subresource, caller=caller)
        if method == "POST":
            request = replace(request, path=resource.path(namespace))
        return replace(request, body=msgspec.json.encode(manifest))

    async def _write(
        self,
        request: Request,
        resource: Resource,
        content: Manifest,
        *,
        query: Mapping[str, str],
        dry_run: bool = False,
        caller: Caller,
    ) -> Answer:
        """Sends a write that answers with the object; `content` is what must not be quoted if it is a Secret's."""
        request = replace(request, query={**query, "dryRun": "All"} if dry_run else query)
        learn = None if dry_run else partial(self._answered, resource)
        try:
            return await self.exchange.write(request, resource, caller.get("lane", ""), learn=learn)
        except ApiError as error:
            if (resource.group, resource.kind) != ("", "Secret"):
                raise
            cleaned = without_secrets(error, content)
        raise cleaned

    def _answered(self, resource: Resource, answer: Answer) -> None:
        if self.on_answer is not None:
            self.on_answer(resource, answer.body)

    def _deleted(self, resource: Resource, ref: ObjectRef, uid: str, answer: Answer) -> None:
        remains = answer.json()
        if not _is_gone(remains):
            self._answered(resource, answer)
        elif self.on_deleted is not None:
            details, metadata = remains.get("details") or {}, remains.get("metadata") or {}
            if known := uid or metadata.get("uid") or details.get("uid"):
                self.on_deleted(ref, known)


def _ref(resource: Resource, namespace: str, name: str) -> ObjectRef:
    return ObjectRef(resource.group, resource.kind, namespace if resource.namespaced else "", name)


def _with_headers(request: Request, **headers: str) -> Request:
    return replace(request, headers={**request.headers, **headers})


def _is_gone(answer: Manifest) -> bool:
    """Whether a DELETE's answer says that the object is gone: a Status, or the last state of one that nothing holds."""
    if answer.get("kind") == "Status" and answer.get("apiVersion") == "v1":
        return True
    metadata = answer.get("metadata") or {}
    held = metadata.get("finalizers") or metadata.get("deletionGracePeriodSeconds")
    return not held and not (answer.get("spec") or {}).get("finalizers")
