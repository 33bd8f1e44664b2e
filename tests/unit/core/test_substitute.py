"""Substitution as Flux's postBuild does it."""

from __future__ import annotations

import time
from typing import Any

import pytest

from clusterstack.core.envsubst import ExpansionError, expand
from clusterstack.core.objects import Manifest
from clusterstack.core.substitute import substitute
from clusterstack.errors import RenderError

VARIABLES = {
    "word": "abcABC123ABCabc",
    "path": "/home/bozo/ideas",
    "file": "bash.string.txt",
    "empty": "",
    "umlaut": "äöü",
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("${word}", "abcABC123ABCabc"),
        ("a${word}b${word}c", "aabcABC123ABCabcbabcABC123ABCabcc"),
        ("${#word}", "15"),
        ("${#umlaut}", "6"),
        ("${word^}", "AbcABC123ABCabc"),
        ("${word^^}", "ABCABC123ABCABC"),
        ("${file,}", "bash.string.txt"),
        ("${word,,}", "abcabc123abcabc"),
        ("${word:12}", "abc"),
        ("${word:3:3}", "ABC"),
        ("${word:3:-3}", "ABC123ABC"),
        ("${word:99}", ""),
        ("${word:9:99}", "ABCabc"),
        ("${word: -3}", "abcABC123ABCabc"),
        ("${word:x}", "abcABC123ABCabc"),
        ("${umlaut:2:2}", "ö"),
        ("${file#*.}", "string.txt"),
        ("${file##*.}", "txt"),
        ("${file%.*}", "bash.string"),
        ("${file%%.*}", "bash"),
        ("${path#*/}", "home/bozo/ideas"),
        ("${path##*/}", "ideas"),
        ("${word#[a-c]}", "bcABC123ABCabc"),
        ("${word#[^a-c]}", "abcABC123ABCabc"),
        ("${word#?b}", "cABC123ABCabc"),
        ("${word#[a}", "abcABC123ABCabc"),
        ("${word#zzz}", "abcABC123ABCabc"),
        ("${word/abc/X}", "XABC123ABCabc"),
        ("${word//abc/X}", "XABC123ABCX"),
        ("${word/#abc/X}", "XABC123ABCabc"),
        ("${word/#ABC/X}", "abcABC123ABCabc"),
        ("${word/%abc/X}", "abcABC123ABCX"),
        ("${word/#/pre-}", "pre-abcABC123ABCabc"),
        ("${word/%/-post}", "abcABC123ABCabc-post"),
        ("${word/abc/}", "ABC123ABCabc"),
        (r"${path//\//-}", "-home-bozo-ideas"),
        ("${nope:=d}", "d"),
        ("${nope:-d}", "d"),
        ("${nope=d}", "d"),
        ("${nope:=}", ""),
        ("${nope:+d}", "d"),
        ("${nope:?d}", "d"),
        ("${empty:-d}", "d"),
        ("${word:-d}", "abcABC123ABCabc"),
        ("${nope:-${word^^}}", "ABCABC123ABCABC"),
        ("${nope:-a-${word}-${nope:=b}}", "a-abcABC123ABCabc-b"),
        ("${nope:=http://x:80/y?a=$b}", "http://x:80/y?a=$b"),
        ("$${word}", "${word}"),
        ("$$hashKey", "$hashKey"),
        ("$word $ $1 cost: 5$", "$word $ $1 cost: 5$"),
        ("$$$", "$$"),
        ("$${word:=${word}}", "${word:=abcABC123ABCabc}"),
        ("${word}$${a$${word}$b${file}", "abcABC123ABCabc${a${word}$bbash.string.txt"),
        (r"\\n ${empty}", r"\\n "),
    ],
)
def test_a_reference_is_expanded_as_flux_expands_it(text: str, expected: str) -> None:
    assert expand(text, VARIABLES, strict=True) == expected


@pytest.mark.parametrize(
    "text",
    [
        "${nope}",
        "${#nope}",
        "${nope^}",
        "${nope,,}",
        "${nope:0}",
        "${nope#x}",
        "${nope%%x}",
        "${nope/a/b}",
        "${nope//a}",
    ],
)
def test_strictly_an_unset_variable_without_a_default_is_an_error(text: str) -> None:
    with pytest.raises(ExpansionError):
        expand(text, VARIABLES, strict=True)


def test_otherwise_an_unset_variable_is_empty() -> None:
    assert expand("a${nope}b${#nope}${nope^^}", VARIABLES, strict=False) == "ab0"


def test_a_set_but_empty_variable_is_set() -> None:
    assert expand("${empty}", VARIABLES, strict=True) == ""


