"""A process may end between any two steps: whatever the moment, the next one comes to the same end.

Each scenario is interrupted at its n-th suspension, for every n: cancelled, as on a SIGTERM, with writes in flight
awaited; or killed, with nothing more reaching the API server. Then a fresh process goes on from the cluster's state.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from clusterstack.api.spec import parse_stack
from clusterstack.core.health import RuleSet
from clusterstack.core.objects import Manifest, ObjectRef, ref_of
from clusterstack.engine.stack import Stack
from tests.engine.charts import Chart, hook
from tests.engine.home import (
    Home,
    config_map,
    controllers,
    crd,
    custom,
    deployment,
    job,
    layer,
    stack_body,
)
from tests.engine.interrupt import Reference, Scenario, end_state, interrupted, reference
from tests.engine.test_teardown import OWN_CRD

PARTS = 12
ROOT = ref_of(stack_body())


def stack(*layers: Manifest, **spec: Any) -> Callable[[Home], Coroutine[Any, Any, None]]:
    """A process that runs one stack."""

    def start(home: Home) -> Coroutine[Any, Any, None]:
        body = stack_body(*layers, **spec)
        found = home.cluster.objects.get(ROOT)
        if found is None or found["spec"] != body["spec"]:
            home.cluster.put({**body, "metadata": (found or body)["metadata"]})
            found = home.cluster.objects[ROOT]
        one = Stack(home.context, uid=found["metadata"]["uid"], announce=lambda *_: None, observe=lambda *_: None)
        one.want(parse_stack(found))
        return one.live()

    return start


def ready(*names: str, without: tuple[Manifest, ...] = ()) -> Callable[[Home], bool]:
    """These layers are Ready and their inventories say so, and these objects are gone."""

    def goal(home: Home) -> bool:
        objects = home.cluster.objects
        if any(ref_of(manifest) in objects for manifest in without) or ROOT not in objects:
            return False
        entries = (objects[ROOT].get("status") or {}).get("layers") or []
        return {entry["name"]: entry["phase"] for entry in entries} == dict.fromkeys(names, "Ready")

    return goal


def scene(home: Home) -> None:
    controllers(home.cluster, delay=0.5)
    home.cluster.put(OWN_CRD)


BASE = layer("base", crd("Widget"), config_map("a"), config_map("b"))
TOP = layer("top", deployment("web"), custom("Widget", "w"), dependsOn=["base"])
UP = Scenario(stack(BASE, TOP), ready("base", "top"), scene)
UP_TO_DELETE = Scenario(stack(BASE, TOP, deletionPolicy="Delete"), ready("base", "top"), scene)
SWEPT = Scenario(
    stack(layer("base", crd("Widget"), config_map("a")), TOP),
    ready("base", "top", without=(config_map("b"),)),
    scene,
    before=UP,
)
MOVED = Scenario(
    stack(layer("base", crd("Widget"), config_map("a")), layer("top", deployment("web"), config_map("b"))),
    ready("base", "top", without=(custom("Widget", "w"),)),
    scene,
    before=UP,
)


def delete(home: Home) -> None:
    home.cluster.change(ROOT, lambda found: found["metadata"].update(deletionTimestamp=home.clock.text()))


DOWN = Scenario(
    stack(BASE, TOP, deletionPolicy="Delete"),
    lambda home: not home.cluster.objects[ROOT]["metadata"].get("finalizers"),
    scene,
    before=UP_TO_DELETE,
    between=delete,
)


def chart(version: str) -> Callable[[Home], None]:
    """The scene with one chart in a version: hooks around its objects, and a CRD that comes with it."""
    objects = [
        config_map("a", version=version),
        deployment("web"),
        *([config_map("old")] if version == "1.0.0" else []),
    ]
    hooks = [
        hook(job("before"), "pre-install", "pre-upgrade"),
        hook(job("after"), "post-install", "post-upgrade", delete_policies=("before-hook-creation", "hook-succeeded")),
        hook(config_map("noted"), "pre-install", weight=-1),
        hook(job("bye"), "pre-delete"),
    ]

    def prepare(home: Home) -> None:
        scene(home)
        home.charts["app"] = Chart(lambda request: objects, hooks=hooks, crds=[crd("Widget")], version=version)

    return prepare


def deployed(revision: int, *, without: tuple[Manifest, ...] = ()) -> Callable[[Home], bool]:
    """The layer is Ready with this revision."""

    def goal(home: Home) -> bool:
        record = home.cluster.objects.get(ObjectRef("", "Secret", "apps", f"sh.helm.release.v1.app.v{revision}"))
        settled = record is not None and record["metadata"]["labels"]["status"] == "deployed"
        return settled and ready("apps", without=without)(home)

    return goal


APPS = layer(
    "apps",
    config_map("plain"),
    charts=[{"name": "app", "namespace": "apps", "repo": "https://charts", "chart": "app"}],
)
INSTALLED = Scenario(stack(APPS), deployed(1), chart("1.0.0"))
UPGRADED = Scenario(stack(APPS), deployed(2, without=(config_map("old"),)), chart("2.0.0"), before=INSTALLED)
UNINSTALLED = Scenario(
    stack(layer("apps", config_map("plain"))),
    lambda home: ready("apps", without=(deployment("web"),))(home) and not _records(home),
    chart("1.0.0"),
    before=INSTALLED,
)


def _records(home: Home) -> list[ObjectRef]:
    return [ref for ref in home.cluster.objects if ref.name.startswith("sh.helm.release")]


SCENARIOS = {
    "up": UP,
    "swept": SWEPT,
    "moved": MOVED,
    "down": DOWN,
    "installed": INSTALLED,
    "upgraded": UPGRADED,
    "uninstalled": UNINSTALLED,
}
_references: dict[str, Reference] = {}
_seen: defaultdict[tuple[str, bool], set[str]] = defaultdict(set)


async def expected(name: str, rules: RuleSet, root: Path) -> Reference:
    if name not in _references:
        _references[name] = await reference(SCENARIOS[name], rules, root)
    return _references[name]


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("kill", [False, True], ids=["cancelled", "killed"])
@pytest.mark.parametrize("name", SCENARIOS)
async def test_interrupted_anywhere_the_next_process_comes_to_the_same_end(
    rules: RuleSet, tmp_path: Path, name: str, kill: bool, part: int
) -> None:
    wanted = await expected(name, rules, tmp_path)
    for at in range(1 + part, wanted.suspensions, PARTS):
        home = await interrupted(SCENARIOS[name], rules, tmp_path, at=at, kill=kill, seen=_seen[name, kill])
        if home is None:
            continue
        assert end_state(home) == wanted.end, f"interrupted at suspension {at} of {wanted.suspensions}"
        assert set(home.cluster.of("delete")) <= wanted.deleted, f"interrupted at suspension {at}"
        jobs = [ref.name for ref in home.cluster.of("create") if ref.kind == "Job"]
        assert len(jobs) == len(set(jobs)), f"a hook ran twice when interrupted at suspension {at}"
