"""CEL as Flux evaluates it: conformance vectors, and what the adapter adds."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import pytest

from clusterstack.core.health.cel import Compiler, EvaluationError, literals_of, project, roots_of, without_negations
from clusterstack.errors import SpecError

OBJECT: dict[str, Any] = {
    "metadata": {"name": "x", "generation": 2, "annotations": {"a/b": "c"}},
    "spec": {"replicas": 3, "ratio": 1.5, "on": True, "nothing": None, "names": ["a", "b"]},
    "status": {
        "observedGeneration": 2,
        "phase": "Ready",
        "replicas": "2/2",
        "conditions": [
            {"type": "Ready", "status": "True", "reason": "Ok"},
            {"type": "Synced", "status": "False"},
        ],
        "disks": {"d1": {"state": "ready"}, "d2": {"state": "failed-x"}},
    },
}

READY = "c.type == 'Ready' && c.status == 'True'"


@pytest.fixture(scope="module")
def compiler() -> Compiler:
    return Compiler()


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("has(status.phase)", True),
        ("has(status.nope)", False),
        ("has(spec.nothing)", True),
        ("spec.nothing == null", True),
        ("has(status.conditions[0].reason)", True),
        ("has(status.conditions[1].reason)", False),
        (f"status.conditions.exists(c, {READY})", True),
        (f"status.conditions.exists_one(c, {READY})", True),
        (f"status.conditions.all(c, {READY})", False),
        (f"status.conditions.filter(c, {READY}).size()", 1),
        ("status.conditions.map(c, c.type)", ["Ready", "Synced"]),
        ("status.conditions.map(c, c.status == 'True', c.type)", ["Ready"]),
        ("status.conditions.filter(c, c.type == 'Nope').all(c, c.status == 'True')", True),
        ("status.conditions.exists(c, c.reason == 'Ok')", True),
        ("status.conditions.exists(c, c.reason == 'Nope' || c.type == 'Synced')", True),
        ("status.conditions.all(c, c.status == 'True' && c.reason == 'Ok')", False),
        ("[1, 2, 3].exists(x, x > 2)", True),
        ("[].all(x, x > 2)", True),
        ("[].exists(x, true)", False),
        ("status.disks.all(k, status.disks[k].state == 'ready')", False),
        ("status.disks.exists(k, status.disks[k].state.startsWith('failed'))", True),
        ("size(status.disks)", 2),
        ("size('äbc')", 3),
        ("'d1' in status.disks", True),
        ("'a/b' in metadata.annotations", True),
        ("metadata.annotations['a/b']", "c"),
        ("status.phase in ['Ready', 'Running']", True),
        ("spec.replicas == 3", True),
        ("spec.replicas == 3.0", True),
        ("spec.replicas > 2.5", True),
        ("spec.ratio < 2", True),
        ("spec.replicas == '3'", False),
        ("spec.on", True),
        ("spec.on && !has(spec.off)", True),
        ("!spec.on || true", True),
        ("false && status.nope", False),
        ("status.nope == 1 || true", True),
        ("true || status.nope == 1", True),
        ("status.nope == 1 && false", False),
        ("spec.on ? 'yes' : 'no'", "yes"),
        ("has(spec.replicas) ? spec.replicas : 1", 3),
        ("1 + 2 * 3", 7),
        ("7 / 2", 3),
        ("7 % 2", 1),
        ("-spec.replicas", -3),
        ("'a' + 'b'", "ab"),
        ("[1] + [2]", [1, 2]),
        ("string(metadata.generation) + '-'", "2-"),
        ("int('12')", 12),
        ("double('1.5')", 1.5),
        ("status.replicas.split('/')[0] == status.replicas.split('/')[1]", True),
        ("status.replicas.matches('^[0-9]+/[0-9]+$')", True),
        ("'ConnectorReady'.endsWith('Ready')", True),
        ("'Import Job failed'.contains('Job')", True),
        ("'abc'.charAt(1)", "b"),
        ("'abc'.indexOf('c')", 2),
        ("'abc'.substring(1)", "bc"),
        ("'abc'.upperAscii()", "ABC"),
        ("'a-b'.replace('-', '+')", "a+b"),
        ("' a '.trim()", "a"),
        ("['a', 'b'].join(',')", "a,b"),
        ("'%s is %d'.format(['x', 1])", "x is 1"),
        ("base64.encode(b'x')", "eA=="),
        ("string(base64.decode('eA=='))", "x"),
        ("status.?phase.orValue('')", "Ready"),
        ("status.?nope.orValue('none')", "none"),
        ("status.?nope.hasValue()", False),
        ("sets.contains(spec.names, ['a'])", True),
        ("sets.contains(spec.names, ['z'])", False),
        ("sets.equivalent(spec.names, ['b', 'a', 'a'])", True),
        ("sets.intersects(spec.names, ['z', 'b'])", True),
        ("duration('1h') > duration('30m')", True),
        ("duration('90s')", timedelta(seconds=90)),
        ("timestamp('2026-01-01T00:00:00Z') < timestamp('2026-01-02T00:00:00Z')", True),
        ("timestamp('2026-01-02T03:00:00Z').getHours()", 3),
        ("type(spec.replicas) == int", True),
    ],
)
def test_an_expression_has_its_value(compiler: Compiler, expression: str, expected: Any) -> None:
    program = compiler.compile(expression, where="test")
    value = program.value(compiler.activation(OBJECT))
    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize("expression", ["has(status)", "1 +", "status.", "'open", "a b", "(" * 200 + "1" + ")" * 200])
def test_what_is_no_expression_is_refused_with_its_position(compiler: Compiler, expression: str) -> None:
    with pytest.raises(SpecError, match=r"layer apps: .*CEL expression") as caught:
        compiler.compile(expression, where="layer apps")
    assert caught.value.reason == "RuleInvalid"


def test_the_fault_is_located(compiler: Compiler) -> None:
    with pytest.raises(SpecError, match="line 1, column 4: Syntax error"):
        compiler.compile("1 +", where="test")


@pytest.mark.parametrize(
    ("expression", "missing"),
    [("status.nope == 1", "nope"), ("nope.x == 1", "nope"), ("status.nope.deeper", "nope"), ("data.x", "data")],
)
def test_an_absent_field_is_named(compiler: Compiler, expression: str, missing: str) -> None:
    with pytest.raises(EvaluationError) as caught:
        compiler.compile(expression, where="test").value(compiler.activation(OBJECT))
    assert caught.value.missing == missing


@pytest.mark.parametrize("expression", ["spec.replicas > 'x'", "nope(1)", "1 / 0", "'x'.matches('(')", "[1][5]"])
def test_other_faults_are_told_apart_from_absent_fields(compiler: Compiler, expression: str) -> None:
    with pytest.raises(EvaluationError) as caught:
        compiler.compile(expression, where="test").value(compiler.activation(OBJECT))
    assert not caught.value.missing


def test_a_rule_must_give_a_truth_value(compiler: Compiler) -> None:
    with pytest.raises(EvaluationError, match="gives int, not a bool"):
        compiler.compile("1", where="test").holds(compiler.activation({}))


def test_a_runaway_expression_is_stopped_at_once(compiler: Compiler) -> None:
    program = compiler.compile("r.all(a, r.all(b, r.all(c, r.all(d, true))))", where="test")
    started = time.perf_counter()
    with pytest.raises(EvaluationError, match="budget"):
        program.holds(compiler.activation({"r": list(range(1000))}))
    assert time.perf_counter() - started < 0.5


def test_a_catastrophic_regex_is_harmless(compiler: Compiler) -> None:
    program = compiler.compile("s.matches('^(a+)+$')", where="test")
    started = time.perf_counter()
    assert program.holds(compiler.activation({"s": "a" * 5000 + "!"})) is False
    assert time.perf_counter() - started < 0.5


def test_a_huge_expression_is_refused(compiler: Compiler) -> None:
    with pytest.raises(SpecError, match="longer than"):
        compiler.compile("true || " * 2000 + "true", where="test")


@pytest.mark.parametrize(
    ("expression", "field", "expected"),
    [
        ("has(status.a) && status.b == 1", "status", {"a", "b"}),
        ("status.a.b.exists(c, c.status == 'x')", "status", {"a"}),
        ("size(status) > 1", "status", None),
        ("status['a'] == 1", "status", None),
        ("status.?a.orValue(1)", "status", None),
        ("status.all(k, true)", "status", None),
        ("status.a == 1 && status == x", "status", None),
        ("metadata.generation == status.a", "metadata", {"generation"}),
    ],
)
def test_what_an_expression_looks_at_is_read_off_its_text(
    expression: str, field: str, expected: set[str] | None
) -> None:
    assert roots_of(expression)[field] == expected


def test_strings_are_not_taken_for_fields() -> None:
    assert "spec" not in roots_of("status.phase == 'spec.x'")
    assert literals_of("a == 'x' && b in [\"y\", 'z']") == {"x", "y", "z"}


def test_only_what_is_looked_at_is_passed_on() -> None:
    projected = project(OBJECT, roots_of("status.phase == 'x' && has(spec.replicas)"), defaults=("status",))
    assert projected == {"status": {"phase": "Ready"}, "spec": {"replicas": 3}}


def test_a_null_is_absent_for_our_rules_and_there_for_flux() -> None:
    roots, obj = roots_of("has(status.conditions) && status.phase == 'x'"), {"status": {"conditions": None, "phase": 0}}
    assert project(obj, roots, defaults=("spec", "status")) == {"spec": {}, "status": {"phase": 0}}
    assert project(obj, roots) == {"status": {"conditions": None, "phase": 0}}


def test_negated_groups_are_told_from_the_rest() -> None:
    text = "!has(a.b) && x.exists(c, c == 'Yes') && !x.exists(c, (c == 'No') || c == 'Never') && y == 'Also'"
    assert literals_of(without_negations(text)) == {"Yes", "Also"}
