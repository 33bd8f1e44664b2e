"""What a live object tells about who wrote it."""

from __future__ import annotations

from collections.abc import Mapping

from clusterstack.core.content import Desired
from clusterstack.core.ownership import owner_of
from clusterstack.kube.live import Live


def bears_mark(desired: Desired, annotations: Mapping[str, str]) -> bool:
    """Whether an object bears the mark of our installation and stack: before our first write, it can only be ours."""
    found = owner_of(desired.ref, annotations)
    wanted = owner_of(desired.ref, desired.manifest["metadata"]["annotations"])
    if found is None or wanted is None:
        return False
    return (found.installation, found.stack) == (wanted.installation, wanted.stack)


def other_writer(live: Live, manager: str) -> str:
    """Who else wrote an object, for a report of a fight."""
    others = [entry.manager for entry in live.managers if entry.manager != manager and not entry.subresource]
    return others[-1] if others else "an unknown writer"
