"""What a release puts into the cluster: CRDs, subcharts, upgrades that drop objects, conflicts, time-outs, the end."""

from __future__ import annotations

from typing import Any

import pytest

from testbed.chartserver import ChartServer, chart

from .bed import Bed, Manifest, config_map, release, unique

pytestmark = pytest.mark.e2e

PAGES = """
{{- range $name, $text := .Values.pages }}
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ $name }}
  {{- if hasPrefix "kept" $name }}
  annotations: {helm.sh/resource-policy: keep}
  {{- end }}
data: {text: {{ $text | quote }}}
{{- end }}
"""
DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: "{{ .Release.Name }}"}
spec:
  replicas: 1
  selector: {matchLabels: {app: "{{ .Release.Name }}"}}
  template:
    metadata: {labels: {app: "{{ .Release.Name }}"}}
    spec:
      {{- with .Values.gate }}
      nodeSelector: { {{ . | quote }}: open }
      {{- end }}
      containers: [{name: main, image: registry.example.com/app}]
"""
PAGE = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: page}\n"
SUBCHART = {
    "templates/page.yaml": PAGE,
    "charts/cache/Chart.yaml": "apiVersion: v2\nname: cache\nversion: 0.1.0\n",
    "charts/cache/values.yaml": "size: small\n",
    "charts/cache/templates/page.yaml": """
apiVersion: v1
kind: ConfigMap
metadata: {name: "{{ .Release.Name }}-cache"}
data: {size: "{{ .Values.size }}", site: "{{ .Values.global.site }}"}
""",
    "values.yaml": "global: {site: here}\ncache: {enabled: true}\n",
}


def crd(plural: str, kind: str, group: str) -> str:
    return f"""
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {{name: {plural}.{group}}}
spec:
  group: {group}
  scope: Namespaced
  names: {{kind: {kind}, plural: {plural}, singular: {kind.lower()}}}
  versions:
    - name: v1
      served: true
      storage: true
      schema: {{openAPIV3Schema: {{type: object, x-kubernetes-preserve-unknown-fields: true}}}}
