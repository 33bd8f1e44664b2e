"""Every metric of the operator.

Label sets are bounded: stacks and layers, never objects, but for at most ten blockers of a layer. What a layer is like
now is kept as the view that the engine publishes, and becomes series only when somebody scrapes; what happened is
counted as it happens. The series of a layer go with the layer.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter as Tally
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NoReturn, Protocol

from prometheus_client import (
    CollectorRegistry,
    Counter,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

PHASES = ("Pending", "Waiting", "Progressing", "Ready", "Failed", "Suspended")
STEPS = ("blocked", "fetch", "render", "apply", "health")
MAX_BLOCKERS = 10
_STEP_SECONDS = (0.01, 0.05, 0.25, 1, 5, 15, 60, 180, 600, 1800)
_REQUEST_SECONDS = (0.005, 0.025, 0.1, 0.5, 2, 10, 30)
_LAG_SECONDS = (0.001, 0.005, 0.02, 0.1, 0.5, 2, 10)

Layer = tuple[str, str]
"""Stack and layer."""


class Blocker(Protocol):
    """What a layer waits for, by name; an approval has none, only a reason."""

    @property
    def subject(self) -> str: ...
    @property
    def reason(self) -> str: ...


class Counts(Protocol):
    @property
    def ready(self) -> int: ...
    @property
    def total(self) -> int: ...
    @property
    def failed(self) -> int: ...
    @property
    def passed(self) -> int: ...


class Drift(Protocol):
    @property
    def count(self) -> int: ...


class Timings(Protocol):
    """Seconds per step of the last run."""

    @property
    def blocked(self) -> float: ...
    @property
    def fetch(self) -> float: ...
    @property
    def render(self) -> float: ...
    @property
    def apply(self) -> float: ...
    @property
    def health(self) -> float: ...


class LayerState(Protocol):
    """A layer as the engine shows it; times are Unix seconds, 0.0 for "not yet"."""

    @property
    def name(self) -> str: ...
    @property
    def phase(self) -> str: ...
    @property
    def objects(self) -> Counts: ...
    @property
    def waiting_on(self) -> Sequence[Blocker]: ...
    @property
    def blocking(self) -> Sequence[Blocker]: ...
    @property
    def timings(self) -> Timings: ...
    @property
    def applied_at(self) -> float: ...
    @property
    def ready_at(self) -> float: ...
    @property
    def timed_out(self) -> bool: ...
    @property
    def drift(self) -> Drift: ...


class Request(Protocol):
    """One exchange with the API server; status 0 when no answer came."""

    @property
    def verb(self) -> str: ...
    @property
    def status(self) -> int: ...
    @property
    def seconds(self) -> float: ...


class Metrics:
    """What the operator counts. `registry` is what /metrics shows; `host` is the API server, for client metrics."""

    def __init__(self, version: str) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # when each counter began: nobody asks
        self.registry = CollectorRegistry()
        self.host = ""
        self._born = time.time()
        self._state = _State(version)
        self.registry.register(self._state)
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self.registry)
        self._durations = Histogram(
            "clusterstack_layer_duration_seconds",
            "What the steps of a layer's run took, once it was Ready.",
            ("stack", "step"),
            buckets=_STEP_SECONDS,
            registry=self.registry,
        )
        self._runs = self._counter("reconcile", "Runs of layers that ended.", "stack", "result")
        self._errors = self._counter("errors", "Unexpected errors and refused requests.", "reason")
        self._source_errors = self._counter("source_errors", "Failed looks at a source.", "stack", "source", "reason")
        self._fetches = self._counter("source_fetch", "Looks at a source.", "stack", "source", "result")
        self._renders = self._counter("render_cache", "Renders that were needed or spared.", "renderer", "result")
        self._requests = Counter(
            "rest_client_requests",
            "Requests to the API server, by answer.",
            ("code", "method", "host"),
            registry=self.registry,
        )
        self._latency = Histogram(
            "rest_client_request_duration_seconds",
            "Time until the API server had answered.",
            ("verb", "host"),
            buckets=_REQUEST_SECONDS,
            registry=self.registry,
        )
        self._lag = Histogram(
            "clusterstack_loop_lag_seconds",
            "How late the event loop came back to a task that slept.",
            buckets=_LAG_SECONDS,
            registry=self.registry,
        )

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"clusterstack_{name}", text, labels, registry=self.registry)

    def layer(self, stack: str, view: LayerState) -> None:
        """A layer is like this now. A run is counted, and its steps observed, when the view shows that it ended."""
        key = (stack, view.name)
        before = self._state.layers.get(key)
        self._state.layers[key] = view
        result = _ended(before, view, since=self._born)
        if result:
            self._runs.labels(stack, result).inc()
        if result == "success" and (before is None or view.ready_at != before.ready_at):
            for step in STEPS:
                self._durations.labels(stack, step).observe(getattr(view.timings, step))

    def forget_layer(self, stack: str, layer: str) -> None:
        """The layer is gone, and so are its series."""
        self._state.forget((stack, layer))

    def forget_stack(self, stack: str) -> None:
        """The stack is gone, with all of its layers and sources."""
        self._state.forget_stack(stack)
        for counter in (self._runs, self._durations, self._source_errors, self._fetches):
            counter.remove_by_labels({"stack": stack})

    def stack(self, name: str, *, phase: str, suspended: bool) -> None:
        """A stack is like this now."""
        self._state.stacks[name] = (phase, suspended)

    def source(self, stack: str, source: str, *, revision: str = "", ready: bool | None) -> None:
        """A source is like this now; `ready` None: not looked at yet."""
        self._state.sources[stack, source] = (revision, ready)

    def forget_source(self, stack: str, source: str) -> None:
        """The stack no longer has this source."""
        self._state.sources.pop((stack, source), None)
        self._state.fetched_at.pop((stack, source), None)
        for counter in (self._source_errors, self._fetches):
            counter.remove_by_labels({"stack": stack, "source": source})

    def fetched(self, stack: str, source: str, *, reason: str = "", at: float | None = None) -> None:
        """One look at a source ended, at a Unix time (now); `reason` is the error's, empty for success."""
        self._fetches.labels(stack, source, "error" if reason else "success").inc()
        if reason:
            self._source_errors.labels(stack, source, reason).inc()
        else:
            self._state.fetched_at[stack, source] = time.time() if at is None else at

    def pruned(self, stack: str, layer: str, count: int = 1) -> None:
        """Objects that a layer no longer declares were deleted."""
        self._state.pruned[stack, layer] += count

    def drift_corrected(self, stack: str, layer: str, count: int = 1) -> None:
        """Objects that somebody else had changed were put right."""
        self._state.corrected[stack, layer] += count

    def changed(self, stack: str, layer: str, action: str, count: int = 1) -> None:
        """Objects were written; `action` is created, configured or deleted."""
        self._state.changed[stack, layer, action] += count

    def error(self, reason: str) -> None:
        """Something failed that was not expected to; `reason` is CamelCase, as in conditions."""
        self._errors.labels(reason).inc()

    def rendered(self, renderer: str, *, hit: bool) -> None:
        """A render was asked for; `hit`: an earlier result was used."""
        self._renders.labels(renderer, "hit" if hit else "miss").inc()

    def request(self, log: Request) -> None:
        """An exchange with the API server ended."""
        self._requests.labels(str(log.status or "<error>"), log.verb.upper(), self.host).inc()
        self._latency.labels(log.verb.upper(), self.host).observe(log.seconds)

    def streams(self, count: Callable[[], Mapping[str, int]]) -> None:
        """How to count watch streams by their state; called at each scrape, maybe in another thread."""
        self._state.streams = count

    def leader(self, name: str, is_leader: bool) -> None:
        """Whether this process holds the Lease of this name."""
        self._state.leaders[name] = is_leader

    async def watch_loop(self, period: float = 1.0) -> NoReturn:
        """Measure the event loop's lag every `period` seconds, until cancelled."""
        clock = asyncio.get_running_loop().time
        while True:
            due = clock() + period
            await asyncio.sleep(period)
            self._lag.observe(max(0.0, clock() - due))


