"""What goes over the wire, and what becomes of failures: a scripted HTTP server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web
from aiohttp.test_utils import TestServer

from clusterstack.core.objects import Manifest, ObjectRef
from clusterstack.errors import ApiError, SpecError, TransportError
from clusterstack.kube.auth import connect
from clusterstack.kube.client import KubeClient, RequestLog
from clusterstack.kube.lease import LeaseLost
from clusterstack.kube.resource import CONFIG_MAP, NAMESPACE, SECRET, Resource
from clusterstack.kube.slots import Slots

Reply = Callable[[web.Request], Awaitable[web.StreamResponse]] | web.Response
DEPLOYMENT = Resource("apps", "v1", "Deployment", "deployments", namespaced=True)


def status(
    code: int, *, reason: str = "", message: str = "no", headers: dict[str, str] | None = None, **details: Any
) -> web.Response:
    body = {
        "kind": "Status",
        "apiVersion": "v1",
        "code": code,
        "reason": reason,
        "message": message,
        "details": details,
    }
    return web.json_response(body, status=code, headers=headers)


def config_map(name: str = "a", **more: Any) -> Manifest:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "shop"}, **more}


async def cut(request: web.Request) -> web.StreamResponse:
    """The connection breaks with no answer."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


class Wire:
    """Replies in order, the last one for ever, and remembers the requests."""

    def __init__(self, *replies: Reply) -> None:
        self.replies = list(replies)
        self.requests: list[web.Request] = []
        self.bodies: list[Any] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        text = await request.text()
        self.requests.append(request)
        self.bodies.append(json.loads(text) if text else None)
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        if isinstance(reply, web.Response):  # a response object can be sent but once
            return web.Response(status=reply.status, body=reply.body, headers=reply.headers)
        return await reply(request)


@asynccontextmanager
async def connected(
    tmp_path: Path, wire: Wire, *, user: dict[str, Any] | None = None, **options: Any
) -> AsyncIterator[KubeClient]:
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", wire.handle)
    async with TestServer(app) as server:
        config = {
            "current-context": "x",
            "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
            "clusters": [{"name": "x", "cluster": {"server": f"http://127.0.0.1:{server.port}"}}],
            "users": [{"name": "x", "user": user or {"token": "t0ken"}}],
        }
        path = tmp_path / "kubeconfig"
        path.write_text(yaml.safe_dump(config))
        async with await connect(kubeconfig=str(path)) as connection:
            yield KubeClient(connection, **options)


async def test_an_apply_is_one_patch_with_everything_said(tmp_path: Path) -> None:
    wire = Wire(web.json_response(config_map(), status=201))
    async with connected(tmp_path, wire) as client:
        written = await client.apply(
            CONFIG_MAP, config_map(), manager="clusterstack", dry_run=True, impersonate="system:serviceaccount:a:b"
        )
    (request,) = wire.requests
    assert written.created
    assert (request.method, request.path) == ("PATCH", "/api/v1/namespaces/shop/configmaps/a")
    assert dict(request.query) == {"fieldManager": "clusterstack", "force": "true", "dryRun": "All"}
    assert request.headers["Content-Type"] == "application/apply-patch+yaml"
    assert request.headers["Impersonate-User"] == "system:serviceaccount:a:b"
    assert request.headers["Authorization"] == "Bearer t0ken"
    assert request.headers["User-Agent"].startswith("clusterstack/")
    assert wire.bodies == [config_map()]


async def test_a_delete_names_the_very_object(tmp_path: Path) -> None:
    wire = Wire(status(200, message="", uid="u1"))
    deleted: list[tuple[ObjectRef, str]] = []
    async with connected(tmp_path, wire) as client:
        client.on_deleted = lambda ref, uid: deleted.append((ref, uid))
        assert await client.delete(DEPLOYMENT, "shop", "web", uid="u1", resource_version="7") is None
    assert wire.bodies[0]["preconditions"] == {"uid": "u1", "resourceVersion": "7"}
    assert wire.bodies[0]["propagationPolicy"] == "Background"
    assert deleted == [(ObjectRef("apps", "Deployment", "shop", "web"), "u1")]


