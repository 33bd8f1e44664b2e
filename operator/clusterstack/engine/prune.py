"""The sweep of a stack: deletes what nobody renders any more, outside of any layer's Ready, and only with proof."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial

from clusterstack.core.inventory import Entry
from clusterstack.core.objects import GroupKind, ObjectRef
from clusterstack.core.order import teardown_rank
from clusterstack.core.prune import Fate, Stale, fate, stale
from clusterstack.engine.context import Context
from clusterstack.engine.ledger import Ledger
from clusterstack.errors import ApiError, TransportError
from clusterstack.kube.resource import CUSTOM_RESOURCE_DEFINITION as CRD
from clusterstack.telemetry.logs import logger

LOG = logger(__name__)


async def sweep(
    context: Context,
    ledgers: Mapping[str, Ledger],
    wanted: Mapping[str, Collection[ObjectRef]],
    *,
    keeping: Collection[str] = (),
) -> tuple[int, int]:
    """Delete stale objects, forget what was handed over: how many were deleted, and how many are still going.

    Of the layers in `keeping` nothing is deleted. An object is handed over once its new layer has announced it. What is
    wanted may change meanwhile: an object that any layer has announced since is let be, and stays in the inventory.
    """
    found = stale({name: list(ledger.entries()) for name, ledger in ledgers.items()}, wanted)
    known = {item.entry.ref: _entries(ledgers, item.entry.ref) for item in found}
    deleted, left = 0, 0
    gone: dict[str, list[Stale]] = {}
    for item in sorted(found, key=lambda item: (teardown_rank(item.entry.ref), item.entry.ref)):
        ref = item.entry.ref
        still = partial(_unannounced, ledgers, ref, known[ref])
        if item.handed_over:
            if any(other != item.layer and ref in wanted.get(other, ()) for other in known[ref]):
                gone.setdefault(item.layer, []).append(item)
        elif item.layer in keeping or not still():
            continue
        elif (outcome := await remove(context, item.entry, still=still)) is None:
            left += 1
        else:
            deleted += outcome
            if outcome:
                context.tally.pruned(context.stack, item.layer)
            gone.setdefault(item.layer, []).append(item)
    for layer, items in gone.items():
        ledger = ledgers[layer]
        await ledger.forget([item.entry.ref for item in items if ledger.entry(item.entry.ref) is item.entry])
    return deleted, left


def _entries(ledgers: Mapping[str, Ledger], ref: ObjectRef) -> dict[str, Entry]:
    found = ((name, ledger.entry(ref)) for name, ledger in ledgers.items())
    return {name: entry for name, entry in found if entry is not None}


def _unannounced(ledgers: Mapping[str, Ledger], ref: ObjectRef, known: Mapping[str, Entry]) -> bool:
    """Whether no layer has announced an object since: an announcement makes a new entry, also when it says the same."""
    return all(known.get(name) is entry for name, entry in _entries(ledgers, ref).items())


async def remove(
    context: Context, entry: Entry, *, teardown: bool = False, still: Callable[[], bool] = lambda: True
) -> bool | None:
    """Delete one object if all witnesses allow it (see `core.prune.fate`): True, it was deleted and is gone; False, it
    was released, or gone before; None, it must be looked at again. `still` is asked right before the delete.
    """
    ref = entry.ref
    try:
        served = await context.cluster.resource(entry.api_version, ref.kind) or context.cluster.preferred(
            ref.group_kind
        )
        if served is None:
            return False if not entry.uid or await _withdrawn(context, ref.group_kind) else None
        version = served.api_version  # that of the entry may have been retired
        live = await context.cluster.get(version, ref.kind, ref.namespace, ref.name, account=context.account)
        if live is None:
            return False
        verdict = fate(entry, live, installation=context.installation.id, stack=context.stack, teardown=teardown)
        if verdict is Fate.RELEASE:
            LOG.info("released, not deleted", extra={"stack": context.stack, "object": str(ref)})
            return False
        if (live["metadata"].get("deletionTimestamp") or "") == "" and still():
            LOG.info("deleting", extra={"stack": context.stack, "object": str(ref)})
            gone = await context.cluster.delete(version, ref, uid=entry.uid, account=context.account)
            return True if gone else None
        return None
    except (ApiError, TransportError) as error:
        LOG.warning("not deleted", extra={"stack": context.stack, "object": str(ref), "error": str(error)})
        return None


async def _withdrawn(context: Context, kind: GroupKind) -> bool:
    """Whether a kind that is not served is really no more, and its objects with it: neither does an aggregated API that
    is down hide it, nor is its CRD there, not established or not yet noticed by an API server that has just started."""
    prefix = f"{kind.group}/"
    if any(version.startswith(prefix) for version in context.cluster.unanswered()):
        return False
    crds = await context.cluster.list(CRD.api_version, CRD.kind, metadata_only=True)
    names = [crd["metadata"]["name"] for crd in crds]
    for name in (name for name in names if name.partition(".")[2] == kind.group):
        crd = await context.cluster.get(CRD.api_version, CRD.kind, "", name)
        if crd is not None and crd["spec"]["names"]["kind"] == kind.kind:
            return False
    return True
