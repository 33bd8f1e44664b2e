"""Who decides about an object, and what time, children and other objects add to it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from clusterstack.core.health import (
    GRACE,
    ChildQuery,
    Context,
    Level,
    Policy,
    RuleSet,
    State,
    Verdict,
    child_query,
    judge,
    one_line,
    related_refs,
)
from clusterstack.core.objects import GroupKind, Manifest, ObjectRef
from clusterstack.errors import SpecError

NOW = 1_700_000_000.0  # 2023-11-14T22:13:20Z
RECENTLY = "2023-11-14T22:13:10Z"


def obj(api_version: str, kind: str, *, spec: Any = None, status: Any = None, **metadata: Any) -> Manifest:
    made: Manifest = {"apiVersion": api_version, "kind": kind, "metadata": {"name": "x", "namespace": "ns", **metadata}}
    if spec is not None:
        made["spec"] = spec
    if status is not None:
        made["status"] = status
    return made


def ready(status: str, **fields: Any) -> dict[str, Any]:
    return {"conditions": [{"type": "Ready", "status": status, **fields}]}


def foo(status: Any = None, **metadata: Any) -> Manifest:
    return obj("example.com/v1", "Foo", spec={}, status=status, **metadata)


# ---- policies and the annotation ------------------------------------------------------------------------------------


def test_exists_is_satisfied_by_existence(rules: RuleSet) -> None:
    kafka = obj("kafka.strimzi.io/v1", "Kafka", status={})
    assert judge(kafka, Context(rules=rules, policy=Policy.EXISTS)).state is State.CURRENT
    assert judge(kafka, Context(rules=rules, policy=Policy.STRICT)).state is State.IN_PROGRESS


def test_kstatus_does_not_know_the_bundled_rules(rules: RuleSet) -> None:
    kafka = obj("kafka.strimzi.io/v1", "Kafka", status={})
    verdict = judge(kafka, Context(rules=rules, policy=Policy.KSTATUS))
    assert (verdict.state, verdict.rule) == (State.CURRENT, "kstatus")


def test_kstatus_waits_for_jobs_as_flux_does(rules: RuleSet) -> None:
    job = obj("batch/v1", "Job", status={"startTime": RECENTLY})
    assert judge(job, Context(rules=rules, policy=Policy.KSTATUS)).state is State.IN_PROGRESS


@pytest.mark.parametrize("policy", Policy)
def test_deletion_comes_before_everything(rules: RuleSet, policy: Policy) -> None:
    going = foo(ready("True"), deletionTimestamp=RECENTLY, finalizers=["example.com/hold"])
    verdict = judge(going, Context(rules=rules, policy=policy))
    assert verdict.state is State.TERMINATING
    assert "example.com/hold" in verdict.message


@pytest.mark.parametrize(
    ("wish", "expected"),
    [
        ("ignore", State.CURRENT),
        ("exists", State.CURRENT),
        ("kstatus", State.IN_PROGRESS),
        ("Strict", State.DEGRADED),
        ("nonsense", State.DEGRADED),
    ],
)
def test_the_annotation_wins_over_the_policy(rules: RuleSet, wish: str, expected: State) -> None:
    issuer = obj("cert-manager.io/v1", "Issuer", status=ready("False"), annotations={"clusterstack.dev/health": wish})
    assert judge(issuer, Context(rules=rules)).state is expected


def test_ignore_holds_even_while_an_object_is_deleted(rules: RuleSet) -> None:
    going = foo(deletionTimestamp=RECENTLY, annotations={"clusterstack.dev/health": "ignore"})
    assert judge(going, Context(rules=rules)).state is State.CURRENT


# ---- users' rules ---------------------------------------------------------------------------------------------------


def flux(**expressions: str) -> dict[str, str]:
    return {"apiVersion": "example.com/v1", "kind": "Foo", **expressions}


def test_a_layers_expressions_count_with_kstatus_too(rules: RuleSet) -> None:
    mine = rules.with_expressions([flux(current="status.phase == 'Up'")], source="layer apps")
    for policy in (Policy.STRICT, Policy.KSTATUS):
        context = Context(rules=mine, policy=policy)
        assert judge(foo({"phase": "Up"}), context).state is State.CURRENT
        assert judge(foo({"phase": "Coming"}), context).state is State.IN_PROGRESS
        assert judge(foo({"phase": "Coming"}), context).rule == "layer apps[0]"


def test_expressions_are_asked_in_flux_order(rules: RuleSet) -> None:
    mine = rules.with_expressions([flux(inProgress="status.a", failed="status.b", current="status.c")], source="layer")
    context = Context(rules=mine, policy=Policy.KSTATUS)
    assert judge(foo({"a": True, "b": True, "c": True}), context).state is State.IN_PROGRESS
    assert judge(foo({"a": False, "b": True, "c": True}), context).state is State.FAILED
    assert judge(foo({"a": False, "b": False, "c": True}), context).state is State.CURRENT
    assert judge(foo({"a": False, "b": False, "c": False}), context).state is State.IN_PROGRESS


def test_an_unobserved_generation_precedes_the_expressions(rules: RuleSet) -> None:
    mine = rules.with_expressions([flux(current="true", failed="true")], source="layer")
    stale = foo({"observedGeneration": 1}, generation=2)
    assert judge(stale, Context(rules=mine)).reason == "LatestGenerationNotObserved"


@pytest.mark.parametrize("observed", [-1, 1])
def test_who_is_told_to_pause_need_not_have_observed_it(rules: RuleSet, observed: int) -> None:
    rule = {"for": ["example.com/Foo"], "current": "true", "suspended": "has(spec.suspend) && spec.suspend"}
    mine = Context(rules=rules.with_rules([rule], source="stack"))
    told = {**foo({"observedGeneration": observed}, generation=2), "spec": {"suspend": True}}
    assert judge(told, mine).state is State.SUSPENDED
    assert judge({**told, "spec": {}}, mine).reason == "LatestGenerationNotObserved"


def test_a_status_that_tells_of_a_pause_counts_for_its_generation_alone(rules: RuleSet) -> None:
    paused = {"observedGeneration": 1, "conditions": [{"type": "ReconciliationPaused", "status": "True"}]}
    kafka = obj("kafka.strimzi.io/v1", "Kafka", spec={}, status=paused, generation=2)
    assert judge(kafka, Context(rules=rules)).state is State.IN_PROGRESS


def test_a_generation_that_is_no_number_does_not_stop_the_expressions(rules: RuleSet) -> None:
    mine = rules.with_expressions([flux(current="true")], source="layer")
    assert judge(foo({"observedGeneration": "1"}, generation=2), Context(rules=mine)).state is State.CURRENT


def test_an_empty_filter_is_vacuously_true_as_with_flux(rules: RuleSet) -> None:
    failed = "status.conditions.filter(e, e.type == 'Ready').all(e, e.status == 'False')"
    mine = rules.with_expressions([flux(failed=failed, current="true")], source="layer")
    assert judge(foo({"conditions": []}), Context(rules=mine)).state is State.FAILED


@pytest.mark.parametrize("status", [None, {}, {"conditions": []}])
def test_fields_that_are_not_there_yet_wait(rules: RuleSet, status: Any) -> None:
    mine = rules.with_expressions(
        [flux(current="status.conditions[0].status == 'x' || status.phase == 'x'")], source="l"
    )
    verdict = judge(foo(status), Context(rules=mine))
    assert verdict.state is not State.CURRENT
    assert not verdict.failed


def test_a_missing_status_is_not_current_even_if_the_expression_tolerates_an_empty_one(rules: RuleSet) -> None:
    mine = rules.with_expressions([flux(current="!has(status.error)")], source="layer")
    assert judge(foo(), Context(rules=mine)).reason == "FieldMissing"
    assert judge(foo({"x": 1}), Context(rules=mine)).state is State.CURRENT


def test_an_expression_that_cannot_be_evaluated_is_unknown(rules: RuleSet) -> None:
    mine = rules.with_expressions([flux(current="status.phase > 3")], source="layer")
    verdict = judge(foo({"phase": "x"}), Context(rules=mine))
    assert (verdict.state, verdict.reason) == (State.UNKNOWN, "RuleError")


def test_the_version_does_not_matter_and_an_absent_kind_means_the_group(rules: RuleSet) -> None:
    group = {"apiVersion": "example.com/v9", "current": "status.group"}
    mine = rules.with_expressions([group, flux(current="status.kind")], source="layer")
    assert judge(foo({"kind": True, "group": False}), Context(rules=mine)).state is State.CURRENT
    other = obj("example.com/v2", "Bar", status={"group": True})
    assert judge(other, Context(rules=mine)).state is State.CURRENT


def test_levels_precede_one_another(rules: RuleSet) -> None:
    def rule(name: str) -> dict[str, Any]:
        return {"for": ["example.com/Foo"], "current": "false", "failed": "true", "message": f"'{name}'"}

    cluster = rules.with_rules([rule("cluster")], source="c", level=Level.CLUSTER)
    stack = cluster.with_rules([rule("stack")], source="s", level=Level.STACK)
    layer = stack.with_rules([rule("layer")], source="l", level=Level.LAYER)
    for found, word in ((cluster, "cluster"), (stack, "stack"), (layer, "layer")):
        assert judge(foo({"x": 1}), Context(rules=found)).message == word
    assert judge(foo({"x": 1}), Context(rules=rules)).state is State.CURRENT


def test_with_kstatus_the_stacks_rules_count_and_wider_ones_do_not(rules: RuleSet) -> None:
    def over(level: Level) -> Context:
        mine = rules.with_rules([flux(current="status.phase == 'Up'")], source="mine", level=level)
        return Context(rules=mine, policy=Policy.KSTATUS)

    assert judge(foo({"phase": "Down"}), over(Level.STACK)).state is State.IN_PROGRESS
    assert judge(foo({"phase": "Down"}), over(Level.CLUSTER)).state is State.CURRENT


@pytest.mark.parametrize(("wish", "noted"), [("ingore", True), ("Ignore", False), ("", False)])
def test_an_annotation_that_nobody_knows_is_noted_and_changes_nothing(rules: RuleSet, wish: str, noted: bool) -> None:
    thing = foo({"conditions": [{"type": "Ready", "status": "True"}]})
    plain = judge(thing, Context(rules=rules))
    thing["metadata"]["annotations"] = {"clusterstack.dev/health": wish}
    verdict = judge(thing, Context(rules=rules))
    assert verdict.state is plain.state
    assert ("'ingore'" in verdict.note) is noted


def test_an_exact_kind_precedes_its_group_whatever_the_order(rules: RuleSet) -> None:
    mine = rules.with_rules(
        [{"for": ["example.com/*"], "current": "false"}, {"for": ["example.com/Foo"], "current": "true"}], source="s"
    )
    assert judge(foo({"x": 1}), Context(rules=mine)).state is State.CURRENT


def test_a_rule_can_be_for_some_objects_only(rules: RuleSet) -> None:
    mine = rules.with_rules(
        [
            {"for": ["example.com/Foo"], "name": "big-*", "current": "false"},
            {"for": ["example.com/Foo"], "namespace": "prod", "current": "false"},
            {"for": ["example.com/Foo"], "when": "has(spec.mode) && spec.mode == 'odd'", "current": "false"},
        ],
        source="s",
    )
    context = Context(rules=mine)
    assert judge(foo({"x": 1}), context).rule == "kstatus"
    assert judge(foo({"x": 1}, name="big-one"), context).rule == "s[0]"
    assert judge(foo({"x": 1}, namespace="prod"), context).rule == "s[1]"
    assert judge({**foo({"x": 1}), "spec": {"mode": "odd"}}, context).rule == "s[2]"


@pytest.mark.parametrize(
    ("rule", "complaint"),
    [
        ({"for": ["example.com/Foo"], "current": "status.x =="}, r"stack rules\[0\]\.current: line 1, column 12"),
        ({"for": ["example.com/Foo"], "current": "has(status)"}, "has"),
        ({"for": ["example.com/Foo"]}, "current"),
        ({"for": ["Foo"], "current": "true"}, "not group/Kind"),
        ({"for": ["example.com/Foo"], "current": "true", "curent": "true"}, "curent"),
        ({"for": ["example.com/Foo"], "like": "nothing"}, "nothing"),
        ({"apiVersion": "example.com/v1", "kind": "Foo"}, "current"),
        ({"apiVersion": "example.com/v1", "kind": "Foo", "current": "(", "failed": "x"}, "current"),
    ],
)
def test_a_bad_rule_is_refused_by_name(rules: RuleSet, rule: dict[str, Any], complaint: str) -> None:
    with pytest.raises(SpecError, match=complaint) as caught:
        rules.with_rules([rule], source="stack rules")
    assert caught.value.reason == "RuleInvalid"


def test_expressions_that_fail_without_status_are_warned_of(rules: RuleSet) -> None:
    careless = rules.with_expressions([flux(current="status.phase == 'Up'")], source="layer apps")
    assert len(careless.warnings) == 1
    assert "layer apps[0]" in careless.warnings[0]
    assert "has()" in careless.warnings[0]
    careful = rules.with_expressions([flux(current="has(status.phase) && status.phase == 'Up'")], source="layer apps")
    assert careful.warnings == ()


def test_a_users_rule_may_take_a_bundled_shape(rules: RuleSet) -> None:
    mine = rules.with_rules([{"for": ["example.com/Foo"], "like": "ready"}], source="s")
    assert judge(foo(ready("False")), Context(rules=mine)).state is State.DEGRADED


def test_extending_rules_leaves_the_original_alone(rules: RuleSet) -> None:
    rules.with_expressions([flux(current="false")], source="layer")
    assert judge(foo({"x": 1}), Context(rules=rules)).state is State.CURRENT


# ---- kinds without a rule -------------------------------------------------------------------------------------------


def test_an_unknown_kind_that_nobody_has_looked_at_gets_a_grace(rules: RuleSet) -> None:
    new = foo(creationTimestamp=RECENTLY)
    verdict = judge(new, Context(rules=rules, now=NOW, status_subresource=True))
    assert (verdict.state, verdict.reason, verdict.recheck_at) == (State.IN_PROGRESS, "NoStatus", NOW - 10 + GRACE)
    late = judge(new, Context(rules=rules, now=NOW + GRACE, status_subresource=True))
    assert (late.state, late.message) == (State.CURRENT, "no status reported")


def test_an_unknown_kind_without_a_status_subresource_is_current_at_once(rules: RuleSet) -> None:
    assert judge(foo(creationTimestamp=RECENTLY), Context(rules=rules, now=NOW)).state is State.CURRENT


def test_an_unknown_kind_that_is_not_ready_says_why(rules: RuleSet) -> None:
    verdict = judge(foo(ready("False", reason="NoQuota", message="quota is used up")), Context(rules=rules))
    assert verdict == Verdict(State.IN_PROGRESS, "NoQuota", "quota is used up", "kstatus")


def outdated(rules: RuleSet, **changes: Any) -> Context:
    return replace(
        Context(rules=rules, now=NOW, applied_at=NOW - 1, status_outdated=True, status_subresource=True), **changes
    )


def test_a_status_older_than_our_change_is_not_believed(rules: RuleSet) -> None:
    changed = foo(ready("True"), generation=2)
    verdict = judge(changed, outdated(rules))
    assert (verdict.state, verdict.reason, verdict.recheck_at) == (State.IN_PROGRESS, "StatusOutdated", NOW - 1 + GRACE)
    assert judge(changed, outdated(rules, status_outdated=False)).state is State.CURRENT
    assert judge(changed, outdated(rules, status_subresource=False)).state is State.CURRENT


def test_an_old_status_is_believed_after_the_grace_or_where_generations_tell(rules: RuleSet) -> None:
    changed = foo(ready("True"), generation=2)
    assert judge(changed, outdated(rules, now=NOW + GRACE)).state is State.CURRENT
    observed = foo({**ready("True"), "observedGeneration": 2}, generation=2)
    assert judge(observed, outdated(rules)).state is State.CURRENT
    per_condition = foo(ready("True", observedGeneration=2), generation=2)
    assert judge(per_condition, outdated(rules)).state is State.CURRENT


def test_conditions_that_all_speak_of_an_older_generation_are_not_believed_within_the_grace(rules: RuleSet) -> None:
    context = outdated(rules, status_outdated=False)
    old = {"type": "ManifestSynchronized", "status": "True", "observedGeneration": 1}
    new = {"type": "Synced", "status": "True", "observedGeneration": 2}
    stale = obj("grafana.integreatly.org/v1beta1", "GrafanaManifest", status={"conditions": [old]}, generation=2)
    assert judge(foo({"conditions": [old, {"type": "Ready", "status": "True"}]}, generation=2), context).state is (
        State.IN_PROGRESS
    )
    assert judge(stale, context).state is State.IN_PROGRESS
    partly = foo({"conditions": [old, new, {"type": "Ready", "status": "True"}]}, generation=2)
    assert judge(partly, context).state is State.CURRENT
    late = replace(context, now=NOW + GRACE)
    assert judge(foo({"conditions": [old, {"type": "Ready", "status": "True"}]}, generation=2), late).state is (
        State.CURRENT
    )


def test_a_failure_of_the_last_spec_does_not_fail_the_one_that_mends_it(rules: RuleSet) -> None:
    failed = obj("flagger.app/v1beta1", "Canary", status={"phase": "Failed"}, generation=2)
    mended = judge(failed, outdated(rules))
    assert (mended.state, mended.reason) == (State.IN_PROGRESS, "StatusOutdated")
    assert judge(failed, outdated(rules, now=NOW + GRACE)).state is State.FAILED
    assert judge(failed, outdated(rules, status_outdated=False)).state is State.FAILED


def test_what_cannot_be_read_is_unknown_and_never_an_exception(rules: RuleSet) -> None:
    broken: list[Any] = [
        foo({"conditions": {"Ready": True}}),
        foo({"conditions": ["Ready", None, {"type": 3}]}),
        foo("up"),
        {"kind": "Foo", "metadata": {}},
        {"apiVersion": "v1", "kind": "Pod", "metadata": None, "status": []},
        obj("apps/v1", "Deployment", spec={"replicas": "many"}, status={"replicas": None, "conditions": None}),
        obj("gateway.networking.k8s.io/v1", "HTTPRoute", status={"parents": "none"}),
    ]
    for item in broken:
        for policy in Policy:
            judge(item, Context(rules=rules, policy=policy))
    assert judge({"kind": "Foo", "metadata": {}}, Context(rules=rules)).state is State.UNKNOWN


# ---- Kubernetes' own kinds, strictly --------------------------------------------------------------------------------


def pod(name: str, *, waiting: str = "", restarts: int = 0, message: str = "", **status: Any) -> Manifest:
    container = {
        "name": "main",
        "restartCount": restarts,
        "state": {"waiting": {"reason": waiting, "message": message}},
    }
    return obj("v1", "Pod", status={"phase": "Running", "containerStatuses": [container], **status}, name=name)


SELECTOR = {"selector": {"matchLabels": {"app": "x"}}}
DEPLOYMENT = obj(
    "apps/v1", "Deployment", spec={"replicas": 1, **SELECTOR}, status={"replicas": 1, "updatedReplicas": 1}
)
STATEFUL_SET = obj("apps/v1", "StatefulSet", spec={"replicas": 1, **SELECTOR}, status={"replicas": 1})


def test_a_paused_deployment_is_suspended(rules: RuleSet) -> None:
    paused = obj("apps/v1", "Deployment", spec={"paused": True}, status={})
    verdict = judge(paused, Context(rules=rules))
    assert verdict.state is State.SUSPENDED
    assert verdict.healthy


def test_a_refused_replica_shows_at_once(rules: RuleSet) -> None:
    failure = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "exceeded quota"}
    refused = obj("apps/v1", "Deployment", spec={"replicas": 1}, status={"conditions": [failure]})
    assert judge(refused, Context(rules=rules)).message == "exceeded quota"
    assert judge(refused, Context(rules=rules)).state is State.DEGRADED


@pytest.mark.parametrize(("ready_replicas", "expected"), [(2, State.IN_PROGRESS), (3, State.CURRENT)])
def test_a_stateful_set_with_on_delete_must_be_ready(rules: RuleSet, ready_replicas: int, expected: State) -> None:
    spec = {"replicas": 3, "updateStrategy": {"type": "OnDelete"}}
    made = obj("apps/v1", "StatefulSet", spec=spec, status={"readyReplicas": ready_replicas})
    assert judge(made, Context(rules=rules)).state is expected


def test_a_daemon_set_with_on_delete_is_not_awaited_to_update(rules: RuleSet) -> None:
    status = {
        "observedGeneration": 1,
        "desiredNumberScheduled": 1,
        "currentNumberScheduled": 1,
        "numberAvailable": 1,
        "numberReady": 1,
    }
    made = obj("apps/v1", "DaemonSet", spec={"updateStrategy": {"type": "OnDelete"}}, status=status, generation=1)
    assert judge(made, Context(rules=rules)).state is State.CURRENT
    made["spec"] = {}
    assert judge(made, Context(rules=rules)).state is State.IN_PROGRESS


def test_a_failed_pod_has_failed_unless_somebody_owns_it(rules: RuleSet) -> None:
    failed = obj("v1", "Pod", status={"phase": "Failed", "reason": "Evicted", "message": "node was low on memory"})
    assert judge(failed, Context(rules=rules)) == Verdict(State.FAILED, "Evicted", "node was low on memory", "builtin")
    failed["metadata"]["ownerReferences"] = [{"kind": "Job"}]
    assert judge(failed, Context(rules=rules)).state is State.CURRENT


def test_a_schema_that_is_not_structural_degrades_a_definition(rules: RuleSet) -> None:
    conditions = [{"type": "Established", "status": "True"}, {"type": "NonStructuralSchema", "status": "True"}]
    crd = obj("apiextensions.k8s.io/v1", "CustomResourceDefinition", status={"conditions": conditions})
    assert judge(crd, Context(rules=rules)).state is State.DEGRADED


def claim(**spec: Any) -> Manifest:
    return obj("v1", "PersistentVolumeClaim", spec={"storageClassName": "local", **spec}, status={"phase": "Pending"})


CLASS = ObjectRef("storage.k8s.io", "StorageClass", "", "local")


@pytest.mark.parametrize(
    ("mode", "expected"), [("WaitForFirstConsumer", State.CURRENT), ("Immediate", State.IN_PROGRESS)]
)
def test_a_claim_that_waits_for_its_first_consumer_holds_nobody_up(rules: RuleSet, mode: str, expected: State) -> None:
    assert related_refs(claim(), rules) == (CLASS,)
    related = {CLASS: {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "volumeBindingMode": mode}}
    assert judge(claim(), Context(rules=rules, related=related)).state is expected


def test_a_claim_with_a_node_or_an_unknown_class_is_waited_for(rules: RuleSet) -> None:
    assert judge(claim(), Context(rules=rules)).state is State.IN_PROGRESS
    chosen = claim()
    chosen["metadata"]["annotations"] = {"volume.kubernetes.io/selected-node": "n1"}
    assert related_refs(chosen, rules) == ()


def test_an_oci_helm_repository_needs_no_status(rules: RuleSet) -> None:
    made = obj("source.toolkit.fluxcd.io/v1", "HelmRepository", spec={"type": "oci"})
    assert judge(made, Context(rules=rules, status_subresource=True, now=NOW)).state is State.CURRENT


# ---- Pods of workloads ----------------------------------------------------------------------------------------------


def test_the_query_for_a_workloads_pods(rules: RuleSet) -> None:
    expressions = [
        {"key": "tier", "operator": "In", "values": ["a", "b"]},
        {"key": "canary", "operator": "DoesNotExist"},
    ]
    made = obj(
        "apps/v1", "Deployment", spec={"selector": {"matchLabels": {"app": "x"}, "matchExpressions": expressions}}
    )
    assert child_query(made, rules) == ChildQuery((GroupKind("", "Pod"),), "ns", "app=x,tier in (a,b),!canary")
    assert child_query(foo(), rules) is None


@pytest.mark.parametrize("reason", ["ImagePullBackOff", "CreateContainerConfigError", "CrashLoopBackOff"])
@pytest.mark.parametrize("policy", [Policy.STRICT, Policy.KSTATUS])
def test_a_broken_pod_degrades_its_workload(rules: RuleSet, policy: Policy, reason: str) -> None:
    children = [pod("a"), pod("b", waiting=reason, message="because")]
    verdict = judge(DEPLOYMENT, Context(rules=rules, policy=policy, children=children))
    assert (verdict.state, verdict.reason) == (State.DEGRADED, reason)
    assert verdict.message.startswith(f"0/1 available: {reason}")


def test_a_crash_loop_tells_the_exit_code(rules: RuleSet) -> None:
    looping = pod("a", waiting="CrashLoopBackOff", restarts=3)
    looping["status"]["containerStatuses"][0]["lastState"] = {"terminated": {"exitCode": 137}}
    verdict = judge(DEPLOYMENT, Context(rules=rules, children=[looping]))
    assert verdict.message == "0/1 available: CrashLoopBackOff: container main keeps crashing: exit code 137"


def test_a_crash_loop_becomes_final_for_kinds_without_a_deadline(rules: RuleSet) -> None:
    looping = [pod("a", waiting="CrashLoopBackOff", restarts=10)]
    assert judge(STATEFUL_SET, Context(rules=rules, children=looping)).state is State.FAILED
    assert judge(DEPLOYMENT, Context(rules=rules, children=looping)).state is State.DEGRADED
    young = [pod("a", waiting="CrashLoopBackOff", restarts=9)]
    assert judge(STATEFUL_SET, Context(rules=rules, children=young)).state is State.DEGRADED


def test_a_missed_deadline_stays_final_and_tells_the_cause(rules: RuleSet) -> None:
    late = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "timed out"}
    made = {**DEPLOYMENT, "status": {"conditions": [late]}}
    verdict = judge(made, Context(rules=rules, children=[pod("a", waiting="ErrImagePull", message="no such image")]))
    assert verdict.state is State.FAILED
    assert verdict.message == "timed out: ErrImagePull: no such image"


def test_a_pod_without_a_node_degrades_its_workload_after_a_minute(rules: RuleSet) -> None:
    scheduled = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "0/3 nodes are available",
        "lastTransitionTime": RECENTLY,
    }
    unscheduled = obj("v1", "Pod", status={"phase": "Pending", "conditions": [scheduled]})
    verdict = judge(DEPLOYMENT, Context(rules=rules, now=NOW, children=[unscheduled]))
    assert (verdict.state, verdict.recheck_at) == (State.IN_PROGRESS, NOW + 50)
    assert "0/3 nodes are available" in verdict.message
    assert judge(DEPLOYMENT, Context(rules=rules, now=NOW + 50, children=[unscheduled])).state is State.DEGRADED


def test_pods_that_go_or_are_done_trouble_nobody(rules: RuleSet) -> None:
    going = pod("a", waiting="CrashLoopBackOff")
    going["metadata"]["deletionTimestamp"] = RECENTLY
    done = pod("b", waiting="CrashLoopBackOff", phase="Succeeded")
    assert judge(DEPLOYMENT, Context(rules=rules, children=[going, done])).state is State.IN_PROGRESS


def test_a_healthy_workload_is_not_troubled_by_one_pod(rules: RuleSet) -> None:
    conditions = [{"type": "Available", "status": "True"}]
    status = {"replicas": 1, "updatedReplicas": 1, "readyReplicas": 1, "availableReplicas": 1, "conditions": conditions}
    fine = {**DEPLOYMENT, "status": status}
    assert judge(fine, Context(rules=rules, children=[pod("a", waiting="CrashLoopBackOff")])).state is State.CURRENT


# ---- other objects --------------------------------------------------------------------------------------------------

CSV = ObjectRef("operators.coreos.com", "ClusterServiceVersion", "ns", "k.v1")
SUBSCRIPTION = obj(
    "operators.coreos.com/v1alpha1",
    "Subscription",
    status={"state": "AtLatestKnown", "installedCSV": "k.v1", "currentCSV": "k.v1"},
)


def csv(phase: str, **status: Any) -> Manifest:
    return obj("operators.coreos.com/v1alpha1", "ClusterServiceVersion", status={"phase": phase, **status}, name="k.v1")


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (None, State.IN_PROGRESS),
        (csv("Installing"), State.IN_PROGRESS),
        (csv("Succeeded"), State.CURRENT),
        (csv("Failed", reason="ComponentUnhealthy"), State.DEGRADED),
        (csv("Failed", reason="InstallComponentFailedNoRetry"), State.FAILED),
    ],
)
def test_a_subscription_follows_its_csv(rules: RuleSet, target: Manifest | None, expected: State) -> None:
    assert related_refs(SUBSCRIPTION, rules) == (CSV,)
    verdict = judge(SUBSCRIPTION, Context(rules=rules, related={CSV: target} if target else {}))
    assert verdict.state is expected
    assert expected is State.CURRENT or "ClusterServiceVersion ns/k.v1" in verdict.message


def test_what_is_not_named_yet_is_not_asked_for(rules: RuleSet) -> None:
    assert related_refs(obj("operators.coreos.com/v1alpha1", "Subscription", status={}), rules) == ()


def test_a_kind_with_an_empty_status_is_judged_by_its_workloads(rules: RuleSet) -> None:
    server = obj("install.armadaproject.io/v1alpha1", "ArmadaServer", creationTimestamp=RECENTLY, uid="u1")
    query = child_query(server, rules)
    assert query is not None
    assert query.owner_uid == "u1"
    assert GroupKind("apps", "Deployment") in query.kinds
    assert judge(server, Context(rules=rules, now=NOW, children=[])).state is State.IN_PROGRESS
    assert judge(server, Context(rules=rules, now=NOW + GRACE, children=[])).state is State.CURRENT
    verdict = judge(server, Context(rules=rules, now=NOW, children=[DEPLOYMENT]))
    assert (verdict.state, verdict.message) == (State.IN_PROGRESS, "Deployment ns/x: 0/1 available")


# ---- absence and messages -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("two\n  lines\tand tabs ", "two lines and tabs"),
        ('failed: {"error": {"code": 7}} retry', "failed: …"),
        ("list [1] stays", "list [1] stays"),
    ],
)
def test_a_message_is_one_line_without_json(text: str, expected: str) -> None:
    assert one_line(text) == expected


def test_a_message_is_at_most_160_characters_long(rules: RuleSet) -> None:
    verdict = judge(foo(ready("False", message="word " * 100)), Context(rules=rules))
    assert len(verdict.message) <= 160
    assert verdict.message.endswith("…")


def test_a_broken_condition_is_told_rather_than_a_healthy_one(rules: RuleSet) -> None:
    conditions = [
        {"type": "Ready", "status": "True", "message": "all fine"},
        {
            "type": "Fallback",
            "status": "True",
            "reason": "FallbackExists",
            "message": "at least one trigger is falling back",
        },
    ]
    scaled = obj("keda.sh/v1alpha1", "ScaledObject", status={"conditions": conditions})
    verdict = judge(scaled, Context(rules=rules))
    assert (verdict.state, verdict.reason) == (State.DEGRADED, "FallbackExists")


def test_a_condition_deep_in_the_status_is_told(rules: RuleSet) -> None:
    def parent(name: str, status: str, message: str) -> dict[str, Any]:
        conditions = [
            {"type": "Accepted", "status": "True", "message": "accepted"},
            {"type": "ResolvedRefs", "status": status, "reason": "BackendNotFound", "message": message},
        ]
        return {"parentRef": {"name": name}, "conditions": conditions}

    route = obj(
        "gateway.networking.k8s.io/v1",
        "HTTPRoute",
        spec={"parentRefs": [{"name": "a"}, {"name": "b"}]},
        status={"parents": [parent("a", "True", "fine"), parent("b", "False", "no Service web")]},
    )
    assert judge(route, Context(rules=rules)) == Verdict(
        State.DEGRADED, "BackendNotFound", "no Service web", "bundled:gateway.networking.k8s.io/HTTPRoute"
    )


def test_a_condition_that_is_healthy_when_false_is_not_blamed(rules: RuleSet) -> None:
    healthy = {"type": "CatalogSourcesUnhealthy", "status": "False", "message": "all catalogs are healthy"}
    pending = obj(
        "operators.coreos.com/v1alpha1",
        "Subscription",
        status={"state": "UpgradePending", "conditions": [healthy]},
    )
    assert judge(pending, Context(rules=rules)).message == "state is UpgradePending"