@pytest.mark.parametrize(
    ("remains", "gone"),
    [
        ({"metadata": {"uid": "u1"}}, True),
        ({"metadata": {"uid": "u1", "deletionTimestamp": "x", "finalizers": ["f"]}}, False),
        ({"metadata": {"uid": "u1", "deletionTimestamp": "x", "deletionGracePeriodSeconds": 30}}, False),
        ({"metadata": {"uid": "u1", "deletionTimestamp": "x"}, "spec": {"finalizers": ["kubernetes"]}}, False),
    ],
)
async def test_a_deletion_is_done_only_when_nothing_holds_the_object(
    tmp_path: Path, remains: Manifest, gone: bool
) -> None:
    wire = Wire(web.json_response({"apiVersion": "v1", "kind": "Thing", **remains}))
    answers, deleted = [], []
    async with connected(tmp_path, wire) as client:
        client.on_answer = lambda resource, body: answers.append(body)
        client.on_deleted = lambda ref, uid: deleted.append(uid)
        left = await client.delete(NAMESPACE, "", "shop")
    assert (left is None) is gone
    assert (len(deleted), len(answers)) == ((1, 0) if gone else (0, 1))


async def test_a_refusal_says_which_object_why_and_where(tmp_path: Path) -> None:
    causes = [{"field": "spec.selector", "message": "field is immutable"}]
    wire = Wire(status(422, reason="Invalid", message="selector is immutable", name="web", causes=causes))
    async with connected(tmp_path, wire) as client:
        with pytest.raises(ApiError) as caught:
            await client.get(DEPLOYMENT, "shop", "web")
    error = caught.value
    assert str(error) == "Deployment shop/web: selector is immutable"
    assert (error.status, error.reason, error.retryable) == (422, "Invalid", False)
    assert error.causes == ("spec.selector: field is immutable",)


async def test_an_answer_that_is_no_json_is_still_an_error_with_its_text(tmp_path: Path) -> None:
    async with connected(tmp_path, Wire(web.Response(status=503, text="upstream is away"))) as client:
        with pytest.raises(ApiError, match="upstream is away") as caught:
            await client.get(DEPLOYMENT, "shop", "web")
    assert caught.value.retryable


async def test_a_missing_object_and_a_missing_kind_are_told_apart(tmp_path: Path) -> None:
    missing = status(404, reason="NotFound", name="web")
    unknown = status(404, reason="NotFound", message="the server could not find the requested resource")
    async with connected(
        tmp_path, Wire(missing, unknown, web.Response(status=404, text="404 page not found"))
    ) as client:
        assert await client.find(DEPLOYMENT, "shop", "web") is None
        for _ in range(2):
            with pytest.raises(ApiError) as caught:
                await client.find(DEPLOYMENT, "shop", "web")
            assert caught.value.reason == "KindNotServed"


async def test_values_of_secrets_are_never_in_errors(tmp_path: Path) -> None:
    quoted = status(
        422,
        reason="Invalid",
        message='failed: .data.k: expected string, got &value.valueUnstructured{Value:12345} near "canary"',
        causes=[{"field": "data", "message": "canary is bad"}],
    )
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"namespace": "a", "name": "s"},
        "data": {"k": "canary"},
    }
    async with connected(tmp_path, Wire(quoted)) as client:
        for write in (
            client.apply(SECRET, secret, manager="m"),
            client.patch_json(SECRET, "a", "s", [{"op": "add", "path": "/data/k", "value": "canary"}], manager="m"),
        ):
            with pytest.raises(ApiError) as caught:
                await write
            error = caught.value
            assert "canary" not in f"{error} {error.causes}"
            assert "12345" not in str(error)
            assert error.__cause__ is None
            assert error.__context__ is None


async def test_reads_survive_two_broken_connections_and_no_third(tmp_path: Path) -> None:
    wire = Wire(cut, cut, web.json_response(config_map()))
    async with connected(tmp_path, wire) as client:
        assert (await client.get(CONFIG_MAP, "shop", "a"))["metadata"]["name"] == "a"
    async with connected(tmp_path, Wire(cut)) as client:
        with pytest.raises(TransportError):
            await client.get(CONFIG_MAP, "shop", "a")


