"""Custom kinds: found as their CRDs are established, then watched if somebody plays them."""

from __future__ import annotations

import asyncio

from testbed.simulator import builtin
from testbed.simulator.informer import Informer
from testbed.simulator.objects import Obj, Resource, condition, get
from testbed.simulator.scene import Stage
from testbed.simulator.store import Change


class Catalogue:
    """Follows the metadata of CRDs and reads each one when its generation changes."""

    def __init__(self, stage: Stage, wanted: frozenset[str], tasks: asyncio.TaskGroup) -> None:
        self._stage = stage
        self._wanted = wanted
        self._tasks = tasks
        self._watches: dict[str, asyncio.Task[None]] = {}
        self._read: dict[str, int] = {}
        self._established: set[str] = set()
        self._changed: asyncio.Queue[str] = asyncio.Queue()
        self.definitions: dict[str, Obj] = {}
        """CRDs without their schemas, by name."""
        stage.store.listen(self._hear)

    def _hear(self, change: Change, resource: Resource, obj: Obj) -> None:
        if resource != builtin.CRDS:
            return
        meta = obj["metadata"]
        name = meta["name"]
        if change == "DELETED":
            self._forget(name)
        elif name not in self._established or self._read.get(name) != meta.get("generation"):
            self._changed.put_nowait(name)

    async def run(self) -> None:
        while True:
            name = await self._changed.get()
            crd = await self._stage.client.find(builtin.CRDS, "", name)
            if crd is not None:
                self.take(crd)

    def take(self, crd: Obj) -> None:
        """A CRD as the API server just gave it."""
        name = crd["metadata"]["name"]
        for version in crd["spec"]["versions"]:
            version.pop("schema", None)
        self.definitions[name] = crd
        self._read[name] = crd["metadata"]["generation"]
        if condition(crd, "Established") == "True":
            if name not in self._established:
                self._stage.journal.write("healthy", crd)
            self._established.add(name)
            if name in self._wanted and name not in self._watches:
                self._watch(crd)
        self._stage.store.touch(builtin.CRDS.name)

    def _watch(self, crd: Obj) -> None:
        spec = crd["spec"]
        stored = next(version for version in spec["versions"] if version["storage"])
        served = stored if stored["served"] else next(version for version in spec["versions"] if version["served"])
        resource = Resource(
            spec["names"]["plural"],
            spec["group"],
            served["name"],
            spec["names"]["kind"],
            namespaced=spec["scope"] == "Namespaced",
        )
        self._stage.resources[resource.name] = resource
        informer = Informer(self._stage.client, self._stage.store, resource)
        self._watches[resource.name] = self._tasks.create_task(informer.run())

    def _forget(self, name: str) -> None:
        self.definitions.pop(name, None)
        self._established.discard(name)
        self._read.pop(name, None)
        resource = self._stage.resources.pop(name, None)
        if resource is not None:
            self._watches.pop(name).cancel()
            self._stage.store.replace(resource, [])


def conversion_service(crd: Obj) -> Obj | None:
    """The clientConfig.service of a CRD that is converted by a webhook."""
    if get(crd, "spec", "conversion", "strategy") != "Webhook":
        return None
    found: Obj | None = get(crd, "spec", "conversion", "webhook", "clientConfig", "service")
    return found
