"""Interrupts a process at its n-th suspension, for every n, and lets a fresh one go on from what is in the cluster."""

from __future__ import annotations

import asyncio
import base64
import random
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context as Variables
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clusterstack.core.health import RuleSet
from clusterstack.core.inventory import decode
from clusterstack.core.objects import Manifest, ObjectRef, digest
from clusterstack.core.ownership import owner_of
from clusterstack.helm import record
from tests.engine.clock import settle
from tests.engine.cluster import Call
from tests.engine.home import NAMESPACE, STACK, Home, settled

MOST = 1_000
REST = 10.0


@dataclass(slots=True)
class Scenario:
    """`start` makes the process's work over a home, `goal` tells when it has come to rest.

    `prepare` sets the scene: scripts of the cluster, which every run needs anew. `before` is work that is done, to its
    goal and uninterrupted, before the part that is interrupted.
    """

    start: Callable[[Home], Coroutine[Any, Any, Any]]
    goal: Callable[[Home], bool]
    prepare: Callable[[Home], None] = lambda home: None
    before: Scenario | None = None
    between: Callable[[Home], None] = lambda home: None
    _scene: Home | None = field(default=None, init=False)

    async def scene(self, rules: RuleSet, root: Path) -> Home:
        """A home in which the interrupted part is about to begin."""
        random.seed(0)
        if self.before is None:
            home = Home(rules, root)
            self.prepare(home)
            return home
        if self._scene is None:
            home = await self.before.scene(rules, root)
            await run(home, self.before)
            await home.clock.advance(30)
            self.between(home)
            self._scene = home
        home, before = Home(rules, root), self._scene
        home.clock.elapsed = before.clock.elapsed
        home.charts.update(before.charts)
        home.cluster.adopt(before.cluster)
        self.prepare(home)
        return home


async def run(home: Home, scenario: Scenario, *, at: int = 0, kill: bool = False) -> int:
    """Run to the goal, or to the interruption at the `at`-th suspension; the suspensions that there were."""
    loop, steps = asyncio.get_running_loop(), _Steps(home, at, kill=kill)
    loop.set_task_factory(steps.factory)
    try:
        root = steps.root = asyncio.ensure_future(scenario.start(home))
        for _ in range(MOST):
            await settle()
            if root.done() or (scenario.goal(home) and not steps.interrupted):
                break
            await home.clock.step()
        else:
            raise AssertionError("it does not come to rest")
        if not root.done():
            await home.clock.advance(REST)
        if root.done() and not root.cancelled():
            root.result()
        assert root.done() or not steps.interrupted
        steps.over = True
        root.cancel()
        await asyncio.wait([root], timeout=2.0)
        assert root.done(), "cancelled, and still running"
        await settle()
    finally:
        loop.set_task_factory(None)
    return 0 if steps.interrupted else steps.count


class _Steps:
    """Counts the suspensions of all tasks of a process, and interrupts it at one of them."""

    def __init__(self, home: Home, at: int, *, kill: bool) -> None:
        self.home, self.at, self.kill = home, at, kill
        self.count, self.interrupted, self.over = 0, False, False
        self.root: asyncio.Future[Any] | None = None

    def factory(
        self, loop: asyncio.AbstractEventLoop, work: Any, *, context: Variables | None = None
    ) -> asyncio.Task[Any]:
        return asyncio.Task(_Counted(work, self._tick), loop=loop, context=context)

    def _tick(self) -> None:
        if self.over:
            return
        self.count += 1
        if self.count == self.at and self.root is not None:
            self.interrupted = True
            self.home.cluster.cut = self.kill
            self.root.cancel()


class _Counted(Coroutine[Any, Any, Any]):
    """A coroutine that tells of its suspensions."""

    def __init__(self, work: Coroutine[Any, Any, Any], tick: Callable[[], None]) -> None:
        self._work, self._tick = work, tick

    def send(self, value: Any) -> Any:
        yielded = self._work.send(value)
        self._tick()
        return yielded

    def throw(self, *error: Any) -> Any:
        yielded = self._work.throw(*error)
        self._tick()
        return yielded

    def close(self) -> None:
        self._work.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        raise NotImplementedError("only a task runs it")


@dataclass(frozen=True, slots=True)
class Reference:
    """What an uninterrupted run does."""

    suspensions: int
    end: dict[str, Any]
    deleted: frozenset[ObjectRef]


async def reference(scenario: Scenario, rules: RuleSet, root: Path) -> Reference:
    home = await scenario.scene(rules, root)
    watch_write_ahead(home)
    suspensions = await run(home, scenario)
    return Reference(suspensions, end_state(home), frozenset(home.cluster.of("delete")))


async def interrupted(
    scenario: Scenario, rules: RuleSet, root: Path, *, at: int, kill: bool, seen: set[str]
) -> Home | None:
    """Interrupt at one suspension, start a fresh process, and let it come to rest.

    None when an earlier interruption, noted in `seen`, left the very same cluster behind: what follows is the same too.
    """
    home = await scenario.scene(rules, root)
    watch_write_ahead(home)
    await run(home, scenario, at=at, kill=kill)
    left = digest([sorted((str(ref), stored) for ref, stored in home.cluster.objects.items()), home.clock.pending])
    if left in seen:
        return None
    seen.add(left)
    home.cluster.cut = False
    home.restart()
    await run(home, scenario)
    return home


def watch_write_ahead(home: Home) -> None:
    """Nothing may be applied that the inventory in the cluster does not hold."""

    def check(call: Call) -> None:
        if call.verb != "apply" or call.manifest is None:
            return
        owner = owner_of(call.ref, call.manifest["metadata"].get("annotations") or {})
        if owner is not None:
            held = inventory(home, owner.layer)
            assert call.ref in held, f"{call.ref} is applied, and the inventory of {owner.layer} does not hold it"

    home.cluster.committed.append(check)


def inventory(home: Home, layer: str) -> dict[ObjectRef, Any]:
    stored = home.cluster.objects.get(ObjectRef("", "ConfigMap", NAMESPACE, f"clusterstack.{STACK}.{layer}.0"))
    if stored is None:
        return {}
    return dict(decode([base64.b64decode(stored["binaryData"]["inventory"])]).entries)


def end_state(home: Home) -> dict[str, Any]:
    """What is in the cluster, without identities and times."""
    return {str(ref): _end(home, ref, stored) for ref, stored in sorted(home.cluster.objects.items())}


def _end(home: Home, ref: ObjectRef, stored: Manifest) -> Any:
    if ref.kind == "ConfigMap" and ref.namespace == NAMESPACE:
        layer = stored["metadata"]["annotations"]["clusterstack.dev/inventory-layer"]
        live = home.cluster.objects
        return {
            str(entry.ref): (
                entry.unit,
                entry.origin,
                entry.ref not in live or entry.uid == live[entry.ref]["metadata"]["uid"],
                entry.want,
            )
            for entry in inventory(home, layer).values()
        }
    if ref.kind == "Secret" and ref.name.startswith("sh.helm.release"):
        release = record.decode(stored)
        hooks = [(hook.name, hook.last_run.phase) for hook in release.hooks]
        return release.status, release.manifest, hooks, release.input_digest
    if ref.kind in ("StackLayer", "ClusterStack"):
        return (stored.get("status") or {}).get("phase")
    plain = settled(stored)
    if "status" in plain:
        plain["status"] = {key: value for key, value in plain["status"].items() if key != "startTime"}
    return plain
