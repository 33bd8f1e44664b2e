"""Tells the outside what happens: Events on transitions, metrics with every status."""

from __future__ import annotations

from typing import Literal

from clusterstack.api.common import API_VERSION
from clusterstack.api.conditions import Reason
from clusterstack.api.status import Phase
from clusterstack.core.judgement import stack_phase
from clusterstack.core.objects import Manifest
from clusterstack.core.views import RulesView, StackView
from clusterstack.kube.events import EventRecorder
from clusterstack.telemetry.metrics import Metrics


class Herald:
    """The one listener of publishers and stacks."""

    def __init__(self, recorder: EventRecorder, metrics: Metrics) -> None:
        self._recorder, self._metrics = recorder, metrics
        self._shown: dict[str, tuple[set[str], set[str]]] = {}

    def announce(self, regarding: Manifest, phase: str, message: str) -> None:
        """A phase has changed and is published: an Event, a warning only for failures."""
        prefix = "Layer" if regarding["kind"] == "StackLayer" else "Stack"
        kind: Literal["Warning", "Normal"] = "Warning" if phase == Phase.FAILED else "Normal"
        self._recorder.record(regarding, kind=kind, reason=f"{prefix}{phase}", message=message or phase)

    def tell(self, stack: str, layer: str, reason: str, message: str) -> None:
        """Something that a person should know of a layer."""
        regarding = {"apiVersion": API_VERSION, "kind": "StackLayer", "metadata": {"name": f"{stack}.{layer}"}}
        self._recorder.record(regarding, kind="Warning", reason=reason, message=message)

    def rules(self, config_map: Manifest, view: RulesView) -> None:
        """The cluster-wide health rules have changed."""
        for problem in view.problems:
            self._recorder.record(config_map, kind="Warning", reason=Reason.RULE_INVALID, message=problem)
        if not view.problems:
            message = f"{view.count} health rules in force"
            self._recorder.record(config_map, kind="Normal", reason=Reason.RULES_LOADED, message=message)

    def observe(self, stack: str, view: StackView) -> None:
        """A stack as it is about to be published."""
        self._metrics.stack(stack, phase=str(stack_phase(view)), suspended=view.suspended)
        layers, sources = {layer.name for layer in view.layers}, {source.name for source in view.sources}
        before = self._shown.get(stack, (set(), set()))
        for gone in before[0] - layers:
            self._metrics.forget_layer(stack, gone)
        for gone in before[1] - sources:
            self._metrics.forget_source(stack, gone)
        self._shown[stack] = layers, sources
        for source in view.sources:
            self._metrics.source(stack, source.name, revision=source.revision, ready=source.ready)
        for layer in view.layers:
            self._metrics.layer(stack, layer)
