"""Users' own health rules: of a layer, of a stack, of the whole cluster; and what is said of those that are wrong.

Each test has a kind of its own, so that no rule of one test is about the objects of another.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from testbed.chartserver import chart
from testbed.gitrepo import GitRepository

from .bed import NAMESPACE, Bed, Manifest, Stack, condition, config_map, unique
from .objects import CRDS, crd, custom, source, text
from .test_stack_flux import helm, kustomization, repository

pytestmark = pytest.mark.e2e

RULES = f"/api/v1/namespaces/{NAMESPACE}/configmaps/clusterstack-health"
UP = "has(status.phase) && status.phase == 'Up'"
WRONG = "status.phase ==== 'Up'"
POSITION = "line 1, column 16"


class Kind:
    """A kind that reports a status, and a place for its objects."""

    def __init__(self, bed: Bed) -> None:
        self.bed, self.place, self.group = bed, bed.namespace(), f"{unique('rules')}.example.org"
        definition = crd("Widget", self.group)
        definition["spec"]["versions"][0]["subresources"] = {"status": {}}
        path = f"{CRDS}/{definition['metadata']['name']}"
        bed.api.apply(path, definition)
        bed.until(path, lambda found: condition(found, "Established").get("status") == "True")

    def widget(self, name: str = "one", **annotations: str) -> Manifest:
        made = custom("Widget", self.group, name, self.place, spec={"size": 1})
        made["metadata"]["annotations"] = annotations
        return made

    def rule(self, current: str = UP, **expressions: str) -> Manifest:
        """A rule for the kind in Flux's shape."""
        return {"apiVersion": f"{self.group}/v1", "kind": "Widget", "current": current, **expressions}

    def path(self, name: str = "one") -> str:
        return f"/apis/{self.group}/v1/namespaces/{self.place}/widgets/{name}"

    def report(self, name: str = "one", **status: Any) -> None:
        """Be the controller: write the status of an object, once the object is there."""
        self.bed.until(self.path(name), lambda found: found is not None)
        self.patch(f"{self.path(name)}/status", {"status": status})

    def annotate(self, value: str | None, name: str = "one") -> None:
        self.patch(self.path(name), {"metadata": {"annotations": {"clusterstack.dev/health": value}}})

    def patch(self, path: str, change: Manifest) -> None:
        self.bed.api.request("PATCH", path, change, content_type="application/merge-patch+json")

    def written(self, since: int) -> list[str]:
        """What the operator wrote to objects of the kind."""
        return [line for line in self.bed.writes(since) if " widgets" in line]


@pytest.fixture
def kind(bed: Bed) -> Kind:
    return Kind(bed)


@pytest.fixture
def cluster_rules(bed: Bed) -> Iterator[None]:
    """The test writes cluster-wide rules, which are gone in the end."""
    yield
    if bed.api.find(RULES) is not None:
        bed.api.delete(RULES)


def publish(bed: Bed, **texts: str) -> None:
    """Write the ConfigMap of the cluster-wide rules."""
    bed.api.apply(RULES, config_map("clusterstack-health", NAMESPACE, **texts), manager="test")


def yaml_rule(kind: Kind, current: str = UP) -> str:
    """A rule in our own shape, in one line."""
    return f'- {{for: [{kind.group}/Widget], current: "{current}"}}\n'


def says(stack: Stack, kind: str, reason: str, *texts: str) -> Manifest:
    """Wait until a condition of the stack has this reason and these texts."""

    def holds(found: Any) -> bool:
        one = condition(found, kind)
        return one.get("reason") == reason and all(part in one["message"] for part in texts)

    return condition(stack.bed.until(stack.path, holds), kind)


