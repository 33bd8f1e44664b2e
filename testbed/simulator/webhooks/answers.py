"""What the Services say: reviews are allowed, conversions copy, aggregated APIs list nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from aiohttp import web

from testbed.simulator.broken import Mode
from testbed.simulator.objects import Obj

Api = tuple[str, str]
_AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
_RESOURCES = {
    "metrics.k8s.io": (
        {"name": "nodes", "singularName": "node", "namespaced": False, "kind": "NodeMetrics", "verbs": ["get", "list"]},
        {"name": "pods", "singularName": "pod", "namespaced": True, "kind": "PodMetrics", "verbs": ["get", "list"]},
    )
}
_TOO_LATE = 35.0
"""Seconds: longer than any webhook may take."""


def application(apis: Callable[[], Sequence[Api]], mode: Callable[[], Mode]) -> web.Application:
    """`apis`: what is aggregated here; `mode`: how the Service is played broken just now."""

    async def post(request: web.Request) -> web.Response:
        review = msgspec.json.decode(await request.read())
        match mode():
            case "error":
                return web.Response(status=500, text="played broken")
            case "slow":
                await asyncio.sleep(_TOO_LATE)
            case "deny" if review["kind"] == "AdmissionReview":
                return _json(_admission(review, allowed=False))
        return _json(_conversion(review) if review["kind"] == "ConversionReview" else _admission(review, allowed=True))

    async def read(request: web.Request) -> web.Response:
        if mode() == "error":
            return web.Response(status=500, text="played broken")
        return _discovery(request.path, request.headers.get("Accept", ""), apis())

    app = web.Application(client_max_size=16 * 1024 * 1024)
    app.router.add_post("/{path:.*}", post)
    app.router.add_get("/{path:.*}", read)
    return app


def _admission(review: Obj, *, allowed: bool) -> Obj:
    response: Obj = {"uid": review["request"]["uid"], "allowed": allowed}
    if not allowed:
        response["status"] = {"code": 403, "message": "denied: played broken"}
    return {"apiVersion": review["apiVersion"], "kind": "AdmissionReview", "response": response}


def _conversion(review: Obj) -> Obj:
    request = review["request"]
    wanted = request["desiredAPIVersion"]
    objects = [_converted(obj, wanted) for obj in request["objects"]]
    response = {"uid": request["uid"], "result": {"status": "Success"}, "convertedObjects": objects}
    return {"apiVersion": review["apiVersion"], "kind": "ConversionReview", "response": response}


def _converted(obj: Obj, wanted: str) -> Obj:
    if isinstance(obj.get("items"), list):
        obj = {**obj, "items": [{**item, "apiVersion": wanted} for item in obj["items"]]}
    return {**obj, "apiVersion": wanted}


def _discovery(path: str, accept: str, apis: Sequence[Api]) -> web.Response:
    if path == "/apis" and "apidiscovery.k8s.io" in accept:
        content = {"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}}
        return _json({**content, "items": [_group(*api) for api in apis]}, _AGGREGATED)
    for group, version in apis:
        root = f"/apis/{group}/{version}"
        if path == root:
            resources = _RESOURCES.get(group, ())
            content = {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": f"{group}/{version}"}
            return _json({**content, "resources": list(resources)})
        if path.startswith(f"{root}/"):
            return _json(_empty(path, group, version))
    return web.json_response({"paths": [f"/apis/{group}/{version}" for group, version in apis]}, status=404)


def _group(group: str, version: str) -> Obj:
    resources = [
        {
            "resource": entry["name"],
            "responseKind": {"group": group, "version": version, "kind": entry["kind"]},
            "scope": "Namespaced" if entry["namespaced"] else "Cluster",
            "singularResource": entry["singularName"],
            "verbs": entry["verbs"],
        }
        for entry in _RESOURCES.get(group, ())
    ]
    versions = [{"version": version, "resources": resources, "freshness": "Current"}]
    return {"metadata": {"name": group}, "versions": versions}


def _empty(path: str, group: str, version: str) -> Obj:
    kinds = {entry["name"]: entry["kind"] for entry in _RESOURCES.get(group, ())}
    kind = next((kinds[part] for part in reversed(path.split("/")) if part in kinds), "ExternalMetricValue")
    return {"kind": f"{kind}List", "apiVersion": f"{group}/{version}", "metadata": {}, "items": []}


def _json(content: Any, content_type: str = "application/json") -> web.Response:
    return web.Response(body=msgspec.json.encode(content), headers={"Content-Type": content_type})