"""


def custom(kind: str, group: str) -> str:
    return f"apiVersion: {group}/v1\nkind: {kind}\nmetadata: {{name: mine}}\nspec: {{size: {{{{ .Values.size }}}}}}\n"


@pytest.fixture
def ns(bed: Bed) -> str:
    """A namespace; the charts `pages`, `web` and `parent` are published."""
    bed.charts.publish(
        chart("pages", "1.0.0", {"templates/pages.yaml": PAGES, "values.yaml": "pages: {}\n"}),
        chart("web", "1.0.0", {"templates/web.yaml": DEPLOYMENT, "values.yaml": "gate: ''\n"}),
        chart("parent", "1.0.0", SUBCHART, dependencies=[{"name": "cache", "condition": "cache.enabled"}]),
    )
    return bed.namespace()


def pages(bed: Bed, ns: str, texts: dict[str, str], **fields: Any) -> list[Manifest]:
    return [release(bed, "pages", ns, values={"pages": texts}, **fields)]


def page_path(ns: str, name: str) -> str:
    return f"/api/v1/namespaces/{ns}/configmaps/{name}"


def open_gate(bed: Bed, gate: str) -> None:
    patch = {"metadata": {"labels": {gate: "open"}}}
    bed.api.request("PATCH", "/api/v1/nodes/node-0", patch, content_type="application/merge-patch+json")


def test_a_chart_with_crds_of_both_sorts_and_objects_of_their_kinds(bed: Bed, ns: str) -> None:
    group = f"{unique('g')}.example.com"
    files = {
        "crds/widget.yaml": crd("widgets", "Widget", group),
        "templates/crd.yaml": crd("gadgets", "Gadget", group),
        "templates/widget.yaml": custom("Widget", group),
        "templates/gadget.yaml": custom("Gadget", group),
        "values.yaml": "size: 3\n",
    }
    bed.charts.publish(chart("kinds", "1.0.0", files), chart("kinds", "2.0.0", {"templates/page.yaml": PAGE}))
    stack = bed.stack({"name": "app", "charts": [release(bed, "kinds", ns, version="1.0.0")]})
    stack.ready()
    for plural in ("widgets", "gadgets"):
        assert bed.api.get(f"/apis/{group}/v1/namespaces/{ns}/{plural}/mine")["spec"] == {"size": 3}
    stack.edit("app", charts=[release(bed, "kinds", ns, version="2.0.0")])
    for plural in ("widgets", "gadgets"):
        bed.until(f"/apis/{group}/v1/namespaces/{ns}/{plural}/mine", lambda found: found is None)
    stack.ready()
    stack.reconcile()
    for plural in ("widgets", "gadgets"):
        assert bed.api.find(f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{plural}.{group}") is not None


def test_a_subchart_gets_its_own_and_the_global_values(bed: Bed, ns: str) -> None:
    values = {"cache": {"size": "large"}}
    stack = bed.stack({"name": "app", "charts": [release(bed, "parent", ns, values=values)]})
    stack.ready()
    assert bed.api.get(page_path(ns, "parent-cache"))["data"] == {"size": "large", "site": "here"}
    stack.edit("app", charts=[release(bed, "parent", ns, values={"cache": {"enabled": False}})])
    bed.until(page_path(ns, "parent-cache"), lambda found: found is None)


def test_an_upgrade_deletes_what_it_drops_but_not_what_is_kept_adopted_or_claimed_elsewhere(bed: Bed, ns: str) -> None:
    bed.api.create(f"/api/v1/namespaces/{ns}/configmaps", config_map("adopted", ns, text="theirs"))
    before = {"plain": "a", "kept-one": "b", "adopted": "c", "moved": "d", "stays": "e"}
    stack = bed.stack({"name": "app", "charts": pages(bed, ns, before)}, {"name": "other", "charts": []})
    stack.edit("other", manifests=[config_map("other", ns)])
    stack.ready()
    uid = bed.api.get(page_path(ns, "moved"))["metadata"]["uid"]
    stack.spec["layers"][1]["manifests"] = [config_map("moved", ns, text="f")]
    stack.edit("app", charts=pages(bed, ns, {"stays": "e"}))
    bed.until(page_path(ns, "plain"), lambda found: found is None)
    stack.ready()
    assert bed.api.get(page_path(ns, "kept-one"))["data"] == {"text": "b"}
    assert bed.api.get(page_path(ns, "adopted"))["data"] == {"text": "c"}
    moved = bed.api.get(page_path(ns, "moved"))
    assert (moved["metadata"]["uid"], moved["data"]) == (uid, {"text": "f"})
    bed.until_records(ns, "1 superseded", "2 deployed")


def test_a_manifest_and_a_release_that_want_one_object_are_a_conflict_with_both_named(bed: Bed, ns: str) -> None:
    stack = bed.stack(
        {"name": "base", "manifests": [config_map("both", ns, text="manifest")]},
        {"name": "app", "charts": pages(bed, ns, {"both": "release", "own": "x"})},
    )
    stack.phase("base", "Ready")
    status = stack.phase("app", "Failed", says="both")
    assert "release" in status["message"]
    assert "layer base" in status["message"]
    assert bed.api.get(page_path(ns, "both"))["data"] == {"text": "manifest"}
    stack.edit("base", manifests=[config_map("another", ns)])
    stack.ready(timeout=15)
    assert bed.api.get(page_path(ns, "both"))["data"] == {"text": "release"}


def test_a_manifest_that_takes_an_object_from_a_running_release_is_a_conflict_without_a_fight(
    bed: Bed, ns: str
) -> None:
    stack = bed.stack(
        {"name": "base", "manifests": [config_map("base", ns)]},
        {"name": "app", "charts": pages(bed, ns, {"both": "release", "own": "x"})},
    )
    stack.ready()
    stack.edit("base", manifests=[config_map("both", ns, text="manifest")])
    stack.phase("base", "Ready")
    stack.phase("app", "Failed", says="both")
    since = bed.plane.audit_offset()
    stack.reconcile()
    assert [line for line in bed.writes(since) if "/both" in line] == []
    assert bed.api.get(page_path(ns, "both"))["data"] == {"text": "manifest"}


def test_two_releases_that_want_one_object_leave_it_to_the_first_and_say_so(bed: Bed, ns: str) -> None:
    charts = [*pages(bed, ns, {"both": "one"}, name="one"), *pages(bed, ns, {"both": "two"}, name="two")]
    stack = bed.stack({"name": "app", "charts": charts})
    stack.ready()
    status = bed.until(stack.layer_path("app"), lambda found: "both" in str(found["status"].get("warnings")))["status"]
    (warning,) = status["warnings"]
    owner = str(bed.api.get(page_path(ns, "both"))["data"]["text"])
    assert f"release {ns}/{owner}" in warning
    assert stack.untouched(bed.plane.audit_offset()) == []
    since = bed.plane.audit_offset()
    bed.restart()
    assert stack.untouched(since) == []
    rest = [one for one in charts if one["name"] != owner]
    stack.edit("app", charts=rest)
    bed.until(page_path(ns, "both"), lambda found: found is not None and found["data"]["text"] == rest[0]["name"])


def test_a_release_waits_for_those_it_depends_on(bed: Bed, ns: str) -> None:
    gate = f"gate.example.com/{ns}"
    charts = [
        release(bed, "web", ns, values={"gate": gate}),
        *pages(bed, ns, {"after": "x"}, dependsOn=[{"name": "web"}]),
    ]
    stack = bed.stack({"name": "app", "charts": charts})
    bed.until(f"/apis/apps/v1/namespaces/{ns}/deployments/web", bool)
    status = bed.until(stack.layer_path("app"), lambda found: f"release {ns}/web" in str(found["status"]))
    assert status["status"]["phase"] == "Progressing"
    assert bed.records(ns, "pages") == []
    bed.restart(crash=True)
    assert bed.records(ns, "web") == ["1 pending-install"]
    open_gate(bed, gate)
    stack.ready()
    assert bed.records(ns) == ["1 deployed", "1 deployed"]


def test_a_release_that_two_layers_declare_stays_with_the_first_and_the_second_says_so(bed: Bed, ns: str) -> None:
    stack = bed.stack(
        {"name": "one", "charts": pages(bed, ns, {"one": "x"})},
        {"name": "two", "charts": pages(bed, ns, {"two": "y"}), "manifests": [config_map("three", ns)]},
    )
    stack.phase("one", "Ready")
    assert "layer one" in stack.phase("two", "Failed", says="pages")["message"]
    bed.until(page_path(ns, "three"), bool)
    assert bed.api.find(page_path(ns, "two")) is None


def test_an_account_without_rights_is_told_which_it_lacks_and_heals_with_them(bed: Bed, ns: str) -> None:
    account = {"name": "deployer", "namespace": ns}
    stack = bed.stack({"name": "app", "charts": pages(bed, ns, {"one": "x"})}, serviceAccount=account)
    message = stack.phase("app", "Failed", says="cannot")["message"]
    assert "secrets" in message
    assert f"system:serviceaccount:{ns}:deployer" in message
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "deployer", "namespace": ns},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "admin"},
        "subjects": [{"kind": "ServiceAccount", **account}],
    }
    bed.api.create(f"/apis/rbac.authorization.k8s.io/v1/namespaces/{ns}/rolebindings", binding)
    stack.ready()


def test_a_chart_repository_that_is_gone_with_the_cache_leaves_the_release_as_it_is(bed: Bed, ns: str) -> None:
    pack = chart("own", "1.0.0", {"templates/page.yaml": PAGE})
    with ChartServer() as server:
        server.publish(pack)
        one = {"name": "own", "namespace": ns, "repo": server.url, "chart": "own"}
        stack = bed.stack({"name": "app", "charts": [one]})
        stack.ready()
    bed.restart(lose_cache=True)
    stack.phase("app", "Failed", says="own")
    bed.api.delete(page_path(ns, "page"))
    bed.until(page_path(ns, "page"), bool)  # what is deployed is still kept
    with ChartServer(port=server.port) as server:
        server.publish(pack)
        stack.ready()
    assert bed.records(ns) == ["1 deployed"]


def test_a_release_that_times_out_says_so_in_its_record_and_recovers(bed: Bed, ns: str) -> None:
    gate = f"gate.example.com/{ns}"
    charts = [release(bed, "web", ns, values={"gate": gate}, timeout="2s"), *pages(bed, ns, {"neighbour": "x"})]
    stack = bed.stack({"name": "app", "charts": charts})
    stack.phase("app", "Failed", says="timed out after 2s")
    assert "Deployment" in stack.layer("app")["message"]
    bed.until(page_path(ns, "neighbour"), bool)
    assert bed.records(ns, "web") == ["1 failed"]
    bed.restart()
    assert bed.records(ns, "web") == ["1 failed"]
    open_gate(bed, gate)
    stack.ready()
    assert bed.records(ns, "web") == ["1 deployed"]


def test_a_release_makes_the_namespace_it_asks_for_and_takes_it_away_with_the_stack(bed: Bed, ns: str) -> None:
    name = unique("made")
    charts = pages(bed, name, {"one": "x"}, createNamespace=True)
    stack = bed.stack({"name": "app", "charts": charts}, deletionPolicy="Delete")
    stack.ready()
    assert bed.records(name) == ["1 deployed"]
    stack.delete()
    bed.until(f"/api/v1/namespaces/{name}", lambda found: found is None)


def test_without_createNamespace_a_release_waits_for_its_namespace(bed: Bed, ns: str) -> None:  # noqa: N802
    name = unique("later")
    stack = bed.stack({"name": "app", "charts": pages(bed, name, {"one": "x"})})
    stack.phase("app", "Progressing", says=f"Namespace {name}")
    bed.api.create("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    stack.ready(timeout=10)


def test_a_suspended_release_is_left_as_it_is(bed: Bed, ns: str) -> None:
    stack = bed.stack({"name": "app", "charts": pages(bed, ns, {"one": "x"})})
    stack.ready()
    stack.edit("app", charts=pages(bed, ns, {"two": "y"}, suspend=True))
    stack.ready()
    stack.reconcile()
    assert bed.api.find(page_path(ns, "one")) is not None
    assert bed.api.find(page_path(ns, "two")) is None
    stack.edit("app", charts=pages(bed, ns, {"two": "y"}))
    bed.until(page_path(ns, "one"), lambda found: found is None)
    stack.ready()


def test_a_removed_layer_takes_its_release_and_record_with_it(bed: Bed, ns: str) -> None:
    stack = bed.stack(
        {"name": "base", "manifests": [config_map("base", ns)]}, {"name": "app", "charts": pages(bed, ns, {"one": "x"})}
    )
    stack.ready()
    stack.apply(layers=stack.spec["layers"][:1])
    bed.until(page_path(ns, "one"), lambda found: found is None)
    bed.until(f"/api/v1/namespaces/{ns}/secrets/sh.helm.release.v1.pages.v1", lambda found: found is None)
    stack.ready()
    assert bed.api.find(page_path(ns, "base")) is not None
    assert bed.api.find(stack.layer_path("app")) is None


def test_a_release_moved_to_another_layer_is_not_touched(bed: Bed, ns: str) -> None:
    charts = pages(bed, ns, {"one": "x"})
    stack = bed.stack(
        {"name": "first", "charts": charts, "manifests": [config_map("a", ns)]},
        {"name": "second", "manifests": [config_map("b", ns)]},
    )
    stack.ready()
    uid = bed.api.get(page_path(ns, "one"))["metadata"]["uid"]
    del stack.spec["layers"][0]["charts"]
    stack.edit("second", charts=charts)
    bed.until(page_path(ns, "one"), lambda found: found["metadata"]["labels"]["clusterstack.dev/layer"] == "second")
    stack.ready()
    stack.reconcile()
    assert bed.api.get(page_path(ns, "one"))["metadata"]["uid"] == uid
    assert bed.records(ns) == ["1 deployed"]


@pytest.mark.parametrize("policy", ["Delete", "Orphan"])
def test_the_end_of_the_stack_takes_everything_with_it_or_nothing(bed: Bed, ns: str, policy: str) -> None:
    stack = bed.stack(
        {"name": "base", "manifests": [config_map("base", ns)]},
        {
            "name": "app",
            "dependsOn": ["base"],
            "charts": [*pages(bed, ns, {"one": "x", "kept-two": "y"}), release(bed, "web", ns)],
        },
        deletionPolicy=policy,
    )
    stack.ready()
    stack.delete()
    left = {name: bed.api.find(page_path(ns, name)) is not None for name in ("base", "one")} | {
        "web": bed.api.find(f"/apis/apps/v1/namespaces/{ns}/deployments/web") is not None
    }
    stay = policy == "Orphan"
    assert left == dict.fromkeys(("base", "one", "web"), stay)
    assert bed.records(ns) == (["1 deployed", "1 deployed"] if stay else [])
    inventories = bed.api.get("/api/v1/namespaces/clusterstack/configmaps")["items"]
    assert any(f".{stack.name}." in item["metadata"]["name"] for item in inventories) is stay
