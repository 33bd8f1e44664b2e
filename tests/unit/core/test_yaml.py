"""YAML as Kubernetes reads it. The expected values of the tables are what kubectl 1.36 makes of the same text."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clusterstack.core.yaml import DEPTH_LIMIT, dump, dump_all, load_all, load_value
from clusterstack.errors import RenderError

HEAD = "apiVersion: example.com/v1\nkind: Foo\nmetadata: {name: x}\n"
FOO = {"apiVersion": "example.com/v1", "kind": "Foo", "metadata": {"name": "x"}}


def value(text: str) -> Any:
    return load_value(text, source="f.yaml")


def fault(text: str | bytes) -> str:
    with pytest.raises(RenderError) as caught:
        load_value(text, source="f.yaml")
    assert caught.value.reason == "InvalidYAML"
    return str(caught.value)


SCALARS: list[tuple[str, Any]] = [
    ("yes", True),
    ("No", False),
    ("y", True),
    ("N", False),
    ("on", True),
    ("OFF", False),
    ("true", True),
    ("FALSE", False),
    ("tRue", "tRue"),
    ("null", None),
    ("~", None),
    ("nUll", "nUll"),
    ("", None),
    ("12:30", "12:30"),
    ("12:30:45", "12:30:45"),
    ("2024-01-01", "2024-01-01"),
    ("2024-01-01T00:00:00Z", "2024-01-01T00:00:00Z"),
    ("1e3", 1000),
    ("1E+3", 1000),
    ("1e-3", 0.001),
    ("1.0", 1),
    ("-0.0", 0),
    ("1.5", 1.5),
    (".5", 0.5),
    ("+.5", 0.5),
    ("5.", 5),
    ("0777", 511),
    ("0o777", 511),
    ("0O17", 15),
    ("0b101", 5),
    ("-0b101", -5),
    ("0x1F", 31),
    ("-0x1F", -31),
    ("08", 8),
    ("09.5", 9.5),
    ("1_000", 1000),
    ("1_0.5", 10.5),
    (".1_1", 0.11),
    ("._5", "._5"),
    ("+12", 12),
    ("1e400", "1e400"),
    ("9223372036854775807", 9223372036854775807),
    ("9223372036854775808", 9223372036854776000),
    ("123456789012345678901", 123456789012345680000),
    ("1e20", 100000000000000000000),
    ("1e21", 1e21),
    ("0x1.8p3", "0x1.8p3"),
    ("0b2", "0b2"),
    ("0x", "0x"),
    ("=", "="),
    ("NaN", "NaN"),
    ("Infinity", "Infinity"),
    ("1.2.3", "1.2.3"),
    ("v1", "v1"),
    ("'1'", "1"),
    ('"yes"', "yes"),
    ("!!str 12", "12"),
    ("!!float 3", 3),
    ("!!bool yes", True),
    ("!!binary aGVsbG8=", "hello"),
    ("!local 3", "3"),
    ("! 3", "3"),
]


@pytest.mark.parametrize(("text", "expected"), SCALARS)
def test_a_scalar_is_read_as_kubectl_reads_it(text: str, expected: Any) -> None:
    found = value(f"v: {text}\n")["v"]
    assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize("text", [".inf", "-.Inf", ".nan"])
def test_what_json_cannot_hold_is_refused(text: str) -> None:
    assert "f.yaml, line 2: " in fault(f"a: 1\nv: {text}\n")


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("1", "1"),
        ("1.5", "1.5"),
        ("1.0", "1"),
        ("yes", "true"),
        ("n", "false"),
        ("1e3", "1000"),
        ("1e6", "1e+06"),
        ("1000000.5", "1.0000005e+06"),
        ("123456.7", "123456.7"),
        ("0.00001", "1e-05"),
        ("0x10", "16"),
        ("12:30", "12:30"),
        ("=", "="),
        ("''", ""),
        (".inf", ".inf"),
        ("? !!int 3 ", "3"),
    ],
)
def test_a_key_becomes_text_as_in_go(key: str, expected: str) -> None:
    assert list(value(f"{{{key}: 1}}")) == [expected]


@pytest.mark.parametrize("key", ["~", "? [1]\n", "? {a: b}\n"])
def test_a_key_that_cannot_be_text_is_refused(key: str) -> None:
    assert "a key is" in fault(f"{key}: 1\n")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{a: 1, a: 2}", {"a": 2}),
        ("{a: &x 1, b: &x 2, c: *x}", {"a": 1, "b": 2, "c": 2}),
        ("{a: &x {q: 1, r: 2}, b: {<<: *x, q: 3}}", {"a": {"q": 1, "r": 2}, "b": {"q": 3, "r": 2}}),
        ("{a: &x {q: 1}, b: {q: 3, <<: *x}}", {"a": {"q": 1}, "b": {"q": 1}}),
        ("{a: &x {q: 1}, b: {<<: [*x, {q: 5, t: 2}]}}", {"a": {"q": 1}, "b": {"q": 1, "t": 2}}),
        ("{a: {'<<': 1}}", {"a": {"<<": 1}}),
        ("[a, <<]", ["a", "<<"]),
        ("{a: !foo {b: 1}, c: !bar [1]}", {"a": {"b": 1}, "c": [1]}),
        ("a:\t1", {"a": 1}),
        ("a: http://x:1/y", {"a": "http://x:1/y"}),
        ("a: >-\n  x\n\n  y\nb: |+\n  x\n\n", {"a": "x\ny", "b": "x\n\n"}),
        ('{"a": "\\u00e9 \\t"}', {"a": "é \t"}),
        ("%YAML 1.2\n---\na: 1", {"a": 1}),
        ("# nothing\n", None),
        ("", None),
    ],
)
def test_structures_are_read_as_in_go(text: str, expected: Any) -> None:
    assert value(text) == expected


def test_an_alias_gives_a_copy() -> None:
    found = value("a: &x {b: [1]}\nc: *x\nd: {<<: *x}\n")
    found["a"]["b"].append(2)
    assert found["c"] == {"b": [1]}
    assert found["d"] == {"b": [1]}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("a:\n\t- b", "line 2: "),
        ("a: [", "line 2: "),
        ("a: 1\n b: 2", "line 2: "),
        ("x: 1\na: *nope", "line 2: unknown anchor 'nope'"),
        ("&a [*a]", "line 1: anchor 'a' contains itself"),
        ("a: 1\n---\nb: 2", "line 3: a second document"),
        ("a: 1\nb: \x07", "line 2: control character"),
        ("a: @x", "line 1: "),
        ("a: !!int x", "line 1: a scalar is no !!int"),
        ("a: !!binary '!'", "line 1: !!binary"),
        ("a: {<<: 3}", "line 1: << merges"),
        (b"a: 1\nb: \xff", "line 2: is not UTF-8 text"),
        ("[" * (DEPTH_LIMIT + 1) + "]" * (DEPTH_LIMIT + 1), "nested more than"),
    ],
)
def test_a_fault_names_source_and_line(text: str | bytes, complaint: str) -> None:
    message = fault(text)
    assert message.startswith("f.yaml, line ")
    assert complaint in message


def test_a_fault_does_not_tell_what_the_file_holds() -> None:
    assert "hunter2" not in fault("password: !!int hunter2\n")
    assert "hunter2" not in fault("password: hunter2: x\n")


def test_a_bomb_of_aliases_is_refused_before_it_explodes() -> None:
    levels = "\n".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]" for n in range(1, 10))
    assert "1,000,000 nodes" in fault(f"l0: &l0 [lol]\n{levels}\n")


def test_many_aliases_of_something_small_are_fine() -> None:
    assert len(value("a: &x {b: 1}\nl: [" + ", ".join(["*x"] * 1000) + "]")["l"]) == 1000


def test_deep_nesting_within_the_limit_is_read() -> None:
    assert json.dumps(value("[" * DEPTH_LIMIT + "]" * DEPTH_LIMIT))


# ---- streams of objects ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        HEAD,
        f"---\n---\n{HEAD}---\n",
        f"---# a comment\n{HEAD}",
        f"--- # a comment\n{HEAD}",
        f"\ufeff{HEAD}",
        HEAD.replace("\n", "\r\n"),
        json.dumps(FOO),
        f"# comment only\n---\n{HEAD}...\n",
        HEAD.encode(),
        f"\ufeff{HEAD}".encode(),
        HEAD.encode("utf-16"),
    ],
)
def test_one_object_comes_out_of_however_it_is_wrapped(text: str | bytes) -> None:
    assert load_all(text, source="f.yaml") == [FOO]


def test_documents_may_be_parted_by_a_commented_separator() -> None:
    assert load_all(f"{HEAD}---# next\n{HEAD}", source="f.yaml") == [FOO, FOO]


def test_lists_are_expanded_at_any_depth() -> None:
    inner = {"apiVersion": "v1", "kind": "ConfigMapList", "items": [{"metadata": {"name": "a"}}]}
    outer = {"apiVersion": "v1", "kind": "List", "items": [inner, FOO]}
    expected = [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}, FOO]
    assert load_all(json.dumps(outer), source="f.yaml") == expected
    assert load_all("{apiVersion: v1, kind: List, items: []}", source="f.yaml") == []
    assert load_all("{apiVersion: v1, kind: List, items: }", source="f.yaml") == []


def test_a_kind_that_only_ends_in_list_is_an_object() -> None:
    made = {"apiVersion": "example.com/v1", "kind": "AllowList", "metadata": {"name": "x"}, "spec": {}}
    assert load_all(json.dumps(made), source="f.yaml") == [made]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (
            f"{HEAD}---\nkind: Foo\nmetadata: {{name: x}}\n",
            "f.yaml, line 5: is not a Kubernetes object: it has no apiVersion",
        ),
        ("apiVersion: v1\nmetadata: {name: x}\n", "no kind"),
        ("apiVersion: v1\nkind: Foo\n", "Foo has no metadata.name"),
        ("apiVersion: v1\nkind: Foo\nmetadata: {name: 3}\n", "Foo has no metadata.name"),
        ("- a\n", "is not a Kubernetes object"),
        ("just text\n", "is not a Kubernetes object"),
        ("{apiVersion: v1, kind: List, items: [3]}", "is not a Kubernetes object"),
    ],
)
def test_what_is_no_object_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(RenderError, match=complaint.replace(".", r"\.")):
        load_all(text, source="f.yaml")


# ---- writing --------------------------------------------------------------------------------------------------------

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.sampled_from(
    [text for text, _ in SCALARS]
    + ["---", "- a", "a: b", "# x", "a #b", " lead", "trail ", "x\ny", "x\n\n", "\n", "{", "*a", "&a"]
)
NUMBERS = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=200, deadline=None)
@given(VALUES)
def test_what_is_written_is_read_back(tree: Any) -> None:
    found = load_value(dump(tree), source="round trip")
    assert leaves(found) == leaves(tree)


def leaves(tree: Any) -> Any:
    """A tree whose numbers are comparable: a whole float comes back as the integer with its shortest digits."""
    match tree:
        case dict():
            return {key: leaves(item) for key, item in tree.items()}
        case list():
            return [leaves(item) for item in tree]
        case float() if tree.is_integer() and abs(tree) < 1e21:
            return int(Decimal(repr(tree)))
        case _:
            return tree


@pytest.mark.parametrize(
    "text", ["yes", "y", "0777", "0o7", "1e3", "12:30", "2024-01-01", "=", "~", "null", "1_000", ".5", "0x1f", "<<"]
)
def test_text_that_any_parser_misreads_is_quoted(text: str) -> None:
    assert dump({"v": text}).strip() in (f"v: '{text}'", f'v: "{text}"')


def test_objects_are_written_as_one_stream_with_sorted_keys_and_blocks() -> None:
    script = {**FOO, "data": {"run.sh": "a\nb\n"}}
    text = dump_all([FOO, script])
    assert text.startswith("apiVersion: example.com/v1\nkind: Foo\nmetadata:\n  name: x\n---\n")
    assert "  run.sh: |\n    a\n    b\n" in text
    assert load_all(text, source="f.yaml") == [FOO, script]


def test_nothing_is_written_as_an_alias() -> None:
    shared = {"a": [1, 2]}
    assert "&" not in dump({"x": shared, "y": shared})


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_float_survives(number: float) -> None:
    found = value(f"v: {number!r}\n")["v"]
    assert float(found) == number
