"""One task per ClusterStack. A stack that fails is restarted with a growing pause; its neighbours never notice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from clusterstack.api.common import API_VERSION
from clusterstack.api.spec import ClusterStack, parse_stack
from clusterstack.core.objects import Manifest
from clusterstack.core.views import StackView
from clusterstack.engine.context import Context
from clusterstack.engine.publish import Announce
from clusterstack.engine.stack import Stack
from clusterstack.engine.wait import changed_or_later, sleep
from clusterstack.engine.world import Clock, Cluster
from clusterstack.errors import ApiError, SpecError, TransportError
from clusterstack.telemetry.logs import logger

LOG = logger(__name__)
FIRST_PAUSE, LAST_PAUSE = 1.0, 60.0
FULL_LIST = 300.0
KIND = "ClusterStack"

MakeContext = Callable[[str, ClusterStack | None], Context]
"""A stack's surroundings, by its name and what its spec says of accounts and mirrors."""


@dataclass(slots=True)
class _Slot:
    """A stack, its task, and what of its spec its context was made of."""

    stack: Stack
    task: asyncio.Task[None]
    uid: str
    basis: object


class Supervisor:
    """Keeps a task for every ClusterStack; `notify` says that one has changed, a full list that none was missed."""

    def __init__(
        self,
        cluster: Cluster,
        clock: Clock,
        *,
        make: MakeContext,
        announce: Announce,
        observe: Callable[[str, StackView], None],
        forget: Callable[[str], None],
        selector: str = "",
    ) -> None:
        self._cluster, self._clock = cluster, clock
        self._make, self._announce, self._observe, self._forget = make, announce, observe, forget
        self._selector = selector
        self._slots: dict[str, _Slot] = {}
        self._changed: set[str] = set()
        self.synced = False

    def notify(self, name: str) -> None:
        """A ClusterStack of this name was made, changed or deleted."""
        self._changed.add(name)
        self._cluster.facts.publish(("stacks",))

    def snapshots(self) -> set[Path]:
        """The directories that any stack holds on to."""
        return {path for slot in self._slots.values() for path in slot.stack.snapshots()}

    async def run(self) -> None:
        """Supervise until cancelled; then every stack is stopped and awaited."""
        try:
            while True:
                since = self._cluster.facts.now
                await self._look()
                await changed_or_later(self._cluster.facts, [("stacks",)], since, self._clock, FULL_LIST)
        finally:
            for slot in self._slots.values():
                slot.stack.stopping.set()
                slot.task.cancel()
            await asyncio.gather(*(slot.task for slot in self._slots.values()), return_exceptions=True)

    async def _look(self) -> None:
        self._changed.clear()
        try:
            found = await self._cluster.list(API_VERSION, KIND, selector=self._selector)
        except (ApiError, TransportError) as error:
            LOG.warning("ClusterStacks cannot be listed", extra={"error": str(error)})
            await sleep(self._clock, FIRST_PAUSE)
            self.notify("")
            return
        self.synced = True
        bodies = {body["metadata"]["name"]: body for body in found}
        for name in [name for name, slot in self._slots.items() if self._gone(slot, bodies.get(name))]:
            await self._stop(name)
        for name, body in bodies.items():
            await self._bring_up(name, body)

    def _gone(self, slot: _Slot, body: Manifest | None) -> bool:
        return body is None or body["metadata"]["uid"] != slot.uid

    async def _bring_up(self, name: str, body: Manifest) -> None:
        stack: ClusterStack | SpecError
        try:
            stack = parse_stack(body)
        except SpecError as error:
            stack = error
        parsed = stack if isinstance(stack, ClusterStack) else None
        basis = (parsed.spec.service_account, parsed.spec.mirrors) if parsed is not None else None
        slot = self._slots.get(name)
        if slot is not None and basis is not None and slot.basis != basis:
            await self._stop(name)
            slot = None
        if slot is None:
            slot = self._slots[name] = self._start(name, body["metadata"]["uid"], parsed, basis)
        slot.stack.want(stack)

    def _start(self, name: str, uid: str, parsed: ClusterStack | None, basis: object) -> _Slot:
        context = self._make(name, parsed)
        stack = Stack(context, uid=uid, announce=self._announce, observe=lambda view: self._observe(name, view))
        return _Slot(stack, asyncio.create_task(self._guarded(name, stack)), uid, basis)

    async def _guarded(self, name: str, stack: Stack) -> None:
        """The stack's boundary: what escapes it is logged, and the stack starts over from what the cluster says."""
        pause = FIRST_PAUSE
        while True:
            try:
                await stack.live()
                return
            except Exception as error:
                LOG.exception("stack failed", extra={"stack": name, "error": str(error)})
            await sleep(self._clock, pause)
            pause = min(LAST_PAUSE, pause * 2)

    async def _stop(self, name: str) -> None:
        slot = self._slots.pop(name)
        slot.task.cancel()
        await asyncio.gather(slot.task, return_exceptions=True)
        self._forget(name)
