"""Jobs that are deleted once their time to live is over: how they ended is remembered, so that they are not run again.

A Job with `ttlSecondsAfterFinished` that is gone was collected if it had been seen finished; otherwise somebody deleted
it, and it is made anew.
"""

from __future__ import annotations

from clusterstack.core.health.fields import conditions, integer, section, text
from clusterstack.core.health.verdict import one_line
from clusterstack.core.objects import JOB, GroupKind, Manifest, group_of

COMPLETE = "Complete"
FAILED = "Failed"


def finished(obj: Manifest) -> str:
    """How a Job with a time to live ended: `Complete`, or `Failed <reason>: <message>`; empty for anything else."""
    if GroupKind(group_of(obj["apiVersion"]), obj["kind"]) != JOB:
        return ""
    if "ttlSecondsAfterFinished" not in section(obj, "spec"):
        return ""
    for entry in conditions(obj):
        if entry.get("status") == "True" and entry.get("type") == COMPLETE:
            return COMPLETE
        if entry.get("status") == "True" and entry.get("type") == FAILED:
            return one_line(f"{FAILED} {text(entry, 'reason') or 'JobFailed'}: {text(entry, 'message')}")
    return ""


def collected(desired: Manifest, end: str) -> Manifest:
    """A Job as it was when it was last seen, to be judged by whatever rules hold for it; `end` is from `finished`."""
    kind, _, why = end.partition(" ")
    reason, _, message = why.partition(":")
    condition = {"type": kind, "status": "True", "reason": reason, "message": message.strip()}
    runs = integer(section(desired, "spec"), "completions", 1) if kind == COMPLETE else 0
    return {**desired, "status": {"conditions": [condition], "succeeded": runs}}