class _State(Collector):
    """What is true now, made into series at scrape time: a layer costs a reference, and forgets without a trace.

    A scrape may run in another thread: every dictionary is copied before it is walked.
    """

    def __init__(self, version: str) -> None:
        self._version = version
        self.layers: dict[Layer, LayerState] = {}
        self.stacks: dict[str, tuple[str, bool]] = {}
        self.sources: dict[Layer, tuple[str, bool | None]] = {}
        self.fetched_at: dict[Layer, float] = {}
        self.pruned: Tally[Layer] = Tally()
        self.corrected: Tally[Layer] = Tally()
        self.changed: Tally[tuple[str, str, str]] = Tally()
        self.leaders: dict[str, bool] = {}
        self.streams: Callable[[], Mapping[str, int]] = dict

    def forget(self, layer: Layer) -> None:
        self.layers.pop(layer, None)
        self.pruned.pop(layer, None)
        self.corrected.pop(layer, None)
        for key in [key for key in self.changed if key[:2] == layer]:
            del self.changed[key]

    def forget_stack(self, stack: str) -> None:
        self.stacks.pop(stack, None)
        for layer in {key[:2] for key in (*self.layers, *self.pruned, *self.corrected, *self.changed)}:
            if layer[0] == stack:
                self.forget((layer[0], layer[1]))
        for table in (self.sources, self.fetched_at):
            for key in [key for key in table if key[0] == stack]:
                del table[key]

    def describe(self) -> Iterator[Metric]:
        """Nothing to collect while registering."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        info = InfoMetricFamily("clusterstack", "The operator that runs.")
        info.add_metric((), {"version": self._version})
        yield info
        layers = sorted(self.layers.copy().items(), key=lambda item: item[0])
        yield from _layer_families(layers)
        yield from self._stack_families(layers)
        yield from self._source_families()
        yield from self._tallies()
        yield _gauge("clusterstack_watch_streams", "Watches that are open.", ("state",), self.streams().items())
        yield _gauge(
            "leader_election_master_status", "Whether this process leads.", ("name",), self.leaders.copy().items()
        )

    def _stack_families(self, layers: Sequence[tuple[Layer, LayerState]]) -> Iterator[Metric]:
        stacks = sorted(self.stacks.copy().items())
        ready = [(name, phase == "Ready") for name, (phase, _) in stacks]
        yield _gauge("clusterstack_stack_ready", "Whether every layer is Ready.", ("stack",), ready)
        suspended = [((name, ""), on) for name, (_, on) in stacks]
        suspended += [(key, view.phase == "Suspended") for key, view in layers]
        text = "Whether work is suspended; without a layer: the whole stack."
        yield _gauge("clusterstack_suspended", text, ("stack", "layer"), suspended)

    def _source_families(self) -> Iterator[Metric]:
        sources = sorted(self.sources.copy().items(), key=lambda item: item[0])
        names = ("stack", "source")
        revisions = [((*key, revision), 1) for key, (revision, _) in sources if revision]
        text = "The revision in use."
        yield _gauge("clusterstack_source_revision_info", text, (*names, "revision"), revisions)
        ready = [(key, ready) for key, (_, ready) in sources if ready is not None]
        yield _gauge("clusterstack_source_ready", "Whether the last look at the source succeeded.", names, ready)
        text = "When the source was last seen."
        yield _gauge(
            "clusterstack_source_last_fetch_timestamp_seconds", text, names, sorted(self.fetched_at.copy().items())
        )

    def _tallies(self) -> Iterator[Metric]:
        names = ("stack", "layer")
        text = "Objects deleted that a layer no longer declares."
        yield _count("clusterstack_pruned_objects", text, names, self.pruned.copy())
        text = "Objects put right that somebody else had changed."
        yield _count("clusterstack_drift_corrected", text, names, self.corrected.copy())
        text = "Objects written, by what the write did."
        yield _count("clusterstack_objects_changed", text, (*names, "action"), self.changed.copy())


def _layer_families(layers: Sequence[tuple[Layer, LayerState]]) -> Iterator[Metric]:
    names = ("stack", "layer")
    status = [((*key, phase), view.phase == phase) for key, view in layers for phase in PHASES]
    yield _gauge("clusterstack_layer_status", "The phase a layer is in.", (*names, "phase"), status)
    waiting = [((*key, on), 1) for key, view in layers for on in _blockers(view)]
    yield _gauge("clusterstack_layer_waiting_on", "What keeps a layer from being Ready.", (*names, "on"), waiting)
    objects = [((*key, health), count) for key, view in layers for health, count in _healths(view.objects)]
    yield _gauge("clusterstack_layer_objects", "Objects of a layer.", (*names, "health"), objects)
    drift = [(key, view.drift.count) for key, view in layers]
    yield _gauge("clusterstack_drift_objects", "Objects that differ from what a layer declares.", names, drift)
    last = [((*key, step), getattr(view.timings, step)) for key, view in layers if view.ready_at for step in STEPS]
    text = "What the steps of a layer's last run took."
    yield _gauge("clusterstack_layer_duration_last_seconds", text, (*names, "step"), last)
    applied = [(key, view.applied_at) for key, view in layers if view.applied_at]
    yield _gauge(
        "clusterstack_last_applied_timestamp_seconds", "When a layer was last applied in full.", names, applied
    )


def _ended(before: LayerState | None, now: LayerState, *, since: float) -> str:
    """How a run ended between two views: success, error, timeout; empty when none did.

    A layer that is Ready at first sight counts if it became so after `since`: before that, another process did it.
    """
    if before is None:
        return "success" if now.phase == "Ready" and now.ready_at >= since else ""
    if now.phase == "Ready" and (before.phase != "Ready" or now.ready_at != before.ready_at):
        return "success"
    if now.timed_out and not before.timed_out:
        return "timeout"
    if now.phase == "Failed" and before.phase != "Failed":
        return "error"
    return ""


def _blockers(view: LayerState) -> Sequence[str]:
    names = dict.fromkeys(blocker.subject or blocker.reason for blocker in (*view.waiting_on, *view.blocking))
    return [name for name in names if name][:MAX_BLOCKERS]


def _healths(counts: Counts) -> tuple[tuple[str, int], ...]:
    """Every object once; `passed`: good enough for the layer's policy, and not healthy by the strict rules."""
    rest = max(0, counts.total - counts.ready - counts.failed)
    ready = max(0, counts.ready - counts.passed)
    return ("ready", ready), ("passed", counts.passed), ("progressing", rest), ("failed", counts.failed)


def _gauge(
    name: str, text: str, labels: Sequence[str], samples: Iterable[tuple[str | tuple[str, ...], float]]
) -> Metric:
    family = GaugeMetricFamily(name, text, labels=labels)
    for values, value in samples:
        family.add_metric((values,) if isinstance(values, str) else values, float(value))
    return family


def _count(name: str, text: str, labels: Sequence[str], tally: Mapping[Any, int]) -> Metric:
    family = CounterMetricFamily(name, text, labels=labels)
    for values, value in sorted(tally.items()):
        family.add_metric(values, value)
    return family
