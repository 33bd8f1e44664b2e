"""The homelab again and again: other delays, so another order of events; and straight from its Flux tree."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

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
        graph = outside.graph(homelab.stack)
        spec: dict[str, Any] = homelab.stack["spec"]
        del spec["layers"]
        spec["flux"] = {"source": "infra", "path": "clusters/willingham-k8s"}
        _comes_up(homelab, graph)


def _comes_up(homelab: Homelab, graph: dict[str, tuple[str, ...]]) -> None:
    since = homelab.plane.audit_offset()
    homelab.apply()
    stack = homelab.wait_ready(timeout=PATIENCE)
    assert stack["status"]["summary"]["layers"] == "13/13"
    assert len(outside.deployed_releases(homelab.plane.api)) == 36
    evidence = homelab.evidence({"spec": {"layers": [{"name": n, "dependsOn": d} for n, d in graph.items()]}}, since)
    assert {write.layer for write in falseready.ready_writes(evidence.events, stack="home")} == set(graph)
    assert falseready.judge(evidence) == []
