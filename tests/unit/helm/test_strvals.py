"""Helm's `--set` language, case by case as Helm's own parser reads it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clusterstack.helm.strvals import StrvalsError, parse_into, set_path


def parsed(text: str, *, strings: bool = False, onto: dict[str, Any] | None = None) -> dict[str, Any]:
    values = onto if onto is not None else {}
    parse_into(text, values, strings=strings)
    return values


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name=value", {"name": "value"}),
        ("a=1,b=2", {"a": 1, "b": 2}),
        ("a=1.5", {"a": "1.5"}),
        ("a=", {"a": ""}),
        ("a=,b=x", {"a": "", "b": "x"}),
        ("a=true,b=FALSE,c=null", {"a": True, "b": False, "c": None}),
        ("a=0,b=00,c=007,d=-3,e=+4,f=1e3", {"a": 0, "b": "00", "c": "007", "d": -3, "e": 4, "f": "1e3"}),
        ("a=9223372036854775807,b=9223372036854775808", {"a": 9223372036854775807, "b": "9223372036854775808"}),
        ("a.b.c=x", {"a": {"b": {"c": "x"}}}),
        ("a.b=1,a.c=2", {"a": {"b": 1, "c": 2}}),
        (r"a\.b=1", {"a.b": 1}),
        (r"a=x\,y", {"a": "x,y"}),
        ("a=b=c", {"a": "b=c"}),
        ("a={x,1,true}", {"a": ["x", 1, True]}),
        ("a={}", {"a": [""]}),
        ("a={x},b=y", {"a": ["x"], "b": "y"}),
        ("a[0]=x,a[2]=z", {"a": ["x", None, "z"]}),
        ("a[0].b=x,a[0].c=y", {"a": [{"b": "x", "c": "y"}]}),
        ("a[0][1]=x", {"a": [[None, "x"]]}),
        ("a[1].b.c[0].d=x", {"a": [None, {"b": {"c": [{"d": "x"}]}}]}),
        ("=x", {}),
        ("", {}),
    ],
)
def test_a_text_means_what_it_means_to_helm(text: str, expected: dict[str, Any]) -> None:
    assert parsed(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "a",
        "a,b=1",
        "a.b",
        "a.=1",
        "a[0",
        "a[x]=1",
        "a[-1]=1",
        "a[65537]=1",
        "a[0]b=1",
        "a={x",
        "a[0]",
        ".".join("a" * 32) + "=1",
    ],
)
def test_what_helm_refuses_is_refused(text: str) -> None:
    with pytest.raises(StrvalsError):
        parsed(text)


@pytest.mark.parametrize(("text", "onto"), [("a.b=1", {"a": "text"}), ("a[0]=1", {"a": {}}), ("a.b=1", {"a": None})])
def test_a_path_through_something_else_is_refused(text: str, onto: dict[str, Any]) -> None:
    with pytest.raises(StrvalsError, match="is not a"):
        parsed(text, onto=onto)


def test_what_is_there_is_kept_beside_what_is_set() -> None:
    values = {"a": {"keep": 1, "list": ["x", {"k": "v"}]}}
    assert parsed("a.list[1].n=2,a.new=3", onto=values) == {
        "a": {"keep": 1, "list": ["x", {"k": "v", "n": 2}], "new": 3}
    }


def test_an_item_that_is_not_a_map_gives_way_to_one() -> None:
    assert parsed("a[0].b=x", onto={"a": ["text"]}) == {"a": [{"b": "x"}]}


def test_strings_stay_strings_when_asked() -> None:
    assert parsed("a=1,b={true,2}", strings=True) == {"a": "1", "b": ["true", "2"]}


@pytest.mark.parametrize(
    ("text", "expected"),
    [("true", True), ("12", 12), ("'12'", "12"), ('"true"', "true"), ("p@ss", "p@ss"), ("", ""), ("{a,b}", ["a", "b"])],
)
def test_a_path_gets_a_typed_value_unless_it_is_quoted(text: str, expected: object) -> None:
    values: dict[str, Any] = {}
    set_path(values, r"grafana.grafana\.ini.secret", text)
    assert values == {"grafana": {"grafana.ini": {"secret": expected}}}


def test_a_comma_in_a_value_is_an_error_that_does_not_tell_the_value() -> None:
    with pytest.raises(StrvalsError) as caught:
        set_path({}, "a.b", "hunter2,hunter3")
    assert "hunter" not in str(caught.value)
    assert "literal" in str(caught.value)


@given(st.text(max_size=40))
def test_a_literal_value_arrives_unchanged(text: str) -> None:
    values: dict[str, Any] = {}
    set_path(values, r"a\.b.c[1].d", text, literal=True)
    assert values == {"a.b": {"c": [None, {"d": text}]}}


@given(st.text(alphabet="ab=.,[]{}0 1\\'-", max_size=24))
def test_any_text_is_read_or_refused_never_crashes(text: str) -> None:
    try:
        parsed(text)
    except StrvalsError:
        return
