"""The demo's stack, as a person would run it: up from nothing, commits good and bad, restarts, and its end."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from testbed import outside, site
from testbed.controlplane import ControlPlane
from testbed.falseready import Evidence, judge
from testbed.gitrepo import GitRepository

from .bed import LAYERS, Bed, Stack, a_bed, condition, one_line, settle

pytestmark = pytest.mark.e2e

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "demo"
MANIFEST = yaml.safe_load((EXAMPLE / "clusterstack.yaml").read_text())
LAYER_NAMES = [layer["name"] for layer in MANIFEST["spec"]["layers"]]
GATEWAY = "network/gateway.conf"
STORAGE = "base/storage.yaml"
_EVENT = re.compile(r"events default/demo\.[0-9a-f]+$")


@dataclass
class Demo:
    """The stack, the cluster it is in, and the repository it comes from."""

    bed: Bed
    stack: Stack
    git: GitRepository

    def rolled_out(self, commit: str, *, phase: str = "Ready", timeout: float = 40.0) -> None:
        """Wait until the stack has taken that commit up and is in `phase`."""

        def holds(found: Any) -> bool:
            summary = found["status"].get("summary") or {}
            taken = str(summary.get("revision", "")).endswith(commit[:7])
            return taken and found["status"]["phase"] == phase

        self.bed.until(self.stack.path, holds, timeout=timeout)

    def phases(self) -> dict[str, str]:
        found = self.bed.api.get(LAYERS)["items"]
        return {layer["metadata"]["name"].partition(".")[2]: layer["status"]["phase"] for layer in found}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """The demo with all layers Ready."""
    workdir = tmp_path_factory.mktemp("demo")
    git = GitRepository(workdir / "site" / "git" / "platform.git").create(EXAMPLE / "repo")
    site.pack_charts(EXAMPLE / "charts", workdir / "site" / "charts")
    with ControlPlane() as plane, site.Site(workdir / "site") as web:
        plane.start(workdir=workdir / "plane")
        mirrors = ("--mirror", f"https://git.example.com/={web.url}/git/")
        charts = ("--mirror", f"https://charts.example.com={web.url}/charts")
        with a_bed(plane, workdir, arguments=(*mirrors, *charts)) as bed:
            stack = Stack(bed, "demo", {})
            stack.spec = MANIFEST["spec"]
            stack.apply()
            stack.ready(timeout=90)
            yield Demo(bed, stack, git)


@pytest.fixture
def quiet(demo: Demo) -> Demo:
    """The demo, Ready and with nothing left to write."""
    demo.stack.ready()
    settle(2)
    return demo


def object_writes(lines: list[str]) -> list[str]:
    """Writes but those to the ClusterStack itself, whose status and Events tell of every revision."""
    return [line for line in lines if "clusterstacks/status" not in line and not _EVENT.search(line)]


def all_writes(demo: Demo, since: int) -> list[str]:
    """Every write but the Lease's and the answers to reconcileAt."""
    return [one_line(event) for event in outside.own_writes(demo.bed.plane, since)]


def test_every_layer_becomes_ready_and_says_so(demo: Demo) -> None:
    assert demo.phases() == dict.fromkeys(LAYER_NAMES, "Ready")
    found = demo.bed.api.get(demo.stack.path)
    assert condition(found, "Ready")["status"] == "True"
    assert found["status"]["summary"]["layers"] == f"{len(LAYER_NAMES)}/{len(LAYER_NAMES)}"


def test_no_object_was_written_before_the_layers_it_waits_for_were_ready(demo: Demo) -> None:
    api = demo.bed.api
    inventories = outside.inventories(api, "demo")
    evidence = Evidence(
        stack="demo",
        events=[e for e in demo.bed.plane.audit() if e.get("userAgent", "").startswith("clusterstack")],
        journal=[],
        inventories={layer: [one.item for one in owned] for layer, owned in inventories.items()},
        depends_on=outside.graph(MANIFEST),
        kinds=outside.kinds(api),
    )
    assert sorted(inventories) == sorted(LAYER_NAMES)
    assert judge(evidence) == []


def test_a_second_pass_writes_nothing(quiet: Demo) -> None:
    since = quiet.bed.plane.audit_offset()
    quiet.stack.reconcile()
    settle(3)
    assert all_writes(quiet, since) == []


@pytest.mark.parametrize("lose_cache", [False, True], ids=["cache kept", "cache lost"])
def test_a_restart_writes_nothing(quiet: Demo, lose_cache: bool) -> None:
    since = quiet.bed.plane.audit_offset()
    quiet.bed.restart(lose_cache=lose_cache)
    quiet.stack.reconcile()
    settle(3)
    assert all_writes(quiet, since) == []


def test_a_crash_writes_nothing(quiet: Demo) -> None:
    since = quiet.bed.plane.audit_offset()
    quiet.bed.restart(crash=True)
    quiet.stack.reconcile()
    settle(3)
    assert all_writes(quiet, since) == []


def test_a_commit_that_changes_one_layer_writes_nothing_elsewhere(quiet: Demo) -> None:
    since = quiet.bed.plane.audit_offset()
    before = {name: quiet.stack.layer(name) for name in LAYER_NAMES if name != "network"}
    commit = quiet.git.commit("Forward to two", {GATEWAY: "listen 80\nforward shop,dashboards\n"})
    quiet.rolled_out(commit)
    quiet.stack.ready()
    settle(2)
    lines = object_writes(quiet.bed.writes(since))
    strays = [line for line in lines if "network" not in line]
    assert lines
    assert strays == []
    assert {name: quiet.stack.layer(name) for name in before} == before


