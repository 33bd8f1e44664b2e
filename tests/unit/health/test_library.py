"""Every sample of every bundled rule gives the state that it is a sample of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from clusterstack.core.health import MESSAGE_LENGTH, Context, RuleSet, State, judge, related_refs
from clusterstack.core.health.rules import RuleSpec, library
from clusterstack.core.objects import Manifest

STATES = {
    "current": State.CURRENT,
    "inProgress": State.IN_PROGRESS,
    "degraded": State.DEGRADED,
    "failed": State.FAILED,
    "suspended": State.SUSPENDED,
}


def instance(kind: str, sample: dict[str, Any]) -> Manifest:
    """A sample as an object of generation 2."""
    group, _, name = kind.rpartition("/")
    made: Manifest = {
        "apiVersion": "v1" if group == "v1" else f"{group}/v1",
        "kind": "Anything" if name == "*" else name,
        "metadata": {"name": "sample", "namespace": "ns", "generation": 2},
        "spec": {},
        "status": {},
    }
    for field, value in sample.items():
        made[field] = {**made[field], **value}
    return made


def samples() -> Iterator[Any]:
    for spec in library():
        for wanted, objects in spec.t.items():
            for index, sample in enumerate(objects):
                for kind in spec.kinds:
                    yield pytest.param(kind, sample, STATES[wanted], id=f"{kind}-{wanted}-{index}")


@pytest.mark.parametrize(("kind", "sample", "expected"), list(samples()))
def test_a_sample_gives_its_state(rules: RuleSet, kind: str, sample: dict[str, Any], expected: State) -> None:
    obj = instance(kind, sample)
    related = {
        ref: {
            "apiVersion": f"{ref.group}/v1",
            "kind": ref.kind,
            "metadata": {"name": ref.name},
            "status": {"phase": "Succeeded"},
        }
        for ref in related_refs(obj, rules)
    }
    verdict = judge(obj, Context(rules=rules, related=related, now=1e9))
    assert verdict.state is expected
    assert verdict.message or expected is State.CURRENT
    assert len(verdict.message) <= MESSAGE_LENGTH


def test_the_library_is_as_large_as_it_was_measured() -> None:
    specs = list(library())
    expressions = [
        expression
        for spec in specs
        for expression in (spec.current, spec.in_progress, spec.failed, spec.degraded, spec.suspended, spec.info)
        if expression
    ]
    assert len(expressions) >= 160
    assert sum(len(objects) for spec in specs for objects in spec.t.values()) >= 194


@pytest.mark.parametrize("spec", list(library()), ids=lambda spec: spec.kinds[0])
def test_a_rule_is_sampled_and_every_state_it_has_an_expression_for_is_known(spec: RuleSpec) -> None:
    assert spec.t
    assert set(spec.t) <= set(STATES)


@pytest.mark.parametrize("spec", list(library()), ids=lambda spec: spec.kinds[0])
def test_a_rule_judges_an_empty_object_without_an_error(rules: RuleSet, spec: RuleSpec) -> None:
    for kind in spec.kinds:
        bare = {key: value for key, value in instance(kind, {}).items() if key not in ("spec", "status")}
        for obj in (instance(kind, {}), bare):
            verdict = judge(obj, Context(rules=rules))
            assert verdict.state is not State.UNKNOWN, verdict
            assert verdict.reason != "FieldMissing", verdict


def test_no_kind_has_two_bundled_rules() -> None:
    kinds = [kind for spec in library() for kind in spec.kinds]
    assert sorted(kinds) == sorted(set(kinds))
