"""One controller dealing with one object: what a play is given to act with."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from testbed.simulator import builtin
from testbed.simulator.broken import BrokenRules
from testbed.simulator.client import ApiClient, ApiError
from testbed.simulator.conditions import Status, timed
from testbed.simulator.dice import Dice
from testbed.simulator.journal import Journal
from testbed.simulator.objects import Obj, Resource, condition, generation, now_micro, owner_of
from testbed.simulator.operators import Operator
from testbed.simulator.store import Store

T = TypeVar("T")


@dataclass(slots=True)
class Stage:
    """What all scenes share."""

    client: ApiClient
    store: Store
    journal: Journal
    dice: Dice
    broken: BrokenRules
    ungated: bool = False
    olm_crds: Path | None = None
    resources: dict[str, Resource] = field(default_factory=dict)
    """Custom kinds that are served now, by resource name."""

    def resource(self, name: str) -> Resource | None:
        return self.resources.get(name)


class Scene:
    """`obj` is the object as last seen; it follows the watch while the scene goes on."""

    def __init__(self, stage: Stage, resource: Resource, obj: Obj, operator: Operator | None, failure: Status) -> None:
        self.stage = stage
        self.store = stage.store
        self.resource = resource
        self.obj = obj
        self._operator = operator
        self._failure = failure
        meta = obj["metadata"]
        self.namespace: str = meta.get("namespace", "")
        self.name: str = meta["name"]
        self.mode = stage.broken.mode(resource.kind, self.namespace, self.name)
        factor = 10.0 if self.mode == "slow" else 1.0
        self.delay = stage.dice.seconds(resource.kind, self.namespace, self.name) * factor
        self.was_healthy = False
        self.informational = False
        self.waited = 0.0

    @property
    def generation(self) -> int:
        return generation(self.obj)

    @property
    def spec(self) -> Mapping[str, Any]:
        return self.obj.get("spec") or {}

    async def begin(self) -> None:
        """Waits until the operator is up. An object that is to be ignored waits here for ever."""
        if self.mode == "never":
            await asyncio.Event().wait()
        if self._operator is not None and not self.stage.ungated:
            operator = self._operator
            for wanted in operator.deployments:
                up = await self.store.until((builtin.DEPLOYMENTS.name,), lambda: operator.up(self.store, wanted))  # noqa: B023
                self._note_need("Deployment", up["metadata"]["namespace"], up["metadata"]["name"])

    async def wait(self, share: float = 1.0) -> None:
        """Lets `share` of the object's delay pass."""
        await asyncio.sleep(self.delay * share)
        self.waited += self.delay * share

    async def until(
        self,
        resources: Iterable[str],
        question: Callable[[], T | None],
        *,
        what: tuple[str, str, str],
        begun: bool = False,
    ) -> T:
        """Waits for the cluster. `what` (kind, namespace, name) is what the journal says it waited for.

        `begun`: only for that to be there and noticed by its controller, not for it to be healthy.
        """
        answer = await self.store.until(resources, question)
        self._note_need(*what, begun=begun)
        return answer

    async def secret(self, namespace: str, name: str) -> Obj:
        """Waits for a Secret that has content."""

        def filled() -> Obj | None:
            found = self.store.get(builtin.SECRETS.name, namespace, name)
            return found if found and found.get("data") else None

        return await self.until((builtin.SECRETS.name,), filled, what=("Secret", namespace, name))

    async def progress(self, status: Status) -> None:
        """Writes an intermediate status; not over one that was healthy already."""
        if not self.was_healthy:
            await self._write(status, "progressing")

    async def healthy(self, status: Status, *, proof: Obj | None = None) -> None:
        """Writes the final status, unless the object is to be played broken.

        `proof`: another object, without whose present state this status would not mean that the object is healthy.
        """
        if self.mode == "stuck":
            await asyncio.Event().wait()
        if self.mode == "failed":
            await self._write(self._failure, "unhealthy")
            await asyncio.Event().wait()
        good = "noted" if self.informational else "healthy"
        await self._write(status, good, proof)
        if self.mode == "flap":
            await self.wait()
            await self._write(self._failure, "unhealthy")
            await self.wait()
            await self._write(status, "healthy")
        self.was_healthy = True

    def note_healthy(self, obj: Obj | None = None, *, sent: str = "") -> None:
        """For objects that are healthy without a status of their own."""
        self.stage.journal.write("healthy", obj or self.obj, sent=sent, waited=self.waited)
        self.was_healthy = True

    async def annotate(self, annotations: Mapping[str, str]) -> None:
        patch = {"metadata": {"uid": self.obj["metadata"]["uid"], "annotations": dict(annotations)}}
        self.obj = await self.stage.client.merge(self.resource, self.namespace, self.name, patch)

    async def ensure(self, resource: Resource, obj: Obj, *, owned: bool = True) -> None:
        """Creates a child object if there is none."""
        meta = obj["metadata"]
        child = {"apiVersion": resource.api_version, "kind": resource.kind, **obj}
        if owned and meta.get("namespace", "") == self.namespace:
            child["metadata"] = {**meta, "ownerReferences": [owner_of(self.obj)]}
        if self.store.get(resource.name, meta.get("namespace", ""), meta["name"]) is not None:
            return
        if created := await self.stage.client.create(resource, child):
            by = {"kind": self.resource.kind, "namespace": self.namespace, "name": self.name}
            self.stage.journal.write("created", created, by=by, waited=self.waited)

    async def service(self, name: str, *ports: int, **spec: object) -> None:
        """Creates a Service of the object's own."""
        entries = [{"name": f"port-{port}", "port": port} for port in ports]
        body = {"metadata": {"namespace": self.namespace, "name": name}, "spec": {"ports": entries, **spec}}
        await self.ensure(builtin.SERVICES, body)

    def _note_need(self, kind: str, namespace: str, name: str, *, begun: bool = False) -> None:
        needed = {"kind": kind, "namespace": namespace, "name": name}
        more = {"begun": True} if begun else {}
        self.stage.journal.write("unblocked", self.obj, waitedFor=needed, waited=self.waited, **more)

    async def _write(self, status: Status, state: str, proof: Obj | None = None) -> None:
        current = self.obj.get("status") or {}
        wanted = dict(status)
        if isinstance(status.get("conditions"), list) and all("type" in entry for entry in status["conditions"]):
            wanted["conditions"] = timed(status["conditions"], current.get("conditions"))
        sent = now_micro()
        if any(current.get(field) != value for field, value in wanted.items()):
            patch = {"metadata": {"uid": self.obj["metadata"]["uid"]}, "status": wanted}
            self.obj = await self._patch(patch)
        newest = max(self.obj, proof or self.obj, key=lambda obj: int(obj["metadata"]["resourceVersion"]))
        since = {"resourceVersion": newest["metadata"]["resourceVersion"]}
        shown = {**self.obj, "metadata": {**self.obj["metadata"], **since}}
        self.stage.journal.write(state, shown, sent=sent, waited=self.waited)

    async def _patch(self, patch: Obj) -> Obj:
        client = self.stage.client
        try:
            return await client.merge(self.resource, self.namespace, self.name, patch, subresource="status")
        except ApiError as error:
            if error.status != 404 or await client.find(self.resource, self.namespace, self.name) is None:
                raise
            return await client.merge(self.resource, self.namespace, self.name, patch)  # no status subresource


def is_true(obj: Obj | None, name: str) -> bool:
    return condition(obj, name) == "True"
