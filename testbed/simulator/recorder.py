"""Journals what others make healthy: workloads (KWOK), claims, aggregated APIs (the API server)."""

from __future__ import annotations

from testbed.simulator import builtin
from testbed.simulator.journal import Journal
from testbed.simulator.objects import Obj, Resource, condition, get
from testbed.simulator.operators import is_ready
from testbed.simulator.store import Change

_RECORDED = (*builtin.WORKLOADS, builtin.VOLUME_CLAIMS, builtin.API_SERVICES)


class Recorder:
    """Notes transitions, with the resourceVersion under which the watch brought them."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._healthy: dict[str, bool] = {}

    def hear(self, change: Change, resource: Resource, obj: Obj) -> None:
        if resource not in _RECORDED or (resource == builtin.API_SERVICES and not get(obj, "spec", "service")):
            return
        uid = obj["metadata"]["uid"]
        if change == "DELETED":
            self._healthy.pop(uid, None)
            self._journal.write("gone", obj)
            return
        if uid not in self._healthy:
            self._journal.write("seen", obj, delay=0.0, controller="")
        healthy, before = _is_healthy(obj), self._healthy.get(uid, False)
        if healthy != before:
            self._journal.write("healthy" if healthy else "unhealthy", obj)
        self._healthy[uid] = healthy


def _is_healthy(obj: Obj) -> bool:
    match obj["kind"]:
        case "PersistentVolumeClaim":
            return bool(get(obj, "status", "phase") == "Bound")
        case "APIService":
            return condition(obj, "Available") == "True"
        case _:
            return is_ready(obj)
