"""What keeps a workload's Pods from running, for verdicts that say more than "0/1 ready"."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

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
    """What is wrong with one Pod. `broken`: waiting alone will not help. `recheck_at`: when it counts as broken.
    `ended_at`: when a Pod that is over ended (unix seconds).
    """

    reason: str
    message: str
    broken: bool
    restarts: int = 0
    recheck_at: float | None = None
    ended_at: float = 0.0


def worst(pods: Iterable[Manifest], now: float) -> Trouble | None:
    """The most telling trouble among Pods; Pods being deleted or finished have none.

    Of several that failed it is the last one; ties go to the first by name. A failed Pod that is replaced, one that was
    evicted say, is history: told only where nothing else is, and no reason to call its workload broken.
    """
    found = [(pod, trouble(pod, now)) for pod in pods if pod.get("kind", "Pod") == "Pod"]
    told = [(pod, replace(reason, broken=False) if _replaced(pod) else reason) for pod, reason in found if reason]
    if not told:
        return None
    return min(
        told,
        key=lambda entry: (
            not entry[1].broken,
            _replaced(entry[0]),
            -entry[1].restarts,
            -entry[1].ended_at,
            text(section(entry[0], "metadata"), "name"),
        ),
    )[1]


def _replaced(pod: Manifest) -> bool:
    """Whether a Pod is over that was meant to run for ever, so that its controller makes another one."""
    return section(pod, "status").get("phase") == "Failed" and section(pod, "spec").get("restartPolicy") == "Always"


def stuck(pods: Iterable[Manifest]) -> Manifest | None:
    """A Pod that has its node and yet does not become ready, which only its Events may explain; pending ones first."""
    found = [pod for pod in pods if pod.get("kind", "Pod") == "Pod" and _is_stuck(pod)]
    phases = ("Pending", "Running")
    return min(
        found,
        key=lambda pod: (
            phases.index(section(pod, "status")["phase"]),
            text(section(pod, "metadata"), "name"),
        ),
        default=None,
    )


def _is_stuck(pod: Manifest) -> bool:
    if section(pod, "metadata").get("deletionTimestamp") or not text(section(pod, "spec"), "nodeName"):
        return False
    phase = section(pod, "status").get("phase")
    ready = (condition(pod, "Ready") or {}).get("status") == "True"
    return phase == "Pending" or (phase == "Running" and not ready)


def trouble(pod: Manifest, now: float) -> Trouble | None:
    """What is wrong with a Pod, if anything is."""
    if section(pod, "metadata").get("deletionTimestamp") or section(pod, "status").get("phase") == "Succeeded":
        return None
    for container in containers(pod):
        found = _container(container)
        if found is not None:
            return found
    if section(pod, "status").get("phase") == "Failed":
        return _ended(pod)
    return _unscheduled(pod, now)


def _ended(pod: Manifest) -> Trouble:
    """Why a Pod failed: what was done to it, such as an eviction, or how the container that failed last ended."""
    status = section(pod, "status")
    created = timestamp(section(pod, "metadata").get("creationTimestamp")) or 0.0
    exits = [
        (timestamp(ended.get("finishedAt")) or created, container, ended)
        for container in containers(pod)
        if (ended := section(section(container, "state"), "terminated")) and integer(ended, "exitCode", 0) != 0
    ]
    if text(status, "reason") or not exits:
        reason, message = text(status, "reason") or "PodFailed", text(status, "message") or "a Pod has failed"
        return Trouble(reason, message, broken=True, ended_at=max((at for at, *_ in exits), default=created))
    at, container, ended = max(exits, key=lambda entry: entry[0])
    return Trouble(text(ended, "reason") or "Error", _exit(container, ended), broken=True, ended_at=at)


def _exit(container: Fields, ended: Fields) -> str:
    """How a container ended: its exit code, and the last line that it left as its message."""
    told = text(ended, "message").strip().splitlines()
    line = f"container {text(container, 'name')} exited with code {integer(ended, 'exitCode', 0)}"
    return f"{line}: {told[-1].strip()}" if told else line


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
    elif "Image" in reason and text(container, "image") not in message:
        message = f"image {text(container, 'image')}" + (f": {message}" if message else "")
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
