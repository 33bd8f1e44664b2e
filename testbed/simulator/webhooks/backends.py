"""Keeps a server up for every called Service whose pods are Ready, and its callers trusting it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase

from testbed.simulator import builtin, certs
from testbed.simulator.broken import Mode
from testbed.simulator.catalogue import Catalogue
from testbed.simulator.certs import KeyPair
from testbed.simulator.objects import get
from testbed.simulator.plays.certmanager import CERTIFICATES
from testbed.simulator.scene import Stage
from testbed.simulator.webhooks.answers import Api, application
from testbed.simulator.webhooks.authorities import is_managed, read, rotation_of, serving_secret
from testbed.simulator.webhooks.injector import Injector
from testbed.simulator.webhooks.listeners import Address, Listeners, Wanted
from testbed.simulator.webhooks.references import Reference, Target, references
from testbed.simulator.webhooks.rotator import Rotator

_RESOURCES = (
    builtin.MUTATING.name,
    builtin.VALIDATING.name,
    builtin.API_SERVICES.name,
    builtin.CRDS.name,
    builtin.SERVICES.name,
    builtin.ENDPOINT_SLICES.name,
    builtin.SECRETS.name,
    builtin.DEPLOYMENTS.name,
    CERTIFICATES,
)
_SETTLE = 0.05
"""Seconds in which changes are gathered before they are acted on."""


class Backends:
    def __init__(self, stage: Stage, catalogue: Catalogue, tasks: asyncio.TaskGroup) -> None:
        self._stage = stage
        self._catalogue = catalogue
        self._rotator = Rotator(stage, tasks)
        self._injector = Injector(stage, catalogue)
        self._listeners = Listeners()
        self._wanted: dict[tuple[Target, int], Wanted] = {}
        self._apis: dict[Target, list[Api]] = {}
        self._invented: dict[Target, KeyPair] = {}
        self._failed: dict[Address, str] = {}
        self._up: set[Target] = set()

    def rebroken(self) -> None:
        """To be called when the broken rules changed."""
        self._stage.store.touch(builtin.SERVICES.name)

    async def run(self) -> None:
        changed = self._stage.store.subscribe(_RESOURCES)
        try:
            while True:
                await self._reconcile()
                await changed.wait()
                await asyncio.sleep(_SETTLE)
                changed.clear()
        finally:
            await self._listeners.close()

    async def _reconcile(self) -> None:
        by_target: dict[Target, list[Reference]] = {}
        for call in references(self._stage.store, self._catalogue.definitions):
            by_target.setdefault(call.target, []).append(call)
        wanted: dict[Address, Wanted] = {}
        up: set[Target] = set()
        for target, calls in by_target.items():
            if rotation := rotation_of(target):
                self._rotator.want(target, rotation)
            self._apis[target] = [call.api for call in calls if call.api != ("", "")]
            servers = self._servers(target, calls)
            wanted |= servers
            if servers:
                up.add(target)
        for address, reason in await self._listeners.become(wanted):
            self._complain(address, reason)
        self._note({target: calls for target, calls in by_target.items() if target in up})
        await self._injector.inject([call for calls in by_target.values() for call in calls], self._invented)

    def _servers(self, target: Target, calls: list[Reference]) -> Mapping[Address, Wanted]:
        service = self._stage.store.get(builtin.SERVICES.name, target.namespace, target.service)
        address = get(service, "spec", "clusterIP")
        if not address or address == "None" or not self._has_endpoint(target) or self._mode(target) == "down":
            return {}
        pair = read(serving_secret(self._stage.store, target, calls))
        if pair is None and not is_managed(target, calls):
            pair = self._invent(target)
        if pair is None:
            return {}
        return {Address(address, port): self._server(target, port, pair) for port in {call.port for call in calls}}

    def _server(self, target: Target, port: int, pair: KeyPair) -> Wanted:
        known = self._wanted.get((target, port))
        if known is None or known.pair != pair:
            known = Wanted(lambda: application(lambda: self._apis.get(target, []), self._mode_of(target)), pair)
            self._wanted[target, port] = known
        return known

    def _invent(self, target: Target) -> KeyPair:
        if target not in self._invented:
            hosts = certs.service_hosts(target.namespace, target.service)
            self._invented[target] = certs.make(target.service, hosts)
        return self._invented[target]

    def _has_endpoint(self, target: Target) -> bool:
        for piece in self._stage.store.all(builtin.ENDPOINT_SLICES.name):
            meta = piece["metadata"]
            name = (meta.get("labels") or {}).get("kubernetes.io/service-name")
            if (meta["namespace"], name) == (target.namespace, target.service):
                endpoints = piece.get("endpoints") or ()
                if any(get(one, "conditions", "ready") for one in endpoints):
                    return True
        return False

    def _note(self, up: Mapping[Target, list[Reference]]) -> None:
        """Journals what started and stopped answering, as objects of a kind `Webhook` that does not exist."""
        for target in self._up ^ up.keys():
            meta = {"namespace": target.namespace, "name": target.service}
            details = self._details(target, up[target]) if target in up else {}
            self._stage.journal.write(
                "healthy" if target in up else "unhealthy", {"kind": "Webhook", "metadata": meta}, **details
            )
        self._up = set(up)

    def _details(self, target: Target, calls: list[Reference]) -> dict[str, object]:
        store = self._stage.store
        service = store.get(builtin.SERVICES.name, target.namespace, target.service)
        selector = get(service, "spec", "selector") or {}
        backing = [
            found["metadata"]["name"]
            for found in store.all(builtin.DEPLOYMENTS.name)
            if found["metadata"]["namespace"] == target.namespace
            and selector.items() <= (get(found, "spec", "template", "metadata", "labels") or {}).items()
        ]
        patterns = {pattern for call in calls for pattern in call.guards}
        secret = serving_secret(store, target, calls)
        return {
            "deployments": backing,
            "secret": secret["metadata"]["name"] if secret else "",
            "guards": sorted(
                f"{crd['spec']['names']['kind']}.{crd['spec']['group']}"
                for name, crd in self._catalogue.definitions.items()
                if any(fnmatchcase(name, pattern) for pattern in patterns)
            ),
        }

    def _mode(self, target: Target) -> Mode:
        return self._stage.broken.mode("webhook", target.namespace, target.service)

    def _mode_of(self, target: Target) -> Callable[[], Mode]:
        return lambda: self._mode(target)

    def _complain(self, address: Address, reason: str) -> None:
        if self._failed.get(address) != reason:
            self._failed[address] = reason
            subject = {"kind": "Service", "metadata": {"name": f"{address.host}:{address.port}"}}
            self._stage.journal.write("error", subject, message=f"cannot listen: {reason}")
