"""Every sample of every bundled rule gives the state that it is a sample of, and the library is as large as it says."""

from __future__ import annotations

import json
from fnmatch import fnmatchcase

import pytest

from clusterstack.core.health import MESSAGE_LENGTH, Context, Level, RuleSet, State, judge
from clusterstack.core.health.rules import RuleSpec, library
from clusterstack.core.health.samples import NOW, STATES, counted, instance, judged, main, samples, samples_of

SPECS = list(library())
EXPRESSIONS = {"inProgress": "in_progress", "failed": "failed", "degraded": "degraded", "suspended": "suspended"}

each_rule = pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.kinds[0])


@each_rule
def test_each_sample_of_a_rule_gives_its_state(rules: RuleSet, spec: RuleSpec) -> None:
    for sample in samples_of(spec):
        verdict = judged(sample, rules)
        assert verdict.state is sample.state, f"{sample.name}: {verdict}"
        assert verdict.message or sample.state is State.CURRENT, f"{sample.name} says nothing"
        assert len(verdict.message) <= MESSAGE_LENGTH


@each_rule
def test_a_rule_has_a_sample_of_each_state_that_it_can_give(rules: RuleSet, spec: RuleSpec) -> None:
    states = {"current", *(state for state, name in EXPRESSIONS.items() if getattr(spec, name))}
    if judge(instance(spec.kinds[0], {}), Context(rules=rules, now=NOW)).state is State.IN_PROGRESS:
        states.add("inProgress")
    assert states <= set(spec.t) <= set(STATES)


@each_rule
def test_a_rule_names_what_it_was_written_from(spec: RuleSpec) -> None:
    assert all(sample.source for sample in samples_of(spec))


@each_rule
def test_samples_are_of_kinds_that_their_rule_is_for(spec: RuleSpec) -> None:
    for sample in samples_of(spec):
        assert any(fnmatchcase(sample.kind, kind) for kind in spec.kinds), sample.name


@each_rule
def test_a_rule_judges_an_empty_object_without_an_error(rules: RuleSet, spec: RuleSpec) -> None:
    for kind in spec.kinds:
        whole = instance(kind, {})
        bare = {key: value for key, value in whole.items() if key not in ("spec", "status")}
        for obj in (whole, bare):
            verdict = judge(obj, Context(rules=rules))
            assert verdict.state is not State.UNKNOWN, verdict
            assert verdict.reason != "FieldMissing", verdict


def test_no_kind_has_two_bundled_rules() -> None:
    kinds = [kind for spec in SPECS for kind in spec.kinds]
    assert sorted(kinds) == sorted(set(kinds))


def test_at_least_250_kinds_show_what_kstatus_gets_wrong_or_fail_for_good() -> None:
    assert len(counted(list(samples()))) >= 250


def test_the_tool_prints_one_line_of_json_and_succeeds(capsys: pytest.CaptureFixture[str]) -> None:
    assert main() == 0
    lines = capsys.readouterr().out.splitlines()
    report = json.loads(lines[0])
    assert len(lines) == 1
    assert list(report) == ["kinds", "rules", "samples", "failed"]
    assert report["rules"] == len(SPECS)
    assert report["failed"] == 0


# ---- groups ---------------------------------------------------------------------------------------------------------


def word(rules: RuleSet, kind: str) -> str:
    return judge(instance(kind, {}), Context(rules=rules, now=NOW)).message


def test_a_rule_for_the_parts_of_a_group_is_beaten_by_the_group_and_by_the_kind() -> None:
    def rule(kinds: str, said: str) -> dict[str, object]:
        return {"for": [kinds], "current": "false", "failed": "true", "message": f"'{said}'"}

    mine = RuleSet.bundled().with_rules(
        [rule("*.example.com/*", "parts"), rule("a.example.com/*", "group"), rule("a.example.com/One", "kind")],
        source="test",
        level=Level.STACK,
    )
    assert word(mine, "a.example.com/One") == "kind"
    assert word(mine, "a.example.com/Two") == "group"
    assert word(mine, "b.example.com/Two") == "parts"
    assert word(mine, "deep.b.example.com/Two") == "parts"
    assert word(mine, "example.com/Two") == ""
    assert word(mine, "notexample.com/Two") == ""


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("infrastructure.cluster.x-k8s.io/AWSMachineTemplate", State.CURRENT),
        ("infrastructure.cluster.x-k8s.io/AWSMachine", State.IN_PROGRESS),
        ("controlplane.cluster.x-k8s.io/K0sControlPlaneTemplate", State.CURRENT),
        ("aws.upbound.io/ProviderConfig", State.CURRENT),
        ("dynamodb.services.k8s.aws/Table", State.IN_PROGRESS),
        ("core.cnrm.cloud.google.com/NamespaceController", State.CURRENT),
        ("compute.cnrm.cloud.google.com/ComputeInstance", State.IN_PROGRESS),
    ],
)
def test_a_group_rule_leaves_kinds_without_readiness_alone(rules: RuleSet, kind: str, expected: State) -> None:
    assert judge(instance(kind, {}), Context(rules=rules, now=NOW)).state is expected
