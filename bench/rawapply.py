"""How long the API server takes for the objects alone: a plain server-side apply to an empty control plane."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp

from testbed.controlplane import ControlPlane

_IN_FLIGHT = 32
_ROUNDS = 60
_PAUSE_SECONDS = 0.25
_LATER = ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration", "APIService")
_JOB_LABELS = (
    "controller-uid",
    "job-name",
    "batch.kubernetes.io/controller-uid",
    "batch.kubernetes.io/job-name",
)
_SERVER_FIELDS = (
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "managedFields",
    "ownerReferences",
    "finalizers",
    "selfLink",
)


class RefusedError(RuntimeError):
    """The plain apply did not get through; the message names every object that was refused."""


def raw_apply(workdir: Path, objects: Sequence[Mapping[str, Any]]) -> float:
    """Seconds to apply `objects` (live manifests, each with its `path`) with 32 requests in flight.

    Nothing else runs on the control plane: no controllers, no webhooks. What is refused because its kind or namespace
    is not there yet is sent again in the next round. Raises RefusedError.
    """
    wanted = [(str(one["path"]), clean(one)) for one in objects]
    with ControlPlane() as plane:
        plane.start(workdir=workdir, webhooks=False, controllers=False, kwok=False, audit=False)
        started = time.monotonic()
        asyncio.run(_apply(plane, wanted))
        return time.monotonic() - started


def clean(live: Mapping[str, Any]) -> dict[str, Any]:
    """A live object without what the API server and controllers put into it."""
    manifest = {key: value for key, value in live.items() if key not in ("status", "path")}
    manifest["metadata"] = {key: value for key, value in live["metadata"].items() if key not in _SERVER_FIELDS}
    if live["kind"] == "Service":
        kept = {k: v for k, v in live["spec"].items() if k not in ("clusterIP", "clusterIPs", "healthCheckNodePort")}
        ports = [{k: v for k, v in port.items() if k != "nodePort"} for port in kept.get("ports", ())]
        manifest["spec"] = {**kept, **({"ports": ports} if ports else {})}
    if live["kind"] == "PersistentVolumeClaim":
        manifest["spec"] = {key: value for key, value in live["spec"].items() if key != "volumeName"}
    if live["kind"] == "Job":
        spec = {key: value for key, value in live["spec"].items() if key not in ("selector", "manualSelector")}
        template = dict(spec["template"])
        labels = {k: v for k, v in template["metadata"].get("labels", {}).items() if k not in _JOB_LABELS}
        spec["template"] = {**template, "metadata": {**template["metadata"], "labels": labels}}
        manifest["metadata"]["labels"] = {
            k: v for k, v in live["metadata"].get("labels", {}).items() if k not in _JOB_LABELS
        }
        manifest["spec"] = spec
    return manifest


async def _apply(plane: ControlPlane, wanted: list[tuple[str, dict[str, Any]]]) -> None:
    context = ssl.create_default_context(cafile=str(plane.ca))
    headers = {"Authorization": f"Bearer {plane.token}", "Content-Type": "application/apply-patch+yaml"}
    connector = aiohttp.TCPConnector(ssl=context, limit=_IN_FLIGHT)
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:
        left = sorted(wanted, key=lambda one: _turn(one[1]["kind"]))
        for _ in range(_ROUNDS):
            answers = await asyncio.gather(*(_send(session, plane.url + path, body) for path, body in left))
            refused = [text for text in answers if text]
            left = [one for one, text in zip(left, answers, strict=True) if text]
            if not left:
                return
            await asyncio.sleep(_PAUSE_SECONDS)
    shown = "\n".join(f"{path}: {text[:400]}" for (path, _), text in zip(left, refused, strict=True))
    raise RefusedError(f"{len(left)} objects were refused to the end:\n{shown}")


def _turn(kind: str) -> int:
    return {"Namespace": 0, "CustomResourceDefinition": 1}.get(kind, 3 if kind in _LATER else 2)


async def _send(session: aiohttp.ClientSession, url: str, manifest: Mapping[str, Any]) -> str:
    """Empty when the object was accepted, else why not."""
    query = urlencode({"fieldManager": "raw", "force": "true"})
    async with session.patch(f"{url}?{query}", data=json.dumps(manifest)) as answer:
        return "" if answer.status < 400 else f"{answer.status} {await answer.text()}"
