"""Rules out of texts and ConfigMaps: what is right is taken, what is wrong is named by key, index, field and place."""

from __future__ import annotations

from typing import Any

import pytest

from clusterstack.core.health import Context, Policy, RuleSet, State, judge
from clusterstack.core.health.rulefile import Loaded, load_config_map, read_rules
from clusterstack.errors import SpecError

FOO: dict[str, Any] = {
    "apiVersion": "example.com/v1",
    "kind": "Foo",
    "metadata": {"name": "x"},
    "status": {"phase": "Down", "conditions": [{"type": "Ready", "status": "True"}]},
}
OURS = "- {for: [example.com/Foo], current: \"has(status.phase) && status.phase == 'Up'\"}\n"
FLUX = "{apiVersion: example.com/v9, kind: Foo, current: \"has(status.phase) && status.phase == 'Up'\"}\n"


def loaded(rules: RuleSet, **texts: str) -> Loaded:
    return load_config_map({"apiVersion": "v1", "kind": "ConfigMap", "data": texts}, over=rules)


@pytest.mark.parametrize("text", [OURS, FLUX, f"rules:\n{OURS}", f"- {FLUX}"], ids=["ours", "one", "rules", "list"])
def test_both_shapes_are_read_one_or_many(rules: RuleSet, text: str) -> None:
    found = loaded(rules, key=text)
    assert (found.count, found.problems, found.warnings) == (1, (), ())
    assert judge(FOO, Context(rules=rules)).state is State.CURRENT
    verdict = judge(FOO, Context(rules=found.rules))
    assert (verdict.state, verdict.rule) == (State.IN_PROGRESS, "key[0]")


def test_cluster_wide_rules_do_not_count_where_flux_would_judge(rules: RuleSet) -> None:
    found = loaded(rules, key=OURS).rules
    assert judge(FOO, Context(rules=found, policy=Policy.KSTATUS)).state is State.CURRENT


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[", "bad, line 2: "),
        ("3", "bad: is no list of rules"),
        ("- a\n", "bad[0]: is no rule"),
        ("a: 1\n---\nb: 2\n", "bad, line 3: a second document"),
        ("- {current: 'true'}\n", "bad[0]: apiVersion: is missing"),
        ("- {for: [Foo], current: 'true'}\n", "bad[0]: 'Foo' is not group/Kind"),
        ("- {for: [a/B], curent: 'true', current: 'true'}\n", "bad[0]: curent: is no field of a health rule"),
        ("- {for: [a/B], like: nothing}\n", "bad[0]: like: 'nothing'"),
        (
            "- {for: [a/B], current: 'true', failed: 'status.a ==== 1'}\n",
            "bad[0].failed: line 1, column 12: Syntax error: extraneous input '==' in CEL expression 'status.a ==== 1'",
        ),
        ("- {for: [a/B], current: 'true', message: 'a ..'}\n", "bad[0].message: line 1, column 4: "),
        ("- {for: [a/B], current: " + "+".join("a" * 99) + "}\n", "bad[0].current: Exceeded max recursion depth"),
    ],
)
def test_what_is_wrong_is_left_out_and_told_and_the_others_hold(rules: RuleSet, text: str, says: str) -> None:
    found = loaded(rules, bad=text, good=OURS)
    assert found.count == 1
    assert len(found.problems) == 1
    assert found.problems[0].startswith(says)
    assert judge(FOO, Context(rules=found.rules)).state is State.IN_PROGRESS


def test_a_binary_key_is_told(rules: RuleSet) -> None:
    found = load_config_map({"binaryData": {"blob": "AA=="}, "data": {"good": OURS}}, over=rules)
    assert (found.count, found.problems) == (1, ("blob: is binary, not text",))


def test_no_config_map_and_an_empty_one_change_nothing(rules: RuleSet) -> None:
    assert load_config_map(None, over=rules) == Loaded(rules)
    assert judge(FOO, Context(rules=loaded(rules, empty="", null="null").rules)).state is State.CURRENT


def test_a_risky_expression_is_warned_of(rules: RuleSet) -> None:
    found = loaded(rules, key="- {for: [a/B], current: \"status.phase == 'Up'\"}\n")
    assert found.problems == ()
    assert found.warnings[0].startswith("key[0].current: fails on an object without status (no field 'phase')")


def test_a_flux_rule_may_say_more_than_flux(rules: RuleSet) -> None:
    rule = {
        "apiVersion": "example.com/v1",
        "kind": "Foo",
        "current": "status.phase == 'Up'",
        "degraded": "status.phase == 'Down'",
        "suspended": "status.phase == 'Off'",
        "message": "'it is ' + status.phase",
    }
    mine = rules.with_expressions([rule], source="layer")
    down = judge(FOO, Context(rules=mine))
    assert (down.state, down.message) == (State.DEGRADED, "it is Down")
    off = judge({**FOO, "status": {"phase": "Off"}}, Context(rules=mine))
    assert off.state is State.SUSPENDED


def test_the_text_of_a_file_that_is_wrong_is_an_error() -> None:
    with pytest.raises(SpecError, match=r"rules.yaml: is no list of rules") as caught:
        read_rules("text", source="rules.yaml")
    assert caught.value.reason == "RuleInvalid"