def test_a_layers_rule_decides_and_speaks(bed: Bed, kind: Kind) -> None:
    rule = kind.rule(
        degraded="has(status.phase) && status.phase == 'Sick'",
        suspended="has(spec.paused) && spec.paused",
        message="'the widget is ' + status.phase",
    )
    stack = bed.stack({"name": "app", "manifests": [kind.widget()], "health": {"expressions": [rule]}})
    kind.report(phase="Starting", conditions=[{"type": "Ready", "status": "True"}])
    stack.phase("app", "Progressing", says="the widget is Starting")
    kind.report(phase="Sick")
    stack.phase("app", "Progressing", says="the widget is Sick")
    kind.report(phase="Up")
    stack.ready()
    kind.report(phase="Sick")
    stack.phase("app", "Progressing", says="the widget is Sick")
    stack.edit("app", manifests=[{**kind.widget(), "spec": {"size": 1, "paused": True}}])
    stack.ready()


def test_a_stacks_rule_holds_in_every_layer_and_a_layers_own_wins(bed: Bed, kind: Kind) -> None:
    other = {"apiVersion": "example.org/v1", "kind": "Other", "current": "true"}
    stack = bed.stack(
        {"name": "plain", "manifests": [kind.widget("plain")]},
        {"name": "busy", "manifests": [kind.widget("busy")], "health": {"expressions": [other]}},
        {"name": "own", "manifests": [kind.widget("own")], "health": {"expressions": [kind.rule("true")]}},
        defaults={"retryInterval": "1s", "timeout": "60s", "health": {"expressions": [kind.rule()]}},
    )
    stack.ready("own")
    for name in ("plain", "busy"):
        kind.report(name, phase="Half", conditions=[{"type": "Ready", "status": "True"}])
        stack.phase(name, "Progressing", says=f"{kind.place}/{name}")
    since = bed.plane.audit_offset()
    health = {"expressions": [kind.rule("has(status.phase) && status.phase == 'Half'")]}
    stack.apply(defaults={**stack.spec["defaults"], "health": health})
    stack.ready()
    assert kind.written(since) == []


def test_a_stacks_rule_counts_where_objects_are_judged_as_flux_judges_them(bed: Bed, kind: Kind) -> None:
    stack = bed.stack(
        {"name": "app", "manifests": [kind.widget()], "health": {"policy": "KStatus"}},
        defaults={"retryInterval": "1s", "timeout": "60s", "health": {"expressions": [kind.rule()]}},
    )
    kind.report(phase="Down")
    stack.phase("app", "Progressing")
    kind.report(phase="Up")
    stack.ready()


def test_a_stacks_rule_that_does_not_parse_is_named_and_what_runs_goes_on(bed: Bed, kind: Kind) -> None:
    stack = bed.stack({"name": "app", "manifests": [kind.widget()], "health": {"expressions": [kind.rule()]}})
    kind.report(phase="Up")
    stack.ready()
    good = dict(stack.spec["defaults"])
    stack.apply(defaults={**good, "health": {"expressions": [kind.rule(), kind.rule(failed=WRONG)]}})
    where = "spec.defaults.health.expressions[1].failed"
    says(stack, "Ready", "RuleInvalid", where, POSITION, WRONG)
    kind.report(phase="Down")
    stack.phase("app", "Progressing", says=kind.place)
    kind.report(phase="Up")
    stack.phase("app", "Ready")
    stack.apply(defaults=good)
    stack.ready()


@pytest.mark.usefixtures("cluster_rules")
def test_an_edit_of_the_clusters_rules_judges_anew_and_writes_nothing(bed: Bed, kind: Kind) -> None:
    after = {"name": "after", "dependsOn": ["app"], "manifests": [config_map("after", kind.place)]}
    stack = bed.stack({"name": "app", "manifests": [kind.widget()]}, after)
    kind.report(phase="Up", conditions=[{"type": "Ready", "status": "False", "message": "never"}])
    stack.phase("app", "Progressing", says="never")
    since = bed.plane.audit_offset()
    publish(bed, widgets=yaml_rule(kind))
    stack.ready()
    says(stack, "HealthRulesReady", "RulesLoaded", "1 rule", "clusterstack-health")
    publish(bed, widgets=yaml_rule(kind, "has(status.phase) && status.phase == 'Better'"))
    stack.phase("app", "Progressing", says=kind.place)
    publish(bed, widgets=yaml_rule(kind), more="")
    stack.ready()
    bed.api.delete(RULES)
    stack.phase("app", "Progressing", says="never")
    bed.until(stack.path, lambda found: condition(found, "HealthRulesReady") == {})
    assert kind.written(since) == []


