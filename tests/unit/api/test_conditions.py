"""Conditions: their order, and when their transition time moves."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from clusterstack.api import conditions as c

T1, T2 = "2026-11-23T20:00:00Z", "2026-11-23T21:00:00Z"


def put(conditions: list[dict[str, Any]], type_: str, status: bool | None, *, now: str = T1, **fields: Any) -> Any:
    return c.set_condition(conditions, type_, status, reason="R", generation=1, now=now, **fields)


def test_the_transition_time_moves_only_when_the_status_changes() -> None:
    first = put([], c.READY, False, message="a")
    same = put(first, c.READY, False, now=T2, message="b")
    assert same[0]["lastTransitionTime"] == T1
    assert same[0]["message"] == "b"
    assert put(same, c.READY, None, now=T2)[0]["lastTransitionTime"] == T2
    assert put(same, c.READY, None, now=T2)[0]["status"] == "Unknown"


@given(st.permutations(c.ORDER))
def test_conditions_stand_in_the_documented_order_however_they_came(types: list[str]) -> None:
    conditions: list[dict[str, Any]] = []
    for type_ in types:
        conditions = put(conditions, type_, True)
    assert [condition["type"] for condition in conditions] == list(c.ORDER)


def test_a_dropped_condition_is_gone_and_foreign_ones_stay_last() -> None:
    conditions = put(put(put([], "Custom", True), c.DRIFTED, True), c.READY, True)
    assert [condition["type"] for condition in conditions] == [c.READY, c.DRIFTED, "Custom"]
    assert [condition["type"] for condition in c.drop_condition(conditions, c.DRIFTED)] == [c.READY, "Custom"]


def test_long_messages_are_cut_to_what_the_schema_allows() -> None:
    message = put([], c.READY, False, message="x" * 5000)[0]["message"]
    assert len(message) == c.MAX_MESSAGE
    assert message.endswith("…")


def test_the_given_conditions_are_not_changed() -> None:
    before = put([], c.READY, False)
    copy = [dict(condition) for condition in before]
    put(before, c.READY, True, now=T2)
    assert before == copy
