"""Metrics: which series there are, when they count, and that they go."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import replace

from prometheus_client import generate_latest

from clusterstack.api.status import Phase
from clusterstack.core.gates import Blocker
from clusterstack.core.objects import ObjectRef
from clusterstack.core.views import Counts, DriftView, LayerView, Timings
from clusterstack.kube.exchange import RequestLog
from clusterstack.telemetry.metrics import PHASES, Metrics

WAITING = LayerView(
    name="base",
    phase=Phase.WAITING,
    waiting_on=(Blocker(layer="crds"), Blocker(reason="Approval")),
    objects=Counts(2, 5, 1),
)
READY = LayerView(
    name="base",
    phase=Phase.READY,
    objects=Counts(5, 5),
    timings=Timings(blocked=3, fetch=1, render=2, apply=4, health=8),
    applied_at=100.0,
    ready_at=108.0,
)


def value(metrics: Metrics, name: str, /, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def test_the_phases_are_those_of_the_api() -> None:
    assert set(PHASES) == {str(phase) for phase in Phase}


def test_a_layer_is_in_one_phase_and_says_what_it_waits_for() -> None:
    metrics = Metrics("1.2.3")
    metrics.layer("home", WAITING)
    phases = {
        phase: value(metrics, "clusterstack_layer_status", stack="home", layer="base", phase=phase) for phase in PHASES
    }
    assert {phase for phase, is_on in phases.items() if is_on} == {"Waiting"}
    assert value(metrics, "clusterstack_layer_waiting_on", stack="home", layer="base", on="layer crds") == 1
    assert value(metrics, "clusterstack_layer_waiting_on", stack="home", layer="base", on="Approval") == 1
    health = {
        name: value(metrics, "clusterstack_layer_objects", stack="home", layer="base", health=name)
        for name in ("ready", "progressing", "failed")
    }
    assert health == {"ready": 2, "progressing": 2, "failed": 1}
    assert value(metrics, "clusterstack_info", version="1.2.3") == 1


def test_objects_that_only_the_policy_calls_ready_are_counted_apart() -> None:
    metrics = Metrics("1.2.3")
    metrics.layer("home", replace(READY, objects=Counts(5, 5, passed=2)))
    names = ("ready", "passed", "progressing", "failed")
    labels = {"stack": "home", "layer": "base"}
    assert [value(metrics, "clusterstack_layer_objects", **labels, health=name) for name in names] == [3, 2, 0, 0]


def test_what_a_layer_no_longer_waits_for_is_gone() -> None:
    metrics = Metrics("1")
    metrics.layer("home", WAITING)
    metrics.layer("home", READY)
    assert b"layer crds" not in generate_latest(metrics.registry)


def test_at_most_ten_blockers_are_named() -> None:
    metrics = Metrics("1")
    refs = [ObjectRef("apps", "Deployment", "web", f"web-{number}") for number in range(30)]
    metrics.layer("home", replace(READY, phase=Phase.PROGRESSING, blocking=tuple(Blocker(ref=ref) for ref in refs)))
    assert generate_latest(metrics.registry).count(b"clusterstack_layer_waiting_on{") == 10


def test_a_run_counts_when_the_layer_becomes_ready_and_only_then() -> None:
    metrics = Metrics("1")
    for view in (WAITING, READY, READY, replace(READY, drift=DriftView(count=1))):
        metrics.layer("home", view)
    assert value(metrics, "clusterstack_reconcile_total", stack="home", result="success") == 1
    assert value(metrics, "clusterstack_layer_duration_seconds_sum", stack="home", step="health") == 8
    assert value(metrics, "clusterstack_layer_duration_last_seconds", stack="home", layer="base", step="apply") == 4
    assert value(metrics, "clusterstack_last_applied_timestamp_seconds", stack="home", layer="base") == 100
    assert value(metrics, "clusterstack_drift_objects", stack="home", layer="base") == 1


def test_a_restart_that_finds_a_layer_ready_counts_nothing() -> None:
    metrics = Metrics("1")
    metrics.layer("home", READY)
    assert value(metrics, "clusterstack_reconcile_total", stack="home", result="success") is None


def test_a_layer_that_is_ready_at_first_sight_counts_when_it_became_so_here() -> None:
    metrics = Metrics("1")
    metrics.layer("home", replace(READY, ready_at=time.time() + 1))
    assert value(metrics, "clusterstack_reconcile_total", stack="home", result="success") == 1
    assert value(metrics, "clusterstack_layer_duration_seconds_count", stack="home", step="apply") == 1


def test_failures_and_timeouts_count_once_each() -> None:
    metrics = Metrics("1")
    failed = replace(READY, phase=Phase.FAILED)
    for view in (WAITING, failed, failed, READY, replace(READY, phase=Phase.FAILED, timed_out=True)):
        metrics.layer("home", view)
    assert value(metrics, "clusterstack_reconcile_total", stack="home", result="error") == 1
    assert value(metrics, "clusterstack_reconcile_total", stack="home", result="timeout") == 1


def test_a_layer_that_is_gone_leaves_no_series() -> None:
    metrics = Metrics("1")
    metrics.layer("home", READY)
    metrics.layer("home", replace(READY, name="apps"))
    metrics.pruned("home", "base", 2)
    metrics.drift_corrected("home", "base")
    metrics.changed("home", "base", "created", 3)
    metrics.forget_layer("home", "base")
    text = generate_latest(metrics.registry)
    assert b'layer="base"' not in text
    assert b'layer="apps"' in text


def test_a_stack_that_is_gone_leaves_no_series() -> None:
    metrics = Metrics("1")
    metrics.layer("home", WAITING)
    metrics.layer("home", READY)
    metrics.stack("home", phase="Ready", suspended=False)
    metrics.source("home", "infra", revision="main@sha1:abc", ready=True)
    metrics.fetched("home", "infra")
    metrics.fetched("home", "infra", reason="GitTimeout")
    metrics.pruned("home", "old")
    metrics.forget_stack("home")
    assert b'stack="home"' not in generate_latest(metrics.registry)


def test_a_revision_stands_in_one_series() -> None:
    metrics = Metrics("1")
    for revision in ("main@sha1:abc", "main@sha1:def"):
        metrics.source("home", "infra", revision=revision, ready=True)
    text = generate_latest(metrics.registry).decode()
    assert "abc" not in text
    assert text.count("main@sha1:def") == 1


def test_looks_at_a_source_count_by_result() -> None:
    metrics = Metrics("1")
    metrics.fetched("home", "infra", at=50.0)
    metrics.fetched("home", "infra", reason="GitTimeout", at=60.0)
    labels = {"stack": "home", "source": "infra"}
    assert value(metrics, "clusterstack_source_last_fetch_timestamp_seconds", **labels) == 50
    assert value(metrics, "clusterstack_source_errors_total", **labels, reason="GitTimeout") == 1
    metrics.forget_source("home", "infra")
    assert b"GitTimeout" not in generate_latest(metrics.registry)


def test_suspension_shows_for_stacks_and_layers() -> None:
    metrics = Metrics("1")
    metrics.layer("home", replace(READY, phase=Phase.SUSPENDED))
    metrics.stack("home", phase="Suspended", suspended=True)
    assert value(metrics, "clusterstack_suspended", stack="home", layer="base") == 1
    assert value(metrics, "clusterstack_suspended", stack="home", layer="") == 1


def test_requests_carry_the_names_that_stock_dashboards_know() -> None:
    metrics = Metrics("1")
    metrics.host = "10.0.0.1:6443"
    metrics.request(RequestLog("patch", "deployments.apps", 200, 0.01))
    metrics.request(RequestLog("get", "pods", 0, 0.01))
    host = {"host": "10.0.0.1:6443"}
    assert value(metrics, "rest_client_requests_total", code="200", method="PATCH", **host) == 1
    assert value(metrics, "rest_client_requests_total", code="<error>", method="GET", **host) == 1
    metrics.leader("clusterstack", True)
    assert value(metrics, "leader_election_master_status", name="clusterstack") == 1


def test_streams_are_counted_when_somebody_asks() -> None:
    metrics = Metrics("1")
    metrics.streams(lambda: {"SYNCED": 7})
    assert value(metrics, "clusterstack_watch_streams", state="SYNCED") == 7


async def test_the_loop_s_lag_is_measured() -> None:
    metrics = Metrics("1")
    with suppress(TimeoutError):
        await asyncio.wait_for(metrics.watch_loop(0.001), 0.05)
    assert value(metrics, "clusterstack_loop_lag_seconds_count")


def test_a_thousand_layers_are_scraped_in_bounded_size() -> None:
    metrics = Metrics("1")
    for number in range(1000):
        metrics.layer("home", replace(READY, name=f"layer-{number}"))
    assert len(generate_latest(metrics.registry).splitlines()) < 25_000
