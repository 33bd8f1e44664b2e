"""The homelab comes up from empty, unattended, and stays as it is: one run, and what it shows.

S1 to S10 are the defects of the repository itself, which the operator has to survive or to report.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from testbed import falseready, outside
from testbed.gitrepo import GitRepository
from testbed.homelab import location
from testbed.outside import USER_AGENT, Item

from .homelab_run import BESIDE, Run, bring_up

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.homelab,
    pytest.mark.timeout(900),
    pytest.mark.xdist_group("homelab"),
    pytest.mark.skipif(location() is None, reason="there is no homelab data set; HOMELAB= names its folder"),
]
ADMISSION = "/apis/admissionregistration.k8s.io/v1"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """The whole run, up to all layers Ready."""
    with bring_up(tmp_path_factory.mktemp("homelab")) as run:
        yield run


def test_all_thirteen_layers_become_ready_unattended(run: Run) -> None:
    assert run.stack["status"]["summary"]["layers"] == "13/13"
    phases = {name: run.layer(name)["phase"] for name in outside.graph(run.stack)}
    assert phases == dict.fromkeys(outside.graph(run.stack), "Ready")
    assert sum(len(owned) for owned in run.inventories.values()) > 900


def test_helm_itself_sees_36_deployed_releases(run: Run) -> None:
    found = [one for one in run.helm("ls", "-A", "--output", "json") if one["name"] != "runner"]
    assert Counter((one["status"], one["revision"]) for one in found) == {("deployed", "1"): 36}


def test_no_layer_was_called_ready_too_early(run: Run) -> None:
    evidence = run.homelab.evidence(run.stack, run.since)
    first = {write.layer for write in falseready.ready_writes(evidence.events, stack="home")}
    played = {entry["name"] for entry in evidence.journal if entry["state"] == "healthy"}
    assert first == set(outside.graph(run.stack))
    assert len(played & {item.name for items in evidence.inventories.values() for item in items}) > 300
    assert falseready.judge(evidence) == []


def test_nothing_on_the_way_was_called_a_failure(run: Run) -> None:
    assert {status.get("phase") for _, status in run.statuses} >= {"Waiting", "Progressing", "Ready"}
    failures = [(name, status["message"]) for name, status in run.statuses if status.get("phase") == "Failed"]
    assert failures == []


def test_every_webhook_of_the_charts_is_on_and_was_not_softened(run: Run) -> None:
    found = [
        hook
        for kind in ("mutatingwebhookconfigurations", "validatingwebhookconfigurations")
        for one in run.api.get(f"{ADMISSION}/{kind}")["items"]
        if not one["metadata"]["name"].startswith("simulator")
        for hook in one.get("webhooks") or ()
    ]
    assert len(found) >= 61
    assert Counter(hook["failurePolicy"] for hook in found)["Fail"] > 40


def test_s1_objects_beside_the_release_that_brings_their_kind_wait_for_it_alone(run: Run) -> None:
    waited = run.blocked("base")
    assert {("ClusterIssuer", "KindNotServed"), ("ClusterSecretStore", "KindNotServed")} & waited
    assert any(reason == "KindNotServed" for kind, reason in run.blocked("observability") if kind.startswith("VM"))
    objects = run.layer("base")["objects"]
    assert objects["ready"] == objects["total"] > 200


@pytest.mark.parametrize("name", ["olm", "operators"])
def test_s2_a_namespace_in_two_layers_has_one_owner_and_the_fields_of_both(run: Run, name: str) -> None:
    namespace = run.api.get(f"/api/v1/namespaces/{name}")["metadata"]
    assert namespace["labels"]["clusterstack.dev/layer"] == "namespaces"
    assert namespace["labels"]["pod-security.kubernetes.io/enforce"] == "privileged"
    assert "/home/namespaces/" in namespace["annotations"]["clusterstack.dev/owner"]
    managers = [
        entry["manager"] for entry in namespace["managedFields"] if entry["manager"] != "kube-controller-manager"
    ]
    assert managers == ["clusterstack"]
    assert _writes_of(run, "namespaces", name) == 1
    assert [warning for warning in run.layer("base")["warnings"] if f"Namespace {name} " in warning]
    claimed = [layer for layer, owned in run.inventories.items() if Item("", "Namespace", "", name) in _items(owned)]
    assert claimed == ["namespaces"]


def test_s3_a_layer_that_does_not_name_what_it_needs_waits_with_that_object_alone(run: Run) -> None:
    assert outside.graph(run.stack)["routes"] == ("crds",)
    written = {one.item.kind: _first_write(run, one.item) for one in run.inventories["routes"]}
    definition = _first_write(run, Item("apiextensions.k8s.io", "", "", "externalsecrets.external-secrets.io"))
    assert written["HTTPRoute"] < definition < written["ExternalSecret"]


@pytest.mark.parametrize(
    ("layer", "kind", "package"),
    [
        ("security", "Keycloak", "keycloak-operator"),
        ("messaging", "RabbitmqCluster", "rabbitmq-cluster-operator"),
        ("dev-platform", "Kaoto", "kaoto-operator"),
    ],
)
def test_s4_kinds_that_an_operator_installs_later_are_waited_for(run: Run, layer: str, kind: str, package: str) -> None:
    item = next(one.item for one in run.inventories[layer] if one.item.kind == kind)
    brought = [entry for entry in run.homelab.entries() if entry["kind"] == "CustomResourceDefinition"]
    definition = min(entry["time"] for entry in brought if entry["name"].endswith(f".{item.group}"))
    assert definition[:19] <= _first_write(run, item)[:19]
    said = [one["message"] for _, one in run.blockers("operators") if one.get("name") == package]
    assert any("ClusterServiceVersion" in message or "CatalogSource" in message for message in said), said


def test_s6_a_chart_that_looks_something_up_is_rendered_when_it_is_there(run: Run) -> None:
    name = f"{BESIDE}.runners"
    blocking = [one for who, status in run.statuses if who == name for one in status.get("blocking") or ()]
    assert any("no controller deployment is found" in one["message"] for one in blocking)
    found = run.api.get("/api/v1/namespaces/default/configmaps/runner")["data"]["controller"]
    deployments = run.api.get("/apis/apps/v1/namespaces/arc-systems/deployments")["items"]
    assert found in [one["spec"]["template"]["spec"]["serviceAccountName"] for one in deployments]


def test_s7_what_controllers_fill_in_is_not_fought_over(run: Run) -> None:
    bundles = [
        (kind, one["metadata"]["name"])
        for kind in ("mutatingwebhookconfigurations", "validatingwebhookconfigurations")
        for one in run.api.get(f"{ADMISSION}/{kind}")["items"]
        if one["metadata"].get("annotations", {}).get("clusterstack.dev/owner")
        and any(hook["clientConfig"].get("caBundle") for hook in one["webhooks"])
    ]
    assert len(bundles) > 5
    assert {_writes_of(run, kind, name) for kind, name in bundles} == {1}
    certificates = run.api.get("/api/v1/namespaces/knative-operator/secrets/operator-webhook-certs")
    assert _writes_of(run, "secrets", "operator-webhook-certs") == 1
    assert certificates["metadata"]["labels"]["clusterstack.dev/stack"] == "home"
    assert {name: run.layer(name).get("drift", {}).get("count", 0) for name in outside.graph(run.stack)} == (
        dict.fromkeys(outside.graph(run.stack), 0)
    )


def test_s8_daemon_sets_that_no_node_wants_are_healthy(run: Run) -> None:
    found = run.api.get("/apis/apps/v1/daemonsets")["items"]
    unwanted = {one["metadata"]["name"] for one in found if one["status"]["desiredNumberScheduled"] == 0}
    owned = {one.item.name for items in run.inventories.values() for one in items if one.item.kind == "DaemonSet"}
    assert unwanted & owned


def test_s9_no_schema_is_ever_asked_for_to_validate_on_our_side(run: Run) -> None:
    asked = [
        event["requestURI"]
        for event in run.homelab.plane.audit(run.since)
        if event.get("userAgent", "").startswith(USER_AGENT) and "/openapi" in event["requestURI"]
    ]
    assert asked == []


def test_s10_objects_of_releases_in_other_namespaces_are_in_the_inventory(run: Run) -> None:
    elsewhere = {
        (one.unit, one.item.namespace)
        for owned in run.inventories.values()
        for one in owned
        if one.unit and one.item.namespace not in ("", one.unit.partition("/")[0])
    }
    assert {namespace for _, namespace in elsewhere} >= {"kube-system", "default"}
    names = Counter(
        (one.item.kind, one.item.name)
        for owned in run.inventories.values()
        for one in owned
        if one.item.kind in ("Secret", "ExternalSecret")
    )
    assert [one for one, count in names.items() if count > 1], "the same Secret in two namespaces: two entries"


def test_a_second_pass_writes_nothing(run: Run) -> None:
    since = run.settle()
    run.homelab.reconcile()
    assert run.after(since) == []


@pytest.mark.parametrize("lose_cache", [False, True], ids=["with its cache", "without its cache"])
def test_a_restart_writes_nothing_and_random_values_stay(run: Run, lose_cache: bool) -> None:
    since, versions = run.settle(), run.versions()
    password = run.api.get("/api/v1/namespaces/vmks/secrets/vmks-grafana")["data"]["admin-password"]
    run.homelab.restart(lose_cache=lose_cache)
    run.homelab.reconcile()
    run.homelab.wait_ready(timeout=120)
    assert run.after(since) == []
    assert run.versions() == versions
    again = run.api.get("/api/v1/namespaces/vmks/secrets/vmks-grafana")["data"]["admin-password"]
    assert base64.b64decode(again)
    assert again == password


def test_a_commit_that_changes_one_layer_writes_only_that_layer(run: Run) -> None:
    since = run.settle()
    repository = GitRepository(run.homelab.git, branch="master").adopt()
    path = "network/metallb-l2.yaml"
    changed = repository.read(path).replace("enp12s0", "enp13s0")
    commit = repository.commit("Another interface", {path: changed})
    _await_revision(run, commit)
    objects, own = _sorted(run.after(since))
    assert objects == {"patch l2advertisements metallb-system/willingham-private-ip-l2-advertisement-custom-pc"}
    assert own <= {
        "patch configmaps clusterstack/clusterstack.home.network.0",
        "patch stacklayers/status /home.network",
        "patch clusterstacks/status /home",
    }


def test_a_broken_commit_leaves_the_others_ready_and_heals_with_the_next(run: Run) -> None:
    since = run.settle()
    repository = GitRepository(run.homelab.git, branch="master").adopt()
    path, commit = "network/metallb-l2.yaml", repository.commit
    good = repository.read(path)
    commit("Broken", {path: good.replace("spec:\n", "spec: {\n", 1)})
    run.homelab.reconcile()
    layer = f"{outside.LAYERS}/home.network"
    broken = run.api.wait(layer, lambda found: found["status"]["phase"] == "Failed", timeout=60)["status"]
    assert "metallb-l2.yaml" in broken["message"]
    assert "line " in broken["message"]
    phases = Counter(run.layer(name)["phase"] for name in outside.graph(run.stack))
    assert phases == {"Ready": 12, "Failed": 1}
    commit("Healed", {path: good})
    run.homelab.reconcile()
    run.homelab.wait_ready(timeout=60)
    objects, own = _sorted(run.after(since))
    assert objects == set()
    assert {line for line in own if "stacklayers" in line} == {"patch stacklayers/status /home.network"}


def test_no_later_ready_was_false_either(run: Run) -> None:
    assert falseready.judge(run.homelab.evidence(run.stack, run.since)) == []


def _sorted(written: list[str]) -> tuple[set[str], set[str]]:
    """Writes of objects, and those of what is the operator's own; Events are left out, for they go with statuses."""
    own = {line for line in written if " clusterstack/" in line or "stacklayers" in line or "clusterstacks" in line}
    events = {line for line in written if line.split()[1] == "events"}
    return set(written) - own - events, own - events


def _await_revision(run: Run, commit: str) -> None:
    run.homelab.reconcile()

    def arrived(found: Any) -> bool:
        status = found["status"]
        return bool(status["phase"] == "Ready" and status["summary"]["revision"].endswith(commit[:7]))

    run.api.wait(run.homelab.path, arrived, timeout=90)


def _items(owned: list[outside.Owned]) -> set[Item]:
    return {one.item for one in owned}


def _writes_of(run: Run, resource: str, name: str) -> int:
    """How often the operator wrote an object."""
    return sum(
        1
        for event in run.homelab.plane.writes(run.since, user_agent=USER_AGENT)
        if (event["objectRef"].get("resource"), event["objectRef"].get("name")) == (resource, name)
    )


def _first_write(run: Run, item: Item) -> str:
    """When the operator first wrote this object; kinds of one group may not share a name."""
    wanted = (item.group, item.namespace, item.name)
    return min(
        str(event["requestReceivedTimestamp"])
        for event in run.homelab.plane.writes(run.since, user_agent=USER_AGENT)
        for ref in [event["objectRef"]]
        if (ref.get("apiGroup", ""), ref.get("namespace", ""), ref.get("name")) == wanted
    )
