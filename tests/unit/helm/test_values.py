"""Values from ConfigMaps, Secrets and the release itself, in Flux's order."""

from __future__ import annotations

from typing import Any

import pytest

from clusterstack.core.objects import ObjectRef
from clusterstack.helm.spec import ReleaseSpec, RepoChart, ValuesReference
from clusterstack.helm.values import Composed, Invalid, Missing, Reader, coalesce, compose, data_of, merge, sources


def release(values: dict[str, Any], *references: ValuesReference) -> ReleaseSpec:
    return ReleaseSpec(
        id="apps/web",
        layer="base",
        origin=ObjectRef("helm.toolkit.fluxcd.io", "HelmRelease", "apps", "web"),
        release_name="web",
        namespace="apps",
        storage_namespace="apps",
        chart=RepoChart("https://charts.example.org", "web"),
        values=values,
        values_from=references,
    )


def secret(name: str = "s", key: str = "values.yaml", path: str = "", **flags: bool) -> ValuesReference:
    return ValuesReference("Secret", "apps", name, key, path, **flags)


def config(name: str = "c", key: str = "values.yaml", path: str = "", **flags: bool) -> ValuesReference:
    return ValuesReference("ConfigMap", "apps", name, key, path, **flags)


S, C = ("Secret", "apps", "s"), ("ConfigMap", "apps", "c")


def composed(spec: ReleaseSpec, reader: Reader) -> dict[str, Any]:
    answer = compose(spec, reader)
    assert isinstance(answer, Composed), answer
    return answer.values


def test_later_references_win_and_inline_values_win_over_all() -> None:
    reader: Reader = {C: {"values.yaml": "a: 1\nb: {c: 1, d: 1}\nx: 1"}, S: {"values.yaml": b"b: {c: 2}\nx: 2"}}
    assert composed(release({"x": 3}, config(), secret()), reader) == {"a": 1, "b": {"c": 2, "d": 1}, "x": 3}


def test_a_map_and_a_scalar_replace_each_other() -> None:
    reader: Reader = {
        C: {"values.yaml": "flat: value\nnested: {a: b}"},
        S: {"values.yaml": "flat: {nested: value}\nnested: value"},
    }
    assert composed(release({}, config(), secret()), reader) == {"flat": {"nested": "value"}, "nested": "value"}


def test_null_stays_for_the_chart_to_see() -> None:
    assert composed(release({"a": {"b": None}}, config()), {C: {"values.yaml": "a: {b: 1}"}}) == {"a": {"b": None}}


def test_a_target_path_sets_one_value_over_the_inline_ones() -> None:
    spec = release({"a": {"b": 1, "c": 2}}, secret(key="password", path="a.b"))
    assert composed(spec, {S: {"password": b"hunter2"}}) == {"a": {"b": "hunter2", "c": 2}}
    assert spec.values == {"a": {"b": 1, "c": 2}}, "the declared values are not changed"


def test_an_inline_value_wins_at_a_target_path_once_an_earlier_reference_shares_its_map() -> None:
    spec = release({"a": {"b": 1}}, config(), secret(key="p", path="a.b"))
    assert composed(spec, {C: {"values.yaml": "a: {z: 1}"}, S: {"p": b"x"}}) == {"a": {"b": 1, "z": 1}}


def test_a_target_path_into_an_inline_list_survives_a_later_reference() -> None:
    spec = release({"l": {"c": ["list", "item"]}}, secret(key="k", path="l.c[0]"), config())
    reader: Reader = {C: {"values.yaml": "flat: 1\nl: {c: [one, two, three]}"}, S: {"k": b"value"}}
    assert composed(spec, reader) == {"flat": 1, "l": {"c": ["value", "item"]}}


