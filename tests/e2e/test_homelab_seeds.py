"""The homelab again and again: other delays, so another order of events; and straight from its Flux tree."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from testbed import falseready, outside
from testbed.homelab import Homelab, location

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.homelab,
    pytest.mark.timeout(600),
    pytest.mark.xdist_group("homelab"),
    pytest.mark.skipif(location() is None, reason="there is no homelab data set; HOMELAB= names its folder"),
]
QUICK = 0.1  # of the usual delays
PATIENCE = 400.0


@pytest.mark.parametrize("seed", [1, 2])
def test_any_order_of_events_leads_to_thirteen_ready_layers_none_too_early(tmp_path: Path, seed: int) -> None:
    with Homelab(workdir=tmp_path, seed=seed, scale=QUICK) as homelab:
        _comes_up(homelab, outside.graph(homelab.stack))


def test_s5_the_flux_tree_itself_comes_up_though_its_root_awaits_its_own_children(tmp_path: Path) -> None:
    with Homelab(workdir=tmp_path, seed=3, scale=QUICK) as homelab:
        graph = _from_flux(homelab)
        _comes_up(homelab, graph, strict=False)


def test_s5_the_flux_tree_comes_up_truly_healthy_where_the_stack_says_strict(tmp_path: Path) -> None:
    with Homelab(workdir=tmp_path, seed=4, scale=QUICK) as homelab:
        graph = _from_flux(homelab)
        homelab.stack["spec"]["defaults"]["health"] = {"policy": "Strict"}
        _comes_up(homelab, graph, awaited=_awaiting_all(homelab))


def _from_flux(homelab: Homelab) -> dict[str, tuple[str, ...]]:
    """Has the stack take its layers from the repository's own Kustomizations; how they depend on one another."""
    graph = outside.graph(homelab.stack)
    spec: dict[str, Any] = homelab.stack["spec"]
    del spec["layers"]
    spec["flux"] = {"source": "infra", "path": "clusters/willingham-k8s"}
    return graph


def _condition(found: Any, kind: str) -> str:
    return next((str(one["status"]) for one in found["status"]["conditions"] if one["type"] == kind), "")


def _awaiting_all(homelab: Homelab) -> set[str]:
    """The Kustomizations that wait for all their objects; the others wait for those that `healthChecks` name alone."""
    folder = homelab.data / "repo" / "clusters" / "willingham-k8s"
    found = [yaml.safe_load(path.read_text()) for path in sorted(folder.glob("*.yaml"))]
    return {one["metadata"]["name"] for one in found if one["spec"].get("wait")}


def _comes_up(
    homelab: Homelab, graph: dict[str, tuple[str, ...]], *, awaited: set[str] | None = None, strict: bool = True
) -> None:
    """All layers get there in order. `strict`: and none, or none of the `awaited`, before its objects were healthy;
    otherwise they may be Ready as early as with Flux. In the end everything is healthy."""
    since = homelab.plane.audit_offset()
    homelab.apply()
    stack = homelab.wait_ready(timeout=PATIENCE)
    assert stack["status"]["summary"]["layers"] == "13/13"
    healthy = homelab.plane.api.wait(homelab.path, lambda found: _condition(found, "Healthy") == "True", timeout=60)
    assert _condition(healthy, "Ready") == "True"
    assert len(outside.deployed_releases(homelab.plane.api)) == 36
    evidence = homelab.evidence({"spec": {"layers": [{"name": n, "dependsOn": d} for n, d in graph.items()]}}, since)
    assert {write.layer for write in falseready.ready_writes(evidence.events, stack="home")} == set(graph)
    judged = {name: items for name, items in evidence.inventories.items() if awaited is None or name in awaited}
    assert len(judged) >= 9
    journal = evidence.journal if strict else ()
    assert falseready.judge(replace(evidence, inventories=judged, journal=journal)) == []