def test_a_commit_that_changes_nothing_writes_nothing(quiet: Demo) -> None:
    since = quiet.bed.plane.audit_offset()
    quiet.rolled_out(quiet.git.commit("Say why", {"README.md": "A platform.\n"}))
    settle(2)
    assert object_writes(quiet.bed.writes(since)) == []


def test_a_broken_commit_leaves_the_others_ready_and_the_fix_heals_it(quiet: Demo) -> None:
    whole = quiet.git.read(STORAGE)
    quiet.git.commit("Break it", {STORAGE: whole.replace("name: fast", "name: [fast")})
    broken = quiet.stack.phase("base", "Failed", says="storage.yaml")
    assert "line" in broken["message"]
    others = {name: phase for name, phase in quiet.phases().items() if name != "base"}
    assert set(others.values()) == {"Ready"}
    since = quiet.bed.plane.audit_offset()
    quiet.rolled_out(quiet.git.commit("Mend it", {STORAGE: whole}))
    quiet.stack.ready()
    settle(2)
    assert [line for line in object_writes(quiet.bed.writes(since)) if "demo.base" not in line] == []


def test_a_good_change_in_one_layer_arrives_while_another_is_broken(quiet: Demo) -> None:
    whole = quiet.git.read(STORAGE)
    settings = "listen 8080\nforward shop\n"
    quiet.git.commit("Break one", {STORAGE: whole.replace("name: fast", "name: [fast"), GATEWAY: settings})
    quiet.stack.phase("base", "Failed", says="storage.yaml")
    path = "/api/v1/namespaces/network/configmaps"

    def arrived(found: Any) -> bool:
        return any(one.get("data", {}).get("gateway.conf") == settings for one in found["items"])

    quiet.bed.until(path, arrived)
    quiet.rolled_out(quiet.git.commit("Mend it", {STORAGE: whole}))


def test_a_new_commit_takes_over_while_a_layer_waits(quiet: Demo) -> None:
    whole = quiet.git.read("messaging/shop.yaml")
    nowhere = whole.replace(
        "    spec:\n      containers:", "    spec:\n      nodeSelector: {no: where}\n      containers:", 1
    )
    assert nowhere != whole
    quiet.git.commit("Ask for a node that is not there", {"messaging/shop.yaml": nowhere})
    quiet.stack.phase("messaging", "Progressing", says="Deployment shop/shop")
    started = time.monotonic()
    quiet.rolled_out(quiet.git.commit("Ask for any node", {"messaging/shop.yaml": whole}))
    assert time.monotonic() - started < 30


def test_a_change_by_hand_is_put_right(quiet: Demo) -> None:
    path = "/apis/apps/v1/namespaces/shop/deployments/shop"
    patch = {"spec": {"replicas": 0}}
    quiet.bed.api.request("PATCH", path, patch, content_type="application/merge-patch+json")
    quiet.bed.until(path, lambda found: found["spec"]["replicas"] == 2, timeout=10)


def test_an_object_that_a_commit_removes_is_deleted(quiet: Demo) -> None:
    text = quiet.git.read("routes/routes.yaml")
    first, second, *rest = text.split("---\n")
    quiet.rolled_out(quiet.git.commit("Drop a route", {"routes/routes.yaml": "---\n".join([first, *rest])}))
    name = yaml.safe_load(second)["metadata"]["name"]
    quiet.bed.until(f"/apis/net.example.com/v1/namespaces/network/routes/{name}", lambda found: found is None)
    quiet.rolled_out(quiet.git.commit("Bring it back", {"routes/routes.yaml": text}))
    quiet.stack.ready()


def test_the_releases_are_real_helm_releases(quiet: Demo) -> None:
    listed = quiet.bed.helm("list", "--all-namespaces", "--output", "yaml", namespace="default")
    releases = {release["name"]: release["status"] for release in yaml.safe_load(listed)}
    assert releases == dict.fromkeys(("certs", "queue-operator", "metrics-operator", "dashboards"), "deployed")


def test_zz_deleting_it_takes_the_layers_in_reverse_and_leaves_nothing(quiet: Demo) -> None:
    api = quiet.bed.api
    inventories = outside.inventories(api, "demo")
    plural = {(group, kind): resource for (group, resource), kind in outside.kinds(api).items()}
    owned = {one.item: one for entries in inventories.values() for one in entries}
    since = quiet.bed.plane.audit_offset()
    quiet.stack.delete(timeout=90)
    left = []
    for item, one in owned.items():
        root = f"/apis/{one.api_version}" if item.group else f"/api/{one.api_version}"
        within = f"/namespaces/{item.namespace}" if item.namespace else ""
        if api.find(f"{root}{within}/{plural[item.group, item.kind]}/{item.name}") is not None:
            left.append(item)
    assert left == []
    deletions = [line for line in quiet.bed.writes(since) if line.startswith("delete")]
    order = [
        deletions.index(next(line for line in deletions if name in line))
        for name in ("recommender", "dashboards", "fast")
    ]
    assert order == sorted(order)
