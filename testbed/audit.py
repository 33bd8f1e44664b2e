"""The API server's audit log: the policy, and a reader for tests that count requests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Events = Iterator[dict[str, Any]]

COMPONENT_USERS = (
    "system:apiserver",
    "system:kube-controller-manager",
    "system:kube-scheduler",
    "system:kwok",
    "system:simulator",
)
WRITE_VERBS = frozenset({"create", "update", "patch", "delete", "deletecollection"})

# One line per finished request. Bodies only for our own API group, where tests look at every status that was published.
# Left out is the noise of the control plane's own programs: their reads, leases, events and health probes.
POLICY: dict[str, Any] = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived", "ResponseStarted"],
    "omitManagedFields": True,
    "rules": [
        {"level": "None", "nonResourceURLs": ["/healthz*", "/livez*", "/readyz*", "/version", "/metrics"]},
        {"level": "None", "users": list(COMPONENT_USERS), "verbs": ["get", "list", "watch"]},
        {
            "level": "None",
            "users": list(COMPONENT_USERS),
            "resources": [
                {"group": "coordination.k8s.io", "resources": ["leases"]},
                {"group": "", "resources": ["events"]},
                {"group": "events.k8s.io", "resources": ["events"]},
                {"group": "authentication.k8s.io"},
                {"group": "authorization.k8s.io"},
            ],
        },
        {
            "level": "RequestResponse",
            "verbs": ["create", "update", "patch", "delete"],
            "resources": [{"group": "clusterstack.dev"}],
        },
        {"level": "Metadata"},
    ],
}


def read(path: Path, since: int = 0) -> Events:
    """The events (audit.k8s.io/v1 Event) written after byte `since`, oldest first.

    A request is in the file before its answer reaches the client, but for watches, which appear when they end. A last
    line that is still being written is left for the next call.
    """
    try:
        with path.open("rb") as log:
            log.seek(since)
            for line in log:
                if line.endswith(b"\n"):
                    yield json.loads(line)
    except FileNotFoundError:
        return


def size(path: Path) -> int:
    """The length of the log in bytes: pass it to `read` as `since` to see only what comes later."""
    return path.stat().st_size if path.exists() else 0


def writes(path: Path, since: int = 0, *, user_agent: str = "", username: str = "") -> list[dict[str, Any]]:
    """The writes that the API server accepted, dry runs aside, of one client if a prefix of its name is given."""
    return [
        event
        for event in read(path, since)
        if event["verb"] in WRITE_VERBS
        and event.get("responseStatus", {}).get("code", 500) < 400
        and "dryRun=" not in event["requestURI"]
        and event.get("userAgent", "").startswith(user_agent)
        and event["user"].get("username", "").startswith(username)
    ]
