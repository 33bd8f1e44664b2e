"""Completing sparse objects: what a schema requires is added, what the object says stays."""

from __future__ import annotations

from typing import Any

import pytest

from testbed.complete import MOMENT, complete

TEXT = {"type": "string"}
COUNT = {"type": "integer"}


def obj(required: list[str] | None = None, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": required or []}


def test_required_fields_are_added_and_optional_ones_are_not() -> None:
    schema = obj(["spec"], spec=obj(["name"], name=TEXT, size=COUNT))
    assert complete({}, schema) == {"spec": {"name": "sample"}}


def test_what_the_object_says_stays() -> None:
    schema = obj(["a", "b"], a=TEXT, b=COUNT)
    assert complete({"a": "mine", "c": {"d": 1}}, schema) == {"a": "mine", "b": 1, "c": {"d": 1}}


def test_a_required_field_with_a_default_is_left_to_the_server() -> None:
    assert complete({}, obj(["a"], a={**TEXT, "default": "x"})) == {}


def test_the_objects_in_a_list_and_in_a_map_are_completed() -> None:
    entry = obj(["status", "lastTransitionTime"], status=TEXT, lastTransitionTime={**TEXT, "format": "date-time"})
    schema = obj(conditions={"type": "array", "items": entry}, by={"type": "object", "additionalProperties": entry})
    told = complete({"conditions": [{"status": "True"}], "by": {"x": {"status": "False"}}}, schema)
    assert told["conditions"] == [{"status": "True", "lastTransitionTime": MOMENT}]
    assert told["by"]["x"] == {"status": "False", "lastTransitionTime": MOMENT}


@pytest.mark.parametrize(
    ("schema", "made"),
    [
        ({**TEXT, "enum": ["b", "a"]}, "b"),
        ({**TEXT, "pattern": "^https://"}, "https://sample.example"),
        ({**TEXT, "minLength": 8}, "samplexx"),
        ({**TEXT, "maxLength": 1}, "s"),
        ({**COUNT, "minimum": 7}, 7),
        ({**COUNT, "minimum": 7, "exclusiveMinimum": True}, 8),
        ({**COUNT, "maximum": 0}, 0),
        ({"type": "boolean"}, False),
        ({"x-kubernetes-int-or-string": True, "anyOf": [COUNT, TEXT]}, 1),
        ({"type": "array", "minItems": 2, "items": TEXT}, ["sample", "sample"]),
        ({"type": "object", "minProperties": 1, "additionalProperties": TEXT}, {"sample0": "sample"}),
        ({"type": "object", "minProperties": 1, "properties": {"a": COUNT}}, {"a": 1}),
    ],
)
def test_a_made_value_fits_its_schema(schema: dict[str, Any], made: Any) -> None:
    assert complete({}, obj(["field"], field=schema)) == {"field": made}


def test_one_branch_of_a_choice_is_fulfilled() -> None:
    schema = {**obj(a=TEXT, b=TEXT), "oneOf": [{"required": ["a"]}, {"required": ["b"]}]}
    assert complete({}, schema) == {"a": "sample"}
    assert complete({"b": "mine"}, schema) == {"b": "mine"}


def test_a_pattern_that_nothing_matches_is_named_with_its_field() -> None:
    with pytest.raises(LookupError, match=r"\.spec\.id.*\^zz"):
        complete({"spec": {}}, obj(spec=obj(["id"], id={**TEXT, "pattern": "^zz"})))
