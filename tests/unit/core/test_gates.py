"""Gates: how answers combine, and when a layer may start."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clusterstack.api.status import Phase
from clusterstack.core.gates import (
    Answer,
    Blocker,
    Closed,
    LayerFacts,
    Open,
    Unsynced,
    after,
    all_of,
    depends_on,
    layer_key,
)
from clusterstack.core.objects import ObjectRef

DEPLOYMENT = ObjectRef("apps", "Deployment", "keda", "keda-operator")
KEYS = st.frozensets(st.integers(0, 5), max_size=3)
ANSWERS = st.one_of(
    st.just(Open()),
    st.builds(Unsynced, KEYS),
    st.builds(Closed, st.builds(Blocker, reason=st.sampled_from("abc")), KEYS),
)


@given(st.lists(ANSWERS, max_size=6))
def test_together_gates_are_open_only_if_each_is(answers: list[Answer]) -> None:
    together = all_of(answers)
    closed = [answer for answer in answers if isinstance(answer, Closed)]
    match together:
        case Closed():
            assert together.blockers == tuple(answer.blocker for answer in closed)
        case Unsynced():
            assert not closed
            assert any(isinstance(answer, Unsynced) for answer in answers)
        case Open():
            assert all(isinstance(answer, Open) for answer in answers)
    if not isinstance(together, Open):
        assert together.keys == frozenset().union(*(a.keys for a in answers if not isinstance(a, Open)))


@pytest.mark.parametrize(
    ("blocker", "text"),
    [
        (Blocker(DEPLOYMENT, message="0/1: ImagePullBackOff"), "Deployment keda/keda-operator 0/1: ImagePullBackOff"),
        (Blocker(DEPLOYMENT, message="not found"), "Deployment keda/keda-operator: not found"),
        (Blocker(DEPLOYMENT, reason="NotFound"), "Deployment keda/keda-operator: NotFound"),
        (Blocker(DEPLOYMENT), "Deployment keda/keda-operator"),
        (Blocker(layer="base", message="is Failed"), "layer base: is Failed"),
        (Blocker(reason="Approval", message="waits for approval"), "waits for approval"),
        (Blocker(), ""),
    ],
)
def test_a_blocker_reads_as_one_line(blocker: Blocker, text: str) -> None:
    assert str(blocker) == text


def facts(phase: Phase, *, built: str = "d1", applied: str = "d1", timed_out: bool = False) -> LayerFacts:
    return LayerFacts("base", phase, built, applied, timed_out, "what is wrong")


def test_a_ready_dependency_with_this_content_opens_both_gates() -> None:
    assert depends_on(facts(Phase.READY)) == Open()
    assert after(facts(Phase.READY)) == Open()


def test_a_ready_dependency_with_older_content_holds_back() -> None:
    for gate in (depends_on, after):
        answer = gate(facts(Phase.READY, built="d2"))
        assert isinstance(answer, Closed)
        assert answer.blocker.reason == "DependencyOutdated"
        assert answer.keys == {layer_key("base")}


def test_a_broken_build_is_never_taken_for_done() -> None:
    assert isinstance(depends_on(facts(Phase.READY, built="", applied="")), Closed)


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase is not Phase.READY])
def test_the_hard_gate_is_closed_in_every_other_phase_and_says_why(phase: Phase) -> None:
    answer = depends_on(facts(phase))
    assert isinstance(answer, Closed)
    assert answer.blocker.layer == "base"
    assert str(answer.blocker) == f"layer base: is {phase}: what is wrong"


@pytest.mark.parametrize("phase", list(Phase))
def test_the_soft_gate_opens_when_the_other_layer_has_settled(phase: Phase) -> None:
    settled = phase in (Phase.READY, Phase.FAILED, Phase.SUSPENDED)
    assert isinstance(after(facts(phase)), Open) is settled
    assert isinstance(after(facts(phase, timed_out=True)), Open)