@pytest.mark.usefixtures("cluster_rules")
def test_the_clusters_rules_open_the_gate_of_an_object_that_a_layer_requires(bed: Bed, kind: Kind) -> None:
    bed.api.apply(kind.path(), kind.widget())
    kind.report(phase="Up", conditions=[{"type": "Ready", "status": "False", "message": "never"}])
    needs = {"apiVersion": f"{kind.group}/v1", "kind": "Widget", "name": "one", "namespace": kind.place}
    stack = bed.stack({"name": "app", "manifests": [config_map("app", kind.place)], "requires": [needs]})
    stack.phase("app", "Waiting", says="never")
    publish(bed, widgets=yaml_rule(kind))
    stack.ready()


@pytest.mark.usefixtures("cluster_rules")
def test_a_wrong_rule_of_the_cluster_is_left_out_and_told_to_every_stack(bed: Bed, kind: Kind) -> None:
    stack = bed.stack({"name": "app", "manifests": [kind.widget()]})
    other = bed.stack({"name": "app", "manifests": [config_map("app", kind.place)]})
    kind.report(phase="Up", conditions=[{"type": "Ready", "status": "False"}])
    publish(bed, bad=yaml_rule(kind, "true") + yaml_rule(kind, WRONG), broken="[", good=yaml_rule(kind))
    for one in (stack, other):
        says(one, "HealthRulesReady", "RuleInvalid", "bad[1].current", POSITION, WRONG, "broken", "2 rules in force")
        one.ready()
    events = "/api/v1/namespaces/clusterstack/events?fieldSelector=involvedObject.name%3Dclusterstack-health"
    bed.until(events, lambda found: any("bad[1].current" in event.get("message", "") for event in found["items"]))
    publish(bed, bad="", broken="", good=yaml_rule(kind))
    for one in (stack, other):
        assert says(one, "HealthRulesReady", "RulesLoaded")["status"] == "True"


@pytest.mark.usefixtures("cluster_rules")
def test_a_restart_finds_the_clusters_rules_before_it_judges(bed: Bed, kind: Kind) -> None:
    publish(bed, widgets=yaml_rule(kind))
    stack = bed.stack({"name": "app", "manifests": [kind.widget()]})
    kind.report(phase="Up", conditions=[{"type": "Ready", "status": "False"}])
    stack.ready()
    last = f"/api/v1/namespaces/default/events?fieldSelector=involvedObject.name%3D{stack.name},reason%3DStackReady"
    bed.until(last, lambda found: found["items"])  # the Event comes right after the status that it tells of
    since = bed.plane.audit_offset()
    bed.restart()
    assert stack.untouched(since) == []


def test_a_layers_wrong_rule_is_named_its_neighbour_is_not_disturbed_and_mending_it_heals(bed: Bed, kind: Kind) -> None:
    rules = [kind.rule("true"), kind.rule(degraded=WRONG)]
    stack = bed.stack(
        {"name": "app", "manifests": [kind.widget()], "health": {"expressions": rules}},
        {"name": "beside", "manifests": [config_map("beside", kind.place)]},
    )
    stack.ready("beside")
    status = stack.phase("app", "Failed", says="health.expressions[1].degraded")
    assert condition({"status": status}, "Ready")["reason"] == "RuleInvalid"
    assert POSITION in status["message"]
    assert WRONG in status["message"]
    says(stack, "Ready", "LayerFailed", "app", "health.expressions[1].degraded", POSITION)
    assert bed.api.find(kind.path()) is None
    stack.edit("app", health={"expressions": rules[:1]})
    stack.ready()