@pytest.mark.parametrize(
    "text",
    [
        "${",
        "${}",
        "${ word}",
        "${word",
        "${word-d}",
        "${word|x}",
        "${word:}",
        "${word#}",
        "${word/x}",
        "${word:-",
        "${#}",
        "${word ^}",
    ],
)
@pytest.mark.parametrize("strict", [True, False])
def test_a_malformed_reference_is_an_error(text: str, strict: bool) -> None:
    with pytest.raises(ExpansionError, match="in line 2"):
        expand(f"first\n{text}", VARIABLES, strict=strict)


def test_no_pattern_can_stall() -> None:
    started = time.perf_counter()
    expand("${v##" + "*a" * 40 + "*b}", {"v": "a" * 2000}, strict=True)
    assert time.perf_counter() - started < 5


# ---- objects --------------------------------------------------------------------------------------------------------


def config(data: Any, **metadata: Any) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "x", "namespace": "ns", **metadata},
        "data": data,
    }


def replaced(data: Any, **variables: str) -> Any:
    return substitute(config(data), variables, strict=True)["data"]


@pytest.mark.parametrize(
    ("given", "value", "expected"),
    [
        ("${v}", "text", "text"),
        ("${v}", "8080", 8080),
        ("${v}", "true", True),
        ("${v}", "", None),
        ("port ${v}", "8080", "port 8080"),
        ("${v}", "'8080'", "8080"),
        ("'${v}'", "8080", "'8080'"),
        ("${v}", "[a, b]", ["a", "b"]),
        ("a\n${v}\n", "8080", "a\n8080\n"),
        ("${v}", "one\ntwo", "onetwo"),
        ("8080", "x", "8080"),
        ("true", "x", "true"),
    ],
)
def test_a_value_is_read_as_yaml_once_it_is_in_place(given: str, value: str, expected: Any) -> None:
    assert replaced({"a": given}, v=value) == {"a": expected}


def test_keys_are_expanded_too() -> None:
    assert replaced({"${v}-key": "1"}, v="my") == {"my-key": "1"}


def test_other_fields_keep_their_types() -> None:
    data = {"a": "${v}", "b": "0777", "c": 1, "d": 1.5, "e": None, "f": ["yes", True], "g": "multi\nline\n", "h": ""}
    assert replaced(data, v="x") == {**data, "a": "x"}


def test_the_given_object_is_not_changed() -> None:
    obj = config({"a": "${v}"})
    substitute(obj, {"v": "x"}, strict=True)
    assert obj == config({"a": "${v}"})


def test_without_variables_nothing_happens_unless_always() -> None:
    obj = config({"a": "${v:=x} $$b"})
    assert substitute(obj, {}, strict=True) is obj
    assert substitute(obj, {}, strict=True, always=True)["data"] == {"a": "x $b"}


def test_an_object_without_a_dollar_is_returned_as_it_is() -> None:
    obj = config({"a": "b"})
    assert substitute(obj, {"v": "x"}, strict=True) is obj


@pytest.mark.parametrize("place", ["labels", "annotations"])
@pytest.mark.parametrize("value", ["disabled", "Disabled"])
def test_a_mark_exempts_an_object(place: str, value: str) -> None:
    obj = config({"a": "${v}"}, **{place: {"kustomize.toolkit.fluxcd.io/substitute": value}})
    assert substitute(obj, {"v": "x"}, strict=True) is obj


def test_definitions_are_never_touched() -> None:
    crd = {**config({"a": "${v}"}), "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition"}
    assert substitute(crd, {"v": "x"}, strict=True) is crd


@pytest.mark.parametrize(
    ("data", "variables", "complaint"),
    [
        ({"a": "${nope}"}, {"v": "x"}, "ConfigMap ns/x: variable nope is not set and has no default"),
        ({"a": "${v"}, {"v": "x"}, r"ConfigMap ns/x: a \$\{…\} in line \d+ of the object is not closed"),
        ({"a": "${v}"}, {"v": "x", "my-var": "y"}, "ConfigMap ns/x: 'my-var' is no name for a variable"),
        ({"a": "${v}"}, {"v": "s3cret: ]"}, "ConfigMap ns/x: is no YAML once its variables are expanded"),
    ],
)
def test_a_failure_names_the_object_and_no_value(data: Any, variables: dict[str, str], complaint: str) -> None:
    with pytest.raises(RenderError, match=complaint) as caught:
        substitute(config(data), variables, strict=True)
    assert caught.value.reason == "SubstitutionFailed"
    assert caught.value.hint
    assert "s3cret" not in str(caught.value)
