"""Holds pods back: scheduling gates, put on by a webhook of the simulator's own and taken off after the delay.

Pods are KWOK's; this is how their workloads take time, or never come up.
"""

from __future__ import annotations

import asyncio
import base64
import socket

import msgspec
from aiohttp import web

from testbed.simulator import builtin, certs
from testbed.simulator.broken import Mode
from testbed.simulator.client import ApiError
from testbed.simulator.informer import Informer
from testbed.simulator.objects import Obj, Resource, get
from testbed.simulator.scene import Stage
from testbed.simulator.store import Change
from testbed.simulator.webhooks.listeners import Address, Listeners, Wanted

GATE = "simulator/delay"
_NAME = "simulator-pod-gate"
_HELD: tuple[Mode, ...] = ("never", "stuck", "failed", "imagepull")


class PodGate:
    """Does nothing until delays are asked for or a rule concerns workloads."""

    def __init__(self, stage: Stage, tasks: asyncio.TaskGroup, *, delays: bool) -> None:
        self._stage = stage
        self._tasks = tasks
        self._delays = delays
        self._listeners = Listeners()
        self._releasing: dict[str, asyncio.Task[None]] = {}
        self._open = False

    async def start(self) -> None:
        if self._open or not (self._delays or self._stage.broken.concerns_pods()):
            return
        self._open = True
        await self._register()
        self._stage.store.listen(self._hear)
        selector = {"fieldSelector": "spec.nodeName="}
        self._tasks.create_task(Informer(self._stage.client, self._stage.store, builtin.PODS, query=selector).run())

    async def rebroken(self) -> None:
        await self.start()
        for pod in self._stage.store.all(builtin.PODS.name):
            self._hear("ADDED", builtin.PODS, pod)

    async def _register(self) -> None:
        pair = certs.make(_NAME, ["127.0.0.1"])
        address = Address("127.0.0.1", _free_port())
        failed = await self._listeners.become({address: Wanted(self._application, pair)})
        if failed:
            raise OSError(f"cannot listen on {address}: {failed[0][1]}")
        webhook = {
            "name": "pods.simulator.testbed",
            "clientConfig": {"url": f"https://127.0.0.1:{address.port}/", "caBundle": certs.encode(pair.ca)},
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}],
            "failurePolicy": "Ignore",
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
        }
        client, kind = self._stage.client, builtin.MUTATING
        await client.delete(kind, "", _NAME)
        body = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {"name": _NAME}, "webhooks": [webhook]}
        await client.create(kind, body)

    def _application(self) -> web.Application:
        app = web.Application(client_max_size=4 * 1024 * 1024)
        app.router.add_post("/", self._review)
        return app

    async def _review(self, request: web.Request) -> web.Response:
        review = msgspec.json.decode(await request.read())
        asked = review["request"]
        response: Obj = {"uid": asked["uid"], "allowed": True}
        pod = asked["object"]
        pod["metadata"].setdefault("namespace", asked.get("namespace", ""))
        if self._delay(pod) > 0 or self._mode(pod) in _HELD:
            gates = [*(pod["spec"].get("schedulingGates") or ()), {"name": GATE}]
            patch = [{"op": "add", "path": "/spec/schedulingGates", "value": gates}]
            response |= {"patchType": "JSONPatch", "patch": base64.b64encode(msgspec.json.encode(patch)).decode()}
        answer = {"apiVersion": review["apiVersion"], "kind": "AdmissionReview", "response": response}
        return web.json_response(answer)

    def _hear(self, change: Change, resource: Resource, pod: Obj) -> None:
        if resource != builtin.PODS:
            return
        uid = pod["metadata"]["uid"]
        if change == "DELETED":
            if task := self._releasing.pop(uid, None):
                task.cancel()
        elif self._is_gated(pod) and uid not in self._releasing:
            self._releasing[uid] = self._tasks.create_task(self._deal(pod))

    async def _deal(self, pod: Obj) -> None:
        try:
            if self._mode(pod) == "imagepull":
                await self._report_pull(pod)
            if self._mode(pod) in _HELD:
                return
            await asyncio.sleep(self._delay(pod))
            await self._release(pod)
        except ApiError as error:
            self._stage.journal.write("error", pod, message=str(error))
        finally:
            self._releasing.pop(pod["metadata"]["uid"], None)

    async def _release(self, pod: Obj) -> None:
        gates = [gate for gate in get(pod, "spec", "schedulingGates") if gate["name"] != GATE]
        patch = [{"op": "replace", "path": "/spec/schedulingGates", "value": gates}]
        meta = pod["metadata"]
        await self._stage.client.json_patch(builtin.PODS, meta["namespace"], meta["name"], patch)

    async def _report_pull(self, pod: Obj) -> None:
        state = {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}}
        statuses = [
            {
                "name": one["name"],
                "image": one["image"],
                "imageID": "",
                "ready": False,
                "restartCount": 0,
                "state": state,
            }
            for one in pod["spec"]["containers"]
        ]
        meta = pod["metadata"]
        patch = {"status": {"containerStatuses": statuses}}
        await self._stage.client.merge(builtin.PODS, meta["namespace"], meta["name"], patch, subresource="status")

    def _delay(self, pod: Obj) -> float:
        if not self._delays:
            return 0.0
        return self._stage.dice.seconds(*_workload(pod))

    def _mode(self, pod: Obj) -> Mode:
        return self._stage.broken.mode(*_workload(pod))

    def _is_gated(self, pod: Obj) -> bool:
        return any(gate["name"] == GATE for gate in get(pod, "spec", "schedulingGates") or ())


def _workload(pod: Obj) -> tuple[str, str, str]:
    """Kind, namespace and name of what the pod belongs to; a ReplicaSet's name is its Deployment's and a hash."""
    meta = pod["metadata"]
    owner = next((one for one in meta.get("ownerReferences") or () if one.get("controller")), None)
    if owner is None:
        return "Pod", meta["namespace"], meta.get("name", "")
    if owner["kind"] == "ReplicaSet":
        return "Deployment", meta["namespace"], owner["name"].rpartition("-")[0]
    return owner["kind"], meta["namespace"], owner["name"]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
