"""Public complaints about health as the yardstick: what somebody complained of gets the verdict that they wanted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from clusterstack.core.health import MESSAGE_LENGTH, Context, RuleSet, State, Verdict, child_query, judge, related_refs
from clusterstack.core.health.fields import timestamp
from clusterstack.core.objects import Manifest, ref_of
from clusterstack.core.yaml import load_value

NOW = 1_772_366_400.0  # 2026-03-01T12:00:00Z
NEW = "2026-03-01T11:59:55Z"
FILE = Path(__file__).with_name("complaints.yaml")
COMPLAINTS: list[dict[str, Any]] = load_value(FILE.read_text(encoding="utf-8"), source=FILE.name)


def verdict(case: dict[str, Any], rules: RuleSet) -> Verdict:
    """The strict verdict, with what the case says may be looked at."""
    obj: Manifest = case["object"]
    if case.get("new"):
        obj = {**obj, "metadata": {**obj["metadata"], "creationTimestamp": NEW}}
    others: list[Manifest] = case.get("with", [])
    query = child_query(obj, rules)
    known = {ref_of(other): other for other in others}
    context = Context(
        rules=rules,
        now=NOW,
        related={ref: known[ref] for ref in related_refs(obj, rules) if ref in known},
        children=[other for other in others if query and ref_of(other).group_kind in query.kinds] or None,
        events=case.get("events", ()),
        applied_at=timestamp(case.get("applied")),
        status_subresource=bool(case.get("new") or case.get("applied")),
    )
    return judge(obj, context)


@pytest.mark.parametrize("case", [pytest.param(case, id=case["complaint"]) for case in COMPLAINTS])
def test_nobody_need_complain_that(case: dict[str, Any], rules: RuleSet) -> None:
    found = verdict(case, rules)
    assert found.state is State(case["state"]), f"{found.reason}: {found.message} ({found.rule}); {case['source']}"
    assert case.get("says", "") in found.message
    assert len(found.message) <= MESSAGE_LENGTH


def test_each_complaint_is_public_and_told_once() -> None:
    assert all(case["source"].count("/") == 1 and case["source"].rpartition("#")[2].isdigit() for case in COMPLAINTS)
    assert len({case["complaint"] for case in COMPLAINTS}) == len(COMPLAINTS) >= 60
