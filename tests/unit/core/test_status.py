"""Statuses: valid by the schema's models, stable while nothing happens, readable."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clusterstack.api.conditions import ORDER
from clusterstack.api.status import Phase, StackLayerStatus, StackStatus
from clusterstack.core.gates import Blocker
from clusterstack.core.graph import Graph, Problem
from clusterstack.core.objects import ObjectRef
from clusterstack.core.status import (
    Counts,
    DriftView,
    LayerView,
    PruneView,
    RulesView,
    Run,
    SourceView,
    StackView,
    Timings,
    UnitView,
    layer_status,
    short_revision,
    stack_status,
    status_patch,
    unchanged,
)

NOW = 1_800_000_100.0
REVISION = "master@sha1:9f3c2ab0000000000000000000000000000000ff"
DEPLOYMENT = ObjectRef("apps", "Deployment", "keda", "keda-operator")

texts = st.sampled_from(["", "one line", "two\nlines", "x" * 3000])
quick = settings(max_examples=40)
times = st.floats(0, 2e9)
blockers = st.builds(
    Blocker,
    ref=st.sampled_from([None, DEPLOYMENT]),
    layer=st.sampled_from([None, "a", "b"]),
    reason=texts,
    message=texts,
)
counts = st.builds(Counts, st.integers(0, 99), st.integers(0, 99), st.integers(0, 9))
runs = st.builds(Run, revision=texts, result=st.sampled_from(["Ready", "Failed"]), started_at=times, finished_at=times)
views = st.builds(
    LayerView,
    name=st.sampled_from("abc"),
    phase=st.sampled_from(Phase),
    since=times,
    revision=texts,
    objects=counts,
    waiting_on=st.lists(blockers, max_size=12).map(tuple),
    blocking=st.lists(blockers, max_size=12).map(tuple),
    message=texts,
    stalled=st.booleans(),
    timed_out=st.booleans(),
    timings=st.builds(Timings, blocked=times, apply=times),
    started_at=times,
    applied_at=times,
    ready_at=times,
    drift=st.builds(
        DriftView, count=st.integers(0, 3), last_detected=times, objects=st.lists(texts, max_size=12).map(tuple)
    ),
    prune=st.none() | st.builds(PruneView, digest=st.just("d"), count=st.integers(0, 9), message=texts),
    units=st.lists(
        st.builds(UnitView, name=st.just("a/b"), phase=st.sampled_from(Phase), message=texts), max_size=3
    ).map(tuple),
    warnings=st.lists(texts, max_size=12).map(tuple),
    history=st.lists(runs, max_size=12).map(tuple),
)
stacks = st.builds(
    StackView,
    generation=st.integers(1, 9),
    layers=st.lists(views, max_size=3, unique_by=lambda view: view.name).map(tuple),
    graph=st.just(Graph({"a": (), "b": ("a",), "c": ("b",)})),
    revision=texts,
    sources=st.lists(
        st.builds(SourceView, name=st.just("s"), ready=st.sampled_from([None, True, False]), message=texts), max_size=1
    ).map(tuple),
    problems=st.lists(st.builds(Problem, st.just("DependencyCycle"), texts), max_size=2).map(tuple),
    suspended=st.booleans(),
    started_at=times,
    ready_at=times,
    history=st.lists(runs, max_size=12).map(tuple),
)


def condition(status: dict[str, Any], type_: str) -> dict[str, Any]:
    return next((c for c in status["conditions"] if c["type"] == type_), {})


def states(status: dict[str, Any]) -> dict[str, str]:
    return {c["type"]: c["status"] for c in status["conditions"]}


def layer(phase: Phase = Phase.READY, **fields: Any) -> LayerView:
    return LayerView(name="base", phase=phase, since=NOW - 41, objects=Counts(12, 14), **fields)


def stack(*layers: LayerView, **fields: Any) -> StackView:
    return StackView(**{"generation": 4, "revision": REVISION, "layers": layers, **fields})


@quick
@given(views)
def test_a_layers_status_always_fits_the_schema_and_is_stable(view: LayerView) -> None:
    status = layer_status(view, previous={}, now=NOW)
    StackLayerStatus.model_validate(status, by_alias=True, by_name=False)
    assert layer_status(view, previous=status, now=NOW + 3600) == status


@quick
@given(stacks)
def test_a_stacks_status_always_fits_the_schema_and_is_stable_but_for_the_age(view: StackView) -> None:
    status = stack_status(view, previous={}, now=NOW)
    StackStatus.model_validate(status, by_alias=True, by_name=False)
    assert unchanged(status, stack_status(view, previous=status, now=NOW + 3600))


@quick
@given(stacks, stacks)
def test_patching_one_status_gives_the_other(one: StackView, other: StackView) -> None:
    old, new = (stack_status(view, previous={}, now=NOW) for view in (one, other))
    patch = status_patch(old, new)
    assert merged(old, patch) == new
    assert (patch == {}) is (old == new)


def merged(target: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    result = dict(target)
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = merged(result[key], value)
        else:
            result[key] = value
    return result


@quick
@given(stacks)
def test_ready_and_available_say_the_same_and_nothing_is_both_ready_and_stalled(view: StackView) -> None:
    status = stack_status(view, previous={}, now=NOW)
    assert states(status)["Ready"] == states(status)["Available"]
    assert not (
        states(status)["Ready"] == "True" and "True" in (states(status)["Stalled"], states(status)["Reconciling"])
    )
    assert [t for t in ORDER if t in states(status)] == list(states(status))


def test_a_layer_that_waits_is_neither_stalled_nor_failed() -> None:
    view = layer(Phase.WAITING, waiting_on=(Blocker(layer="crds", reason="DependencyProgressing"),))
    status = layer_status(view, previous={}, now=NOW)
    assert states(status) == {
        "Ready": "False",
        "Available": "False",
        "Reconciling": "True",
        "Stalled": "False",
        "Healthy": "Unknown",
    }
    assert status["waitingOn"] == [{"layer": "crds", "reason": "DependencyProgressing"}]
    assert status["message"] == "waiting for layer crds"
    assert condition(status, "Ready")["reason"] == "Waiting"


def test_a_layer_that_only_a_person_can_help_is_stalled_and_a_retried_one_is_not() -> None:
    doomed = layer_status(
        layer(Phase.FAILED, stalled=True, reason="BuildFailed", message="x.yaml: bad"), previous={}, now=NOW
    )
    assert (states(doomed)["Stalled"], states(doomed)["Reconciling"]) == ("True", "False")
    assert condition(doomed, "Stalled")["reason"] == "BuildFailed"
    retried = layer_status(layer(Phase.FAILED, reason="Conflict"), previous={}, now=NOW)
    assert (states(retried)["Stalled"], states(retried)["Reconciling"]) == ("False", "True")


def test_the_observed_generation_moves_only_with_a_result() -> None:
    working = layer_status(layer(Phase.PROGRESSING), previous={}, now=NOW)
    assert working["observedGeneration"] == -1
    assert condition(working, "Ready")["observedGeneration"] == 1
    assert layer_status(layer(), previous=working, now=NOW)["observedGeneration"] == 1


def test_progress_counts_and_times_are_shown() -> None:
    view = layer(started_at=NOW - 60, applied_at=NOW - 30, ready_at=NOW, timings=Timings(blocked=5, health=30.1234))
    status = layer_status(view, previous={}, now=NOW)
    assert status["progress"] == "12/14"
    assert status["durationSeconds"] == 60
    assert status["timings"] == {
        "blockedSeconds": 5,
        "fetchSeconds": 0,
        "renderSeconds": 0,
        "applySeconds": 0,
        "healthSeconds": 30.123,
    }


def test_abnormal_conditions_appear_and_go() -> None:
    view = layer(prune=PruneView(digest="abc", count=7, objects=("A a", "B b", "C c", "D d")), drift=DriftView(count=1))
    status = layer_status(view, previous={}, now=NOW)
    assert condition(status, "PruneBlocked")["message"] == "7 objects would be deleted: A a, B b, C c and 4 more"
    assert condition(status, "Drifted")["message"] == "1 object changed by others"
    assert status["prunePlan"]["digest"] == "abc"
    calm = layer_status(layer(), previous=status, now=NOW)
    assert list(states(calm).values()) == ["True", "True", "False", "False", "True"]
    assert list(states(calm)) == ["Ready", "Available", "Reconciling", "Stalled", "Healthy"]
    assert "prunePlan" not in calm


KAFKA = Blocker(
    ObjectRef("kafka.strimzi.io", "Kafka", "kafka", "main"), reason="NotReady", message="NotReady: Creating"
)


def test_a_layer_that_its_policy_lets_pass_is_ready_and_not_healthy() -> None:
    status = layer_status(layer(unwell=(KAFKA,), sick=3), previous={}, now=NOW)
    assert (states(status)["Ready"], states(status)["Healthy"]) == ("True", "False")
    healthy = condition(status, "Healthy")
    assert healthy["reason"] == "NotReady"
    assert healthy["message"] == "Kafka kafka/main: NotReady: Creating (and 2 more)"
    assert status["message"] == f"Ready, but not healthy: {healthy['message']}"
    well = layer_status(layer(), previous=status, now=NOW)
    assert condition(well, "Healthy")["status"] == "True"


@pytest.mark.parametrize("phase", [Phase.PENDING, Phase.WAITING, Phase.SUSPENDED])
def test_the_health_of_what_is_not_looked_at_is_unknown(phase: Phase) -> None:
    assert condition(layer_status(layer(phase), previous={}, now=NOW), "Healthy")["status"] == "Unknown"


def test_a_stack_is_healthy_when_all_of_its_layers_are() -> None:
    sick = replace(layer(unwell=(KAFKA,), sick=1), name="messaging")
    status = stack_status(stack(layer(), sick), previous={}, now=NOW)
    assert (states(status)["Ready"], states(status)["Healthy"]) == ("True", "False")
    assert condition(status, "Healthy")["message"] == "messaging: Kafka kafka/main: NotReady: Creating"
    assert "not healthy: messaging" in condition(status, "Ready")["message"]
    assert condition(stack_status(stack(layer()), previous={}, now=NOW), "Healthy")["status"] == "True"
    waiting = replace(layer(Phase.WAITING), name="later")
    assert condition(stack_status(stack(layer(), waiting), previous={}, now=NOW), "Healthy")["status"] == "Unknown"


def test_the_stack_in_one_line() -> None:
    blocked = replace(
        layer(Phase.PROGRESSING, applied_at=NOW - 41, blocking=(Blocker(DEPLOYMENT, message="0/1: ImagePullBackOff"),)),
        name="operators",
    )
    status = stack_status(stack(layer(), blocked), previous={}, now=NOW)
    summary = status["summary"]
    line = "operators: waiting for Deployment keda/keda-operator 0/1: ImagePullBackOff"
    assert summary["message"] == f"{line} (41s)"
    assert condition(status, "Ready")["message"] == line
    assert (summary["layers"], summary["current"], summary["revision"]) == ("1/2", "operators", "master@9f3c2ab")
    assert status["phase"] == "Progressing"
    assert status["layers"][1]["message"] == line.removeprefix("operators: ")


def test_a_stack_whose_layers_are_all_ready_is_ready_and_names_its_critical_path() -> None:
    base = layer(started_at=NOW - 50, ready_at=NOW - 20)
    apps = replace(layer(started_at=NOW - 20, ready_at=NOW), name="apps")
    view = stack(base, apps, graph=Graph({"base": (), "apps": ("base",)}), started_at=NOW - 50, ready_at=NOW)
    status = stack_status(view, previous={}, now=NOW)
    assert condition(status, "Ready")["message"] == "2 layers are Ready at master@9f3c2ab"
    assert status["summary"]["message"] == "2 layers are Ready at master@9f3c2ab"
    assert status["observedGeneration"] == 4
    assert status["criticalPath"] == {
        "seconds": 50,
        "layers": [{"layer": "base", "seconds": 30}, {"layer": "apps", "seconds": 20}],
    }


def test_a_problem_of_the_spec_stalls_the_stack_with_its_own_reason() -> None:
    problem = Problem("DependencyCycle", "layers wait for each other: a → b → a", "spec.layers")
    status = stack_status(stack(layer(Phase.PENDING), problems=(problem,)), previous={}, now=NOW)
    assert (states(status)["Stalled"], states(status)["Ready"]) == ("True", "False")
    assert condition(status, "Stalled")["reason"] == "DependencyCycle"
    assert "a → b → a" in status["summary"]["message"]
    assert status["observedGeneration"] == 4


def test_a_source_that_cannot_be_fetched_does_not_make_ready_layers_unready() -> None:
    broken = SourceView(name="infra", revision=REVISION, ready=False, reason="GitAuthFailed", message="401")
    status = stack_status(stack(layer(), sources=(broken,)), previous={}, now=NOW)
    assert states(status)["SourceReady"] == "False"
    assert condition(status, "SourceReady")["reason"] == "GitAuthFailed"
    assert states(status)["Ready"] == "True"


def test_wrong_health_rules_of_the_cluster_are_told_and_break_nothing() -> None:
    view = RulesView("ConfigMap ops/rules", count=3, problems=tuple(f"key[{index}].current: no" for index in range(5)))
    status = stack_status(stack(layer(), rules=view), previous={}, now=NOW)
    told = condition(status, "HealthRulesReady")
    assert (told["status"], told["reason"]) == ("False", "RuleInvalid")
    assert told["message"].startswith("ConfigMap ops/rules: key[0].current: no; key[1]")
    assert told["message"].endswith("(and 2 more); 3 rules in force")
    assert states(status)["Ready"] == "True"
    mended = stack_status(stack(layer(), rules=RulesView("ConfigMap ops/rules", 1)), previous=status, now=NOW)
    assert condition(mended, "HealthRulesReady")["message"] == "ConfigMap ops/rules: 1 rule"
    assert states(mended)["HealthRulesReady"] == "True"
    assert "HealthRulesReady" not in states(stack_status(stack(layer()), previous=mended, now=NOW))


def test_without_any_layer_yet_the_source_is_the_cause() -> None:
    broken = SourceView(name="infra", ready=False, reason="GitUnreachable", message="no route")
    status = stack_status(StackView(generation=1, sources=(broken,)), previous={}, now=NOW)
    assert status["summary"]["message"] == "source infra: no route"
    assert states(status)["Ready"] == "Unknown"
    assert states(status)["Reconciling"] == "True"


@pytest.mark.parametrize("suspended", ["stack", "layer"])
def test_suspension_is_visible_and_neither_ready_nor_failed(suspended: str) -> None:
    one = layer(Phase.SUSPENDED) if suspended == "layer" else layer()
    status = stack_status(stack(one, suspended=suspended == "stack"), previous={}, now=NOW)
    assert (states(status)["Suspended"], states(status)["Ready"], states(status)["Stalled"]) == (
        "True",
        "Unknown",
        "False",
    )
    assert status["phase"] == "Suspended"


def test_a_stack_whose_layers_are_not_built_yet_is_not_ready() -> None:
    status = stack_status(stack(), previous={}, now=NOW)
    assert (status["phase"], states(status)["Ready"]) == ("Pending", "Unknown")
    assert status["summary"]["message"] == "building the layers"


def test_a_teardown_is_progress_whatever_the_layers_say() -> None:
    status = stack_status(stack(layer(Phase.FAILED), deleting="deleting layer apps"), previous={}, now=NOW)
    assert status["phase"] == "Progressing"
    assert condition(status, "Ready")["reason"] == "Deleting"
    assert status["summary"]["message"] == "deleting layer apps"


def test_transition_times_survive_a_restart_of_the_operator() -> None:
    before = stack_status(stack(layer()), previous={}, now=NOW)
    after = stack_status(stack(layer()), previous=before, now=NOW + 999)
    assert after == before


def test_revisions_are_shortened_for_people() -> None:
    assert short_revision(REVISION) == "master@9f3c2ab"
    assert short_revision("sha1:9f3c2ab0000000000000000000000000000000ff") == "9f3c2ab"
    assert short_revision("v1.2.3") == "v1.2.3"