async def test_writes_are_never_repeated_when_their_outcome_is_unknown(tmp_path: Path) -> None:
    wire = Wire(cut, web.json_response(config_map()))
    async with connected(tmp_path, wire) as client:
        with pytest.raises(TransportError) as caught:
            await client.apply(CONFIG_MAP, config_map(), manager="m")
    assert caught.value.reason == "Disconnected"
    assert len(wire.requests) == 1


async def test_a_server_that_is_not_there_says_that_nothing_was_sent(tmp_path: Path) -> None:
    async with connected(tmp_path, Wire(web.Response())) as client:
        pass
    async with connected(tmp_path, Wire(web.Response())) as client:
        client.exchange._transport._connection.server = "http://127.0.0.1:1"
        with pytest.raises(TransportError) as caught:
            await client.apply(CONFIG_MAP, config_map(), manager="m")
    assert caught.value.reason == "Unreachable"


async def test_a_server_that_accepts_and_never_answers_is_given_up(tmp_path: Path) -> None:
    async def never(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(3600)
        return web.Response()

    async with connected(tmp_path, Wire(never), timeout=0.1) as client:
        with pytest.raises(TransportError) as caught:
            await client.apply(CONFIG_MAP, config_map(), manager="m")
    assert caught.value.reason == "Timeout"


async def test_a_429_is_waited_out_as_the_server_asks_also_for_writes(tmp_path: Path) -> None:
    wire = Wire(status(429, headers={"Retry-After": "0.2"}), web.json_response(config_map()))
    slots = Slots(32)
    async with connected(tmp_path, wire, slots=slots) as client:
        loop = asyncio.get_running_loop()
        began = loop.time()
        await client.apply(CONFIG_MAP, config_map(), manager="m")
    assert loop.time() - began >= 0.2
    assert slots.limit == 16
    assert slots.in_use == 0


async def test_a_429_beyond_the_budget_is_the_caller_s(tmp_path: Path) -> None:
    async with connected(tmp_path, Wire(status(429, headers={"Retry-After": "100"}))) as client:
        with pytest.raises(ApiError) as caught:
            await client.get(CONFIG_MAP, "shop", "a")
    assert (caught.value.status, caught.value.retry_after) == (429, 100.0)


async def test_a_rotated_token_is_read_again_at_once(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("old")

    async def check(request: web.Request) -> web.StreamResponse:
        if request.headers["Authorization"] != "Bearer new":
            return status(401, reason="Unauthorized")
        return web.json_response(config_map())

    async with connected(tmp_path, Wire(check), user={"tokenFile": str(token)}) as client:
        with pytest.raises(ApiError) as caught:
            await client.get(CONFIG_MAP, "shop", "a")
        assert caught.value.status == 401
        token.write_text("new")
        assert await client.apply(CONFIG_MAP, config_map(), manager="m")


async def test_a_cancelled_write_ends_only_after_its_answer_is_known(tmp_path: Path) -> None:
    arrived, go_on = asyncio.Event(), asyncio.Event()

    async def slow(request: web.Request) -> web.StreamResponse:
        arrived.set()
        await go_on.wait()
        return web.json_response(config_map())

    answers: list[bytes] = []
    async with connected(tmp_path, Wire(slow)) as client:
        client.on_answer = lambda resource, body: answers.append(body)
        writing = asyncio.create_task(client.apply(CONFIG_MAP, config_map(), manager="m"))
        await arrived.wait()
        for _ in range(3):  # cancelled again and again, it still waits
            writing.cancel()
            await asyncio.sleep(0)
        assert not writing.done()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await writing
    assert len(answers) == 1


async def test_a_write_cancelled_in_the_queue_is_never_sent(tmp_path: Path) -> None:
    wire = Wire(web.json_response(config_map()))
    slots = Slots(1)
    async with connected(tmp_path, wire, slots=slots) as client, slots.hold():
        writing = asyncio.create_task(client.apply(CONFIG_MAP, config_map(), manager="m"))
        await asyncio.sleep(0)
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
    assert wire.requests == []


async def test_no_write_passes_a_closed_fence_and_every_read_does(tmp_path: Path) -> None:
    def closed() -> None:
        raise LeaseLost("not held")

    wire = Wire(web.json_response(config_map()))
    async with connected(tmp_path, wire) as client:
        client.fence = closed
        await client.get(CONFIG_MAP, "shop", "a")
        for write in (
            client.apply(CONFIG_MAP, config_map(), manager="m"),
            client.delete(CONFIG_MAP, "shop", "a"),
            client.create(CONFIG_MAP, config_map(), manager="m"),
            client.patch_merge(CONFIG_MAP, "shop", "a", {}, manager="m"),
        ):
            with pytest.raises(LeaseLost):
                await write
    assert [request.method for request in wire.requests] == ["GET"]


async def test_dry_runs_teach_the_cache_nothing(tmp_path: Path) -> None:
    answers: list[bytes] = []
    async with connected(tmp_path, Wire(web.json_response(config_map()))) as client:
        client.on_answer = lambda resource, body: answers.append(body)
        await client.apply(CONFIG_MAP, config_map(), manager="m", dry_run=True)
        assert answers == []
        await client.apply(CONFIG_MAP, config_map(), manager="m")
        assert len(answers) == 1


async def test_a_namespaced_object_without_a_namespace_is_refused_before_it_is_sent(tmp_path: Path) -> None:
    wire = Wire(web.Response())
    async with connected(tmp_path, wire) as client:
        with pytest.raises(SpecError, match=r"ConfigMap a: metadata\.namespace is missing"):
            await client.apply(CONFIG_MAP, {"metadata": {"name": "a"}}, manager="m")
    assert wire.requests == []


async def test_lists_are_followed_to_their_last_page(tmp_path: Path) -> None:
    first = {"metadata": {"continue": "more"}, "items": [{"metadata": {"name": "a"}}]}
    last = {"metadata": {}, "items": [{"metadata": {"name": "b"}}]}
    wire = Wire(web.json_response(first), web.json_response(last))
    async with connected(tmp_path, wire) as client:
        items = await client.list(CONFIG_MAP, label_selector="a=b")
    assert [item["metadata"]["name"] for item in items] == ["a", "b"]
    assert items[0]["kind"] == "ConfigMap"
    assert [request.query.get("continue") for request in wire.requests] == [None, "more"]
    assert all(request.query["labelSelector"] == "a=b" for request in wire.requests)


async def test_watch_lines_arrive_whole_whatever_their_length(tmp_path: Path) -> None:
    long = b'{"x":"' + b"y" * 3_000_000 + b'"}'

    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b'{"a":1}\n{"b"')
        await response.write(b":2}\n" + long + b"\n{torn")
        return response

    async with connected(tmp_path, Wire(stream)) as client:
        lines = [line async for line in client.watch(CONFIG_MAP, query={})]
    assert lines == [b"", b'{"a":1}', b'{"b":2}', long]


async def test_a_silent_watch_ends_by_itself(tmp_path: Path) -> None:
    silent = asyncio.Event()

    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await silent.wait()
        return response

    async with connected(tmp_path, Wire(stream)) as client:
        async with asyncio.timeout(5):
            assert [line async for line in client.watch(CONFIG_MAP, query={}, idle=0.1)] == [b""]
        silent.set()


async def test_every_exchange_is_measured(tmp_path: Path) -> None:
    seen: list[RequestLog] = []
    async with connected(tmp_path, Wire(web.json_response(config_map()), cut)) as client:
        client.on_request = seen.append
        await client.get(DEPLOYMENT, "shop", "web")
        with pytest.raises(TransportError):
            await client.apply(DEPLOYMENT, config_map(), manager="m")
    assert [(log.verb, log.resource, log.status) for log in seen] == [
        ("get", "deployments.apps", 200),
        ("patch", "deployments.apps", 0),
    ]


async def test_no_cluster_to_be_found_is_said_plainly(tmp_path: Path) -> None:
    with pytest.raises(TransportError, match="no way to the API server: kubeconfig") as caught:
        await connect(kubeconfig=str(tmp_path / "missing"))
    assert caught.value.reason == "NoCluster"
