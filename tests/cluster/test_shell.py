"""The watch of ClusterStacks: what it tells, what it survives, and that it leaves no trace."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

from clusterstack.shell.watcher import Watcher
from testbed.api import ApiError
from testbed.controlplane import ControlPlane

pytestmark = pytest.mark.cluster

CRD_PATH = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/clusterstacks.clusterstack.dev"
STACKS = "/apis/clusterstack.dev/v1alpha1/clusterstacks"
CRD = Path(__file__).resolve().parents[2] / "crds" / "clusterstack.dev_clusterstacks.yaml"

Unique = Callable[[str], str]


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """One for this file: these tests install and remove our CRD."""
    with ControlPlane() as plane:
        yield plane.start(workdir=tmp_path_factory.mktemp("plane"), controllers=False)


def install(plane: ControlPlane) -> None:
    plane.api.apply(CRD_PATH, yaml.safe_load(CRD.read_text()))
    plane.api.wait(CRD_PATH, lambda found: found is not None and _established(found))
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:  # a CRD is Established a moment before its storage answers
        with suppress(ApiError):
            plane.api.get(STACKS)
            return
        time.sleep(0.1)
    raise AssertionError("the CRD is never served")


def _established(crd: dict[str, Any]) -> bool:
    conditions = (crd.get("status") or {}).get("conditions") or ()
    return any(found["type"] == "Established" and found["status"] == "True" for found in conditions)


def apply_stack(plane: ControlPlane, name: str, **labels: str) -> None:
    manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "one", "namespace": "default"}}
    spec = {"layers": [{"name": "base", "manifests": [manifest]}]}
    metadata = {"name": name, "labels": labels}
    plane.api.apply(
        f"{STACKS}/{name}",
        {"apiVersion": "clusterstack.dev/v1alpha1", "kind": "ClusterStack", "metadata": metadata, "spec": spec},
    )


class Told:
    """What a watcher said."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.lists = 0
        self._news = asyncio.Event()

    def notify(self, name: str) -> None:
        self.names.append(name)
        self._news.set()

    def relisted(self) -> None:
        self.lists += 1
        self._news.set()

    async def until(self, condition: Callable[[], bool], *, timeout: float = 20.0) -> None:
        async with asyncio.timeout(timeout):
            while not condition():
                self._news.clear()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._news.wait(), 0.1)


@asynccontextmanager
async def watching(plane: ControlPlane, *, selector: str = "") -> AsyncIterator[tuple[Watcher, Told]]:
    told = Told()
    watcher = Watcher(told.notify, relisted=told.relisted, kubeconfig=str(plane.kubeconfig), selector=selector)
    watcher.start()
    try:
        yield watcher, told
    finally:
        await watcher.stop()


def cancel(watcher: Watcher, prefix: str) -> int:
    """Cancels tasks of the watcher's loop, as kopf does with those it thinks its own; returns how many."""
    loop = watcher._loop
    assert loop is not None
    found = [task for task in asyncio.all_tasks(loop) if task.get_name().startswith(prefix)]
    for task in found:
        loop.call_soon_threadsafe(task.cancel)
    return len(found)


async def test_a_change_is_told_as_soon_as_it_happens(plane: ControlPlane, unique: Unique) -> None:
    install(plane)
    name = unique("told")
    async with watching(plane) as (watcher, told):
        await told.until(lambda: watcher.synced)
        started = time.monotonic()
        await asyncio.to_thread(apply_stack, plane, name)
        await told.until(lambda: name in told.names)
        assert time.monotonic() - started < 2
        assert watcher.alive()
        told.names.clear()
        await asyncio.to_thread(plane.api.delete, f"{STACKS}/{name}")
        await told.until(lambda: name in told.names)


async def test_what_is_there_at_the_start_is_told(plane: ControlPlane, unique: Unique) -> None:
    install(plane)
    name = unique("old")
    apply_stack(plane, name)
    async with watching(plane) as (_, told):
        await told.until(lambda: name in told.names and told.lists == 1)


async def test_only_selected_stacks_are_told(plane: ControlPlane, unique: Unique) -> None:
    install(plane)
    ours, theirs = unique("ours"), unique("theirs")
    apply_stack(plane, theirs, shard="b")
    async with watching(plane, selector="shard=a") as (watcher, told):
        await told.until(lambda: watcher.synced)
        await asyncio.to_thread(apply_stack, plane, ours, shard="a")
        await told.until(lambda: ours in told.names)
        assert theirs not in told.names


async def test_a_crd_that_appears_later_is_picked_up(plane: ControlPlane, unique: Unique) -> None:
    with suppress(ApiError):
        plane.api.delete(CRD_PATH)
    plane.api.wait(CRD_PATH, lambda found: found is None)
    name = unique("late")
    async with watching(plane) as (watcher, told):
        await told.until(lambda: watcher._served is False)
        assert watcher.alive(), "no CRD is not a fault of ours"
        await asyncio.to_thread(install, plane)
        await told.until(lambda: watcher.synced)
        await asyncio.to_thread(apply_stack, plane, name)
        await told.until(lambda: name in told.names)
        assert watcher.restarts <= 1, "kopf may miss the CRD once, when discovery comes late"


async def test_it_writes_nothing(plane: ControlPlane, unique: Unique) -> None:
    install(plane)
    name = unique("untouched")
    before = plane.audit_offset()
    async with watching(plane) as (watcher, told):
        await told.until(lambda: watcher.synced)
        await asyncio.to_thread(apply_stack, plane, name)
        await told.until(lambda: name in told.names)
        await asyncio.to_thread(plane.api.delete, f"{STACKS}/{name}")
        await told.until(lambda: told.names.count(name) > 1)
    agents = {str(event.get("userAgent")) for event in plane.audit(before)}
    assert any("(watcher)" in agent for agent in agents), f"the watcher is not in the audit log: {agents}"
    assert plane.writes(before, user_agent="clusterstack") == []
    assert plane.writes(before, user_agent="kopf") == []


@pytest.mark.parametrize(
    "victim",
    [
        pytest.param("watcher for clusterstacks", id="the watch alone, which kopf does not notice"),
        pytest.param("multidimensional multitasker", id="a root task"),
        pytest.param("kopf operator", id="kopf as a whole"),
    ],
)
async def test_it_starts_again_when_killed(plane: ControlPlane, unique: Unique, victim: str) -> None:
    install(plane)
    name = unique("again")
    async with watching(plane) as (watcher, told):
        await told.until(lambda: watcher.synced)
        lists = told.lists
        assert cancel(watcher, victim) == 1
        await told.until(lambda: watcher.restarts == 1 and told.lists > lists, timeout=30)
        await asyncio.to_thread(apply_stack, plane, name)
        await told.until(lambda: name in told.names)
        assert watcher.alive()


async def test_stopping_ends_at_once(plane: ControlPlane) -> None:
    install(plane)
    async with watching(plane) as (watcher, told):
        await told.until(lambda: watcher.synced)
        started = time.monotonic()
        await watcher.stop()
        assert time.monotonic() - started < 1
        assert watcher.problem() == "the thread has ended"


async def test_without_an_api_server_it_keeps_trying_and_stops_at_once(tmp_path: Path) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    told = Told()
    watcher = Watcher(told.notify, kubeconfig=str(kubeconfig))
    watcher.start()
    try:
        await told.until(lambda: str(kubeconfig) in watcher._trouble)
        watcher._watching -= 60
        assert str(kubeconfig) in watcher.problem()
    finally:
        started = time.monotonic()
        await watcher.stop()
        assert time.monotonic() - started < 1
