"""Many seeds in one line."""

from __future__ import annotations

from typing import Any

from bench.homelab import sum_up


def seed(number: int, *, seconds: float, false: int = 0, ready: int = 13) -> dict[str, Any]:
    return {
        "seed": number,
        "layers": 13,
        "ready": ready,
        "seconds": seconds,
        "false_ready": false,
        "writes": 1100,
        "writes_second_pass": number,
    }


def test_seeds_are_counted_and_their_faults_added_up() -> None:
    found = sum_up([seed(0, seconds=61.0), seed(1, seconds=75.5, false=2), seed(2, seconds=70.0, ready=12)])
    assert found == {
        "seeds": 3,
        "all_ready": 2,
        "false_ready": 2,
        "seconds_median": 70.0,
        "seconds_max": 75.5,
        "writes_second_pass": 3,
    }


def test_a_seed_that_never_came_up_is_not_counted_as_ready() -> None:
    found = sum_up([seed(0, seconds=61.0), {"seed": 1, "layers": 13, "error": "home did not become Ready"}])
    assert (found["seeds"], found["all_ready"], found["seconds_max"]) == (2, 1, 61.0)
    assert sum_up([{"seed": 1, "layers": 13, "error": "x"}])["seconds_median"] is None
