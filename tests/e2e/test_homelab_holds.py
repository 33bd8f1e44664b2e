"""What the homelab's objects really need holds their layers: in one run, three are kept back, shown, and let go.

A Subscription whose CSV is being installed holds `operators` and all behind it. Then a Gateway without an address holds
`network`, and databases that are initialising hold `security` and, in `dev-platform`, the releases that need them.
Nothing in the repository depends on these three layers: three layers of the test's own do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from testbed import falseready, outside
from testbed.homelab import Homelab, location
from testbed.outside import LAYERS, descendants, graph

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.homelab,
    pytest.mark.timeout(600),
    pytest.mark.xdist_group("homelab"),
    pytest.mark.skipif(location() is None, reason="there is no homelab data set; HOMELAB= names its folder"),
]
PATIENCE = 300.0
CSV = "clusterserviceversion/keycloak/*=stuck"
ADDRESS = "service/kgateway-system/external-gateway=stuck"
DATABASES = "perconapgcluster/*=stuck"

Blockers = frozenset[tuple[str, str]]
"""Kinds and names of what keeps a layer from being Ready."""

INSTALLING: dict[str, Blockers] = {"operators": frozenset({("Subscription", "keycloak-operator")})}
WITHOUT: dict[str, Blockers] = {
    "network": frozenset({("Gateway", "external-gateway")}),
    "security": frozenset({("PerconaPGCluster", "keycloak-db-pg-db")}),
    "dev-platform": frozenset(
        {
            ("PerconaPGCluster", "coder-db-pg-db"),
            ("PerconaPGCluster", "temporal-db-pg-db"),
            ("HelmRelease", "coder"),
            ("HelmRelease", "temporal"),
        }
    ),
}


@dataclass(frozen=True, slots=True)
class Moment:
    """What was to be seen while objects were held: statuses by layer and of the stack, which layers own anything, and
    the namespaces and names of all Helm releases, whatever their state."""

    layers: Mapping[str, Any]
    summary: Mapping[str, Any]
    begun: frozenset[str]
    releases: frozenset[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Story:
    """The whole run."""

    graph: Mapping[str, tuple[str, ...]]
    installing: Moment
    without: Moment
    ready: Mapping[str, Any]
    releases: int
    false: list[falseready.FalseReady]


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """Each hold is let go once it is all that is left in the way of its layers."""
    broken = ",".join((CSV, ADDRESS, DATABASES))
    with Homelab(workdir=tmp_path_factory.mktemp("holds"), seed=11, scale=0.1, broken=broken) as homelab:
        homelab.stack["spec"]["layers"] += [_behind(layer) for layer in WITHOUT]
        since = homelab.plane.audit_offset()
        homelab.apply()
        installing = _moment(homelab, INSTALLING)
        homelab.simulator.break_(f"{ADDRESS},{DATABASES}")
        without = _moment(homelab, WITHOUT)
        homelab.simulator.break_("")
        ready = homelab.wait_ready(timeout=PATIENCE)
        false = falseready.judge(homelab.evidence(ready, since))
        releases = len(outside.deployed_releases(homelab.plane.api))
        yield Story(graph(ready), installing, without, ready, releases, false)


def _behind(layer: str) -> dict[str, Any]:
    metadata = {"name": f"behind-{layer}", "namespace": "default"}
    manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}
    return {"name": f"behind-{layer}", "dependsOn": [layer], "manifests": [manifest]}


def _moment(homelab: Homelab, wanted: Mapping[str, Blockers]) -> Moment:
    """How things stand once these layers wait for exactly these objects, and after another look at everything."""
    api = homelab.plane.api
    for layer, blockers in wanted.items():

        def held(found: Any, blockers: Blockers = blockers) -> bool:
            blocking = ((found or {}).get("status") or {}).get("blocking") or ()
            return {(one.get("kind"), one.get("name")) for one in blocking} == blockers

        api.wait(f"{LAYERS}/{homelab.name}.{layer}", held, timeout=PATIENCE)
    homelab.reconcile()
    records = api.get("/api/v1/secrets?labelSelector=owner%3Dhelm")["items"]
    return Moment(
        layers={one["metadata"]["name"].partition(".")[2]: one["status"] for one in api.get(LAYERS)["items"]},
        summary=api.get(homelab.path)["status"]["summary"],
        begun=frozenset(outside.inventories(api, homelab.name)),
        releases=frozenset((one["metadata"]["namespace"], one["metadata"]["labels"]["name"]) for one in records),
    )


def _said(status: Mapping[str, Any], kind: str) -> set[str]:
    """What a layer says of its objects of a kind."""
    return {one["message"] for one in status["blocking"] if one["kind"] == kind}


def _not_ready(status: Mapping[str, Any]) -> bool:
    ready = next(one for one in status["conditions"] if one["type"] == "Ready")
    return bool(status["phase"] == "Progressing" and ready["status"] != "True")


def test_a_subscription_whose_csv_is_being_installed_holds_its_layer_and_all_behind_it(story: Story) -> None:
    moment = story.installing
    operators = moment.layers["operators"]
    assert _not_ready(operators)
    (said,) = _said(operators, "Subscription")
    assert said.startswith("ClusterServiceVersion keycloak/keycloak-operator.v1.0.0: phase is Installing")
    assert operators["objects"]["ready"] == operators["objects"]["total"] - 1
    behind = descendants(story.graph, "operators")
    assert len(behind) == 8 + len(WITHOUT)
    assert {moment.layers[name]["phase"] for name in behind} == {"Waiting"}
    assert all("phase is Installing" in moment.layers[name]["waitingOn"][0]["message"] for name in behind)
    assert not behind & moment.begun
    assert moment.summary["message"].startswith("operators: waiting for Subscription keycloak/keycloak-operator")


def test_a_gateway_without_an_address_holds_its_layer(story: Story) -> None:
    moment = story.without
    assert _not_ready(moment.layers["network"])
    assert _said(moment.layers["network"], "Gateway") == {"No addresses have been assigned to the Gateway"}
    _held_behind(moment, "network", "No addresses have been assigned to the Gateway")


@pytest.mark.parametrize("layer", ["security", "dev-platform"])
def test_a_database_that_is_initialising_holds_its_layer(story: Story, layer: str) -> None:
    moment = story.without
    assert _not_ready(moment.layers[layer])
    assert _said(moment.layers[layer], "PerconaPGCluster") == {"state is initializing"}
    _held_behind(moment, layer, "state is initializing")


def _held_behind(moment: Moment, layer: str, words: str) -> None:
    """The layer that depends on this one waits, says why in the object's words, and has applied nothing."""
    behind = moment.layers[f"behind-{layer}"]
    assert behind["phase"] == "Waiting"
    assert behind["waitingOn"][0]["layer"] == layer
    assert words in behind["waitingOn"][0]["message"]
    assert f"behind-{layer}" not in moment.begun


def test_releases_that_need_a_database_are_not_installed_before_it_is_ready(story: Story) -> None:
    assert {("coder", "coder-db"), ("temporal", "temporal-db")} <= story.without.releases
    assert not {("coder", "coder"), ("temporal", "temporal")} & story.without.releases
    said = _said(story.without.layers["dev-platform"], "HelmRelease")
    assert said == {"waiting for release coder/coder-db", "waiting for release temporal/temporal-db"}


def test_all_become_ready_once_nothing_is_held_and_none_was_called_so_before(story: Story) -> None:
    assert story.ready["status"]["summary"]["layers"] == f"{len(story.graph)}/{len(story.graph)}"
    assert story.releases == 36
    assert story.false == []
