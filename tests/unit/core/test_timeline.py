"""Times for people, and the critical path."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clusterstack.core.graph import Graph
from clusterstack.core.timeline import Span, Step, critical_path, elapsed, refresh_after, rfc3339, seconds_of


@given(st.integers(min_value=0, max_value=2**32))
def test_times_read_back_as_written(unix: int) -> None:
    assert seconds_of(rfc3339(unix)) == unix


def test_times_of_others_may_have_fractions() -> None:
    assert seconds_of("2026-11-23T20:00:00.500000Z") - seconds_of("2026-11-23T20:00:00Z") == pytest.approx(0.5)
    assert seconds_of("") == 0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0s"),
        (41.9, "41s"),
        (119, "119s"),
        (180, "3m"),
        (185, "3m5s"),
        (720, "12m"),
        (3600, "60m"),
        (14400, "4h"),
        (15000, "4h10m"),
        (200000, "2d7h"),
        (864000, "10d"),
    ],
)
def test_ages_read_like_kubectls(seconds: float, text: str) -> None:
    assert elapsed(seconds) == text


def test_an_old_age_is_refreshed_rarely() -> None:
    assert refresh_after(5) < refresh_after(100) < refresh_after(5000)


GRAPH = Graph({"a": (), "b": ("a",), "c": ("a",), "d": ("b", "c")})


def test_the_critical_path_follows_the_dependency_that_ended_last() -> None:
    spans = {"a": Span(0, 10), "b": Span(10, 15), "c": Span(10.05, 30), "d": Span(30.1, 32)}
    assert critical_path(GRAPH, spans) == (Step("a", 10), Step("c", 20), Step("d", 2))


def test_layers_that_had_nothing_to_do_are_no_part_of_it() -> None:
    assert critical_path(GRAPH, {"c": Span(5, 9), "d": Span(9, 12)}) == (Step("c", 4), Step("d", 3))
    assert critical_path(GRAPH, {}) == ()


def test_a_layer_that_ended_before_what_it_depends_on_changed_stands_alone() -> None:
    assert critical_path(GRAPH, {"a": Span(50, 60), "b": Span(10, 20)}) == (Step("a", 10),)


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100)), min_size=4, max_size=4))
def test_the_steps_add_up_to_the_time_from_the_first_start_to_the_last_end(pairs: list[tuple[float, float]]) -> None:
    spans = {name: Span(min(p), max(p)) for name, p in zip("abcd", pairs, strict=True)}
    steps = critical_path(GRAPH, spans)
    last, first = spans[steps[-1].layer], spans[steps[0].layer]
    assert last.end == max(span.end for span in spans.values())
    assert sum(step.seconds for step in steps) == pytest.approx(last.end - first.start, abs=0.01)
