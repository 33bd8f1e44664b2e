"""The one line that says why a stack is not Ready."""

from __future__ import annotations

from typing import Any

import pytest

from clusterstack.api.status import Phase
from clusterstack.core.gates import Blocker
from clusterstack.core.objects import ObjectRef
from clusterstack.core.rootcause import Cause, cause_line, root_cause, state_line
from clusterstack.core.views import Counts, LayerView

NOW = 1_800_000_100.0
SINCE = NOW - 41
OPERATOR = Blocker(
    ObjectRef("apps", "Deployment", "keda", "keda-operator"), reason="X", message="0/1: ImagePullBackOff"
)
SECRET = Blocker(ObjectRef("", "Secret", "eso", "auth"), reason="NotFound", message="does not exist")


def view(name: str, phase: Phase, *waits: str, **fields: Any) -> LayerView:
    waiting = tuple(Blocker(layer=layer, reason="DependencyWaiting", message="is Waiting") for layer in waits)
    return LayerView(name=name, phase=phase, since=SINCE, **{"waiting_on": waiting, **fields})


def line(*views: LayerView) -> str:
    cause = root_cause(views)
    assert cause is not None
    return cause_line(cause, {v.name: v for v in views}[cause.layer], now=NOW)


def test_the_deployment_at_the_end_of_the_chain_is_named_and_not_the_layers_that_wait() -> None:
    operators = view("operators", Phase.PROGRESSING, blocking=(OPERATOR,), applied_at=SINCE)
    messaging = view("messaging", Phase.WAITING, "operators")
    argo = view("argo", Phase.WAITING, "messaging")
    expected = "operators: waiting for Deployment keda/keda-operator 0/1: ImagePullBackOff (41s)"
    assert line(argo, messaging, operators) == expected


def test_a_failure_comes_before_what_is_still_on_its_way_and_shows_no_age() -> None:
    slow = view("slow", Phase.PROGRESSING, blocking=(OPERATOR,), applied_at=SINCE)
    many = [view(f"w{n}", Phase.WAITING, "slow") for n in range(5)]
    failed = view("apps", Phase.FAILED, message="Job a/b: BackoffLimitExceeded")
    assert line(slow, *many, failed) == "apps: failed: Job a/b: BackoffLimitExceeded"


def test_of_two_layers_at_work_the_one_that_holds_back_most_is_named() -> None:
    one = view("one", Phase.PROGRESSING, blocking=(SECRET,), applied_at=SINCE)
    two = view("two", Phase.PROGRESSING, blocking=(OPERATOR,), applied_at=SINCE)
    behind = [view("b1", Phase.WAITING, "two"), view("b2", Phase.WAITING, "b1"), view("b3", Phase.WAITING, "one")]
    assert line(one, two, *behind).startswith("two:")


def test_a_missing_object_is_a_cause_of_its_own() -> None:
    base = view("base", Phase.WAITING, waiting_on=(SECRET,))
    assert line(base, view("apps", Phase.WAITING, "base")) == "base: waiting for Secret eso/auth: does not exist (41s)"


def test_a_suspended_layer_is_a_cause_only_when_something_waits_for_it() -> None:
    suspended = view("base", Phase.SUSPENDED)
    assert root_cause([suspended, view("apps", Phase.READY)]) is None
    assert line(suspended, view("apps", Phase.WAITING, "base")) == "base: suspended (41s)"


def test_a_ready_dependency_whose_new_content_is_awaited_is_not_blamed() -> None:
    views = (view("base", Phase.READY), view("apps", Phase.WAITING, "base"))
    assert root_cause(views) == Cause("apps", views[1].waiting_on[0], SINCE)


def test_ready_layers_have_no_cause_and_a_circle_of_waiting_does_not_loop() -> None:
    assert root_cause([view("a", Phase.READY)]) is None
    assert root_cause([view("a", Phase.WAITING, "b"), view("b", Phase.WAITING, "a")]) is None


def test_a_thousand_layers_in_a_row_cost_next_to_nothing() -> None:
    chain = [view("l0", Phase.PROGRESSING, blocking=(OPERATOR,), applied_at=SINCE)]
    chain += [view(f"l{n}", Phase.WAITING, f"l{n - 1}") for n in range(1, 1000)]
    cause = root_cause(reversed(chain))
    assert cause is not None
    assert cause.layer == "l0"


@pytest.mark.parametrize(
    ("layer", "text"),
    [
        (view("a", Phase.PENDING), "not started yet"),
        (view("a", Phase.WAITING, "x"), "waiting for layer x"),
        (view("a", Phase.WAITING, "x", "y"), "waiting for layers x, y"),
        (
            view("a", Phase.WAITING, waiting_on=(SECRET, OPERATOR)),
            "waiting for Secret eso/auth: does not exist and 1 more",
        ),
        (view("a", Phase.PROGRESSING, objects=Counts(3, 14)), "applying 3/14"),
        (view("a", Phase.PROGRESSING, message="rendering charts"), "rendering charts"),
        (view("a", Phase.FAILED, timed_out=True, blocking=(SECRET,)), "timed out: Secret eso/auth: does not exist"),
        (view("a", Phase.FAILED, timed_out=True, message="timed out waiting for b"), "timed out waiting for b"),
        (view("a", Phase.FAILED), "failed"),
        (view("a", Phase.READY), ""),
    ],
)
def test_each_phase_says_what_a_layer_is_at(layer: LayerView, text: str) -> None:
    assert state_line(layer) == text