def test_escaped_dots_belong_to_the_key() -> None:
    path = r"grafana.grafana\.ini.auth\.generic_oauth.client_secret"
    spec = release({"grafana": {"grafana.ini": {"server": {"d": 1}}}}, secret(key="client-secret", path=path))
    assert composed(spec, {S: {"client-secret": b"xyz"}}) == {
        "grafana": {"grafana.ini": {"server": {"d": 1}, "auth.generic_oauth": {"client_secret": "xyz"}}}
    }


def test_a_value_is_typed_unless_it_is_literal() -> None:
    reader: Reader = {S: {"k": b"true"}}
    assert composed(release({}, secret(key="k", path="a")), reader) == {"a": True}
    assert composed(release({}, secret(key="k", path="a", literal=True)), reader) == {"a": "true"}


def test_a_missing_object_is_waited_for_unless_optional() -> None:
    assert compose(release({}, secret()), {}) == Missing(*S, "", "Secret apps/s does not exist yet")
    assert compose(release({}, secret()), {S: None}) == Missing(*S, "", "Secret apps/s does not exist yet")
    assert composed(release({"a": 1}, secret(optional=True)), {}) == {"a": 1}


def test_a_missing_key_is_waited_for_unless_optional() -> None:
    answer = compose(release({}, secret(key="password")), {S: {}})
    assert answer == Missing(*S, "password", "Secret apps/s has no key password yet")
    assert composed(release({}, secret(key="password", optional=True)), {S: {}}) == {}


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        (b"hunter2: [", secret()),
        (b"hunter2", secret()),
        (b"- hunter2", secret()),
        (b"hunter2\xff", secret()),
        (b"hunter2,hunter3", secret(path="a")),
        (b"{hunter2", secret(path="a")),
        (b"hunter2", secret(path="a[x]")),
    ],
)
def test_what_cannot_be_used_is_named_but_never_quoted(text: bytes, reference: ValuesReference) -> None:
    answer = compose(release({}, reference), {S: {"values.yaml": text}})
    assert isinstance(answer, Invalid)
    assert "Secret apps/s, key values.yaml" in answer.message
    assert "hunter" not in answer.message


def test_an_empty_document_is_an_empty_map() -> None:
    assert composed(release({"a": 1}, config()), {C: {"values.yaml": ""}}) == {"a": 1}


def test_other_kinds_cannot_hold_values() -> None:
    reference = ValuesReference("Deployment", "apps", "x")
    assert isinstance(compose(release({}, reference), {}), Invalid)


def test_each_source_is_named_once() -> None:
    spec = release({}, secret(key="a", path="a"), config(), secret(key="b", path="b"))
    assert sources(spec) == (S, C)


def test_data_is_decoded() -> None:
    assert data_of({"kind": "Secret", "data": {"a": "aHVudGVy"}}) == {"a": b"hunter"}
    assert data_of({"kind": "ConfigMap", "data": {"a": "x"}, "binaryData": {"b": "eQ=="}}) == {"a": b"x", "b": b"y"}
    assert data_of({"kind": "Secret"}) == {}


def test_merging_shares_nothing_it_changes() -> None:
    base = {"a": {"b": 1}}
    assert merge(base, {"a": {"c": 2}}) == {"a": {"b": 1, "c": 2}}
    assert base == {"a": {"b": 1}}


@pytest.mark.parametrize(
    ("over", "defaults", "expected"),
    [
        ({"a": None}, {"a": 1, "b": 2}, {"b": 2}),
        ({"a": {"x": None}}, {"a": {"x": 1, "y": 2}}, {"a": {"y": 2}}),
        ({"a": None}, {}, {"a": None}),
        ({}, {"a": None}, {}),
        ({"a": 1}, {"a": {"x": 1}}, {"a": 1}),
        ({"a": {"x": 1}}, {"a": 1}, {"a": {"x": 1}}),
        ({"a": [1]}, {"a": [2, 3]}, {"a": [1]}),
    ],
)
def test_null_deletes_a_charts_default(
    over: dict[str, Any], defaults: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert coalesce(over, defaults) == expected
