"""What keeps a workload's Pods from running, for verdicts that say more than "0/1 ready"."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from clusterstack.core.health.fields import Fields, condition, entries, integer, section, text, timestamp
from clusterstack.core.objects import Manifest

SCHEDULE_WINDOW = 60.0
"""Seconds a Pod may stay unscheduled before its workload counts as degraded: autoscalers need some of them."""

RESTARTS = 10
"""Restarts after which a crash loop is final, for workloads without a progress deadline."""

BROKEN = frozenset(
    {
        "CrashLoopBackOff",
        "ImagePullBackOff",
        "ErrImagePull",
        "ErrImageNeverPull",
        "InvalidImageName",
        "ImageInspectError",
        "RegistryUnavailable",
        "CreateContainerConfigError",
        "CreateContainerError",
        "RunContainerError",
    }
)
"""Reasons for which a container waits although nothing more is to come by itself soon."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """What is wrong with one Pod. `broken`: waiting alone will not help. `recheck_at`: when it counts as broken."""

    reason: str
    message: str
    broken: bool
    restarts: int = 0
    recheck_at: float | None = None


def worst(pods: Iterable[Manifest], now: float) -> Trouble | None:
    """The most telling trouble among Pods; Pods being deleted or finished have none. Ties go to the first by name."""
    found = [(pod, trouble(pod, now)) for pod in pods if pod.get("kind", "Pod") == "Pod"]
    ranked = sorted(
        (
            (not reason.broken, -reason.restarts, text(section(pod, "metadata"), "name"), reason)
            for pod, reason in found
            if reason
        ),
        key=lambda entry: entry[:3],
    )
    return ranked[0][3] if ranked else None


def trouble(pod: Manifest, now: float) -> Trouble | None:
    """What is wrong with a Pod, if anything is."""
    if section(pod, "metadata").get("deletionTimestamp") or section(pod, "status").get("phase") == "Succeeded":
        return None
    for container in containers(pod):
        found = _container(container)
        if found is not None:
            return found
    if section(pod, "status").get("phase") == "Failed":
        status = section(pod, "status")
        return Trouble(
            text(status, "reason") or "PodFailed", text(status, "message") or "a Pod has failed", broken=True
        )
    return _unscheduled(pod, now)


def containers(pod: Manifest) -> Iterator[Fields]:
    """Statuses of a Pod's containers, init containers first."""
    status = section(pod, "status")
    yield from entries(status, "initContainerStatuses")
    yield from entries(status, "containerStatuses")


def _container(container: Fields) -> Trouble | None:
    waiting = section(section(container, "state"), "waiting")
    reason = text(waiting, "reason")
    if reason not in BROKEN:
        return None
    message = text(waiting, "message")
    ended = section(section(container, "lastState"), "terminated")
    if reason == "CrashLoopBackOff":
        code = integer(ended, "exitCode", -1)
        why = text(ended, "message") or (f"exit code {code}" if code >= 0 else "")
        message = f"container {text(container, 'name')} keeps crashing" + (f": {why}" if why else "")
    return Trouble(reason, message, broken=True, restarts=integer(container, "restartCount", 0))


def _unscheduled(pod: Manifest, now: float) -> Trouble | None:
    scheduled = condition(pod, "PodScheduled")
    if not scheduled or scheduled.get("status") != "False" or scheduled.get("reason") != "Unschedulable":
        return None
    since = timestamp(scheduled.get("lastTransitionTime")) or timestamp(
        section(pod, "metadata").get("creationTimestamp")
    )
    due = (since or 0.0) + SCHEDULE_WINDOW
    late = now >= due
    return Trouble("Unschedulable", text(scheduled, "message"), broken=late, recheck_at=None if late else due)
