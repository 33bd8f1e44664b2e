"""Journals what others make healthy: workloads (KWOK), claims, aggregated APIs (the API server)."""

from __future__ import annotations

import re

from testbed.simulator import builtin
from testbed.simulator.journal import Journal
from testbed.simulator.objects import Obj, Resource, condition, get
from testbed.simulator.operators import is_ready
from testbed.simulator.store import Change

_RECORDED = (*builtin.WORKLOADS, builtin.VOLUME_CLAIMS, builtin.API_SERVICES)


_NO_ACCOUNT = re.compile(r'serviceaccount "([^"]+)" not found')


class Recorder:
    """Notes transitions, with the resourceVersion under which the watch brought them."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._healthy: dict[str, bool] = {}
        self._without_account: dict[str, str] = {}

    def hear(self, change: Change, resource: Resource, obj: Obj) -> None:
        if resource not in _RECORDED or (resource == builtin.API_SERVICES and not get(obj, "spec", "service")):
            return
        uid = obj["metadata"]["uid"]
        if change == "DELETED":
            self._healthy.pop(uid, None)
            self._without_account.pop(uid, None)
            self._journal.write("gone", obj)
            return
        if uid not in self._healthy:
            self._journal.write("seen", obj, delay=0.0, controller="")
        self._follow_account(obj)
        healthy, before = _is_healthy(obj), self._healthy.get(uid, False)
        if healthy != before:
            self._journal.write("healthy" if healthy else "unhealthy", obj)
        self._healthy[uid] = healthy

    def _follow_account(self, obj: Obj) -> None:
        """A Deployment gets no pods until its ServiceAccount is there: some operators make that of others."""
        uid, account = obj["metadata"]["uid"], _missing_account(obj)
        if account:
            self._without_account[uid] = account
        elif name := self._without_account.pop(uid, ""):
            needed = {"kind": "ServiceAccount", "namespace": obj["metadata"]["namespace"], "name": name}
            self._journal.write("unblocked", obj, waitedFor=needed, waited=0.0)


def _missing_account(obj: Obj) -> str:
    for entry in get(obj, "status", "conditions") or ():
        if entry["type"] == "ReplicaFailure" and entry["status"] == "True":
            found = _NO_ACCOUNT.search(entry.get("message", ""))
            return found[1] if found else ""
    return ""


def _is_healthy(obj: Obj) -> bool:
    match obj["kind"]:
        case "PersistentVolumeClaim":
            return bool(get(obj, "status", "phase") == "Bound")
        case "APIService":
            return condition(obj, "Available") == "True"
        case _:
            return is_ready(obj)