@pytest.mark.parametrize(
    ("change", "where"),
    [({"current": WRONG}, "expressions[0].current"), ({"current": None}, "expressions[0].current")],
    ids=["syntax", "missing"],
)
def test_a_wrong_rule_in_a_flux_tree_breaks_its_own_layer_alone(
    bed: Bed, git: GitRepository, kind: Kind, change: Manifest, where: str
) -> None:
    rule = {key: value for key, value in {**kind.rule(), **change}.items() if value is not None}

    def tree(rule: Manifest) -> dict[str, str]:
        return {
            "flux/all.yaml": text(
                repository(git),
                kustomization("flux-system", "./flux"),
                kustomization("app", "./app", wait=True, healthCheckExprs=[rule]),
                kustomization("beside", "./beside", wait=True),
            ),
            "app/app.yaml": text(kind.widget()),
            "beside/beside.yaml": text(config_map("beside", kind.place)),
        }

    git.commit("Wrong", tree(rule))
    stack = Stack(bed, unique("s"), {"flux": {"path": "flux"}, "sources": source(git)})
    stack.apply()
    bed.stacks.append(stack)
    stack.ready("beside")
    status = stack.phase("app", "Failed", says=where)
    assert condition({"status": status}, "Ready")["reason"] == "RuleInvalid"
    git.commit("Right", tree(kind.rule()))
    kind.report(phase="Up")
    stack.ready("app", "beside")


def test_a_releases_wrong_rule_is_named_and_a_right_one_decides(bed: Bed, kind: Kind) -> None:
    name = unique("widget")
    bed.charts.publish(chart(name, "1.0.0", {"templates/widget.yaml": text(kind.widget())}))
    repo, release = helm(bed, kind.place, name)
    manifests = [repo, {**release, "spec": {**release["spec"], "healthCheckExprs": [kind.rule("true", failed=WRONG)]}}]
    stack = bed.stack(
        {"name": "app", "manifests": manifests}, {"name": "beside", "manifests": [config_map("beside", kind.place)]}
    )
    status = stack.phase("app", "Failed", says="healthCheckExprs[0].failed")
    assert f"{kind.place}/page" in status["message"]
    assert POSITION in status["message"]
    stack.ready("beside")
    release["spec"]["healthCheckExprs"] = [kind.rule()]
    stack.edit("app", manifests=[repo, release])
    kind.report(phase="Down", conditions=[{"type": "Ready", "status": "True"}])
    stack.phase("app", "Progressing", says=f"Widget {kind.place}/one")
    kind.report(phase="Up")
    stack.ready()


def test_a_rule_that_needs_has_is_warned_of(bed: Bed, kind: Kind) -> None:
    health = {"expressions": [kind.rule("status.phase == 'Up'")]}
    stack = bed.stack({"name": "app", "manifests": [kind.widget()], "health": health})
    warned = bed.until(stack.layer_path("app"), lambda found: bool((found or {}).get("status", {}).get("warnings")))
    assert "health.expressions[0].current" in warned["status"]["warnings"][0]
    assert "has()" in warned["status"]["warnings"][0]
    kind.report(phase="Up")
    stack.ready()


def test_the_annotation_is_followed_when_it_changes_and_an_unknown_word_is_told(bed: Bed, kind: Kind) -> None:
    widget = kind.widget(**{"clusterstack.dev/health": "ingore"})
    stack = bed.stack({"name": "app", "manifests": [widget], "health": {"expressions": [kind.rule()]}})
    kind.report(phase="Down")

    def warnings(found: Any) -> list[str]:
        return list((found or {}).get("status", {}).get("warnings") or ())

    told = bed.until(stack.layer_path("app"), lambda found: bool(warnings(found)))
    assert "'ingore'" in warnings(told)[0]
    assert f"{kind.place}/one" in warnings(told)[0]
    stack.phase("app", "Progressing", says=kind.place)
    stack.edit("app", manifests=[kind.widget()])
    bed.until(stack.layer_path("app"), lambda found: warnings(found) == [])
    since = bed.plane.audit_offset()
    kind.annotate("ignore")
    stack.ready()
    kind.annotate(None)
    stack.phase("app", "Progressing", says=kind.place)
    kind.annotate("exists")
    stack.ready()
    assert kind.written(since) == []
