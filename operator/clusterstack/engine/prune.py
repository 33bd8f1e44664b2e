"""The sweep of a stack: deletes what nobody renders any more, outside of any layer's Ready, and only with proof."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from clusterstack.core.inventory import Entry
from clusterstack.core.objects import ObjectRef
from clusterstack.core.order import teardown_rank
from clusterstack.core.prune import Fate, Stale, fate, stale
from clusterstack.engine.context import Context
from clusterstack.engine.ledger import Ledger
from clusterstack.errors import ApiError, TransportError
from clusterstack.telemetry.logs import logger

LOG = logger(__name__)


async def sweep(
    context: Context, ledgers: Mapping[str, Ledger], wanted: Mapping[str, Collection[ObjectRef]]
) -> tuple[int, int]:
    """Delete stale objects, forget what was handed over: how many were deleted, and how many are still going."""
    found = stale({name: list(ledger.entries()) for name, ledger in ledgers.items()}, wanted)
    deleted, left = 0, 0
    gone: dict[str, list[ObjectRef]] = {}
    for item in sorted(found, key=lambda item: (teardown_rank(item.entry.ref), item.entry.ref)):
        if item.handed_over:
            gone.setdefault(item.layer, []).append(item.entry.ref)
        elif (outcome := await _remove(context, item)) is None:
            left += 1
        else:
            deleted += outcome
            gone.setdefault(item.layer, []).append(item.entry.ref)
    for layer, refs in gone.items():
        await ledgers[layer].forget(refs)
    return deleted, left


async def _remove(context: Context, item: Stale) -> bool | None:
    """True: deleted and gone; False: released, or gone before; None: not gone yet, or the delete was refused."""
    return await remove(context, item.entry)


async def remove(context: Context, entry: Entry, *, teardown: bool = False) -> bool | None:
    """Delete one object if all witnesses allow it (see `core.prune.fate`); None when it must be looked at again."""
    ref = entry.ref
    try:
        live = await context.cluster.get(entry.api_version, ref.kind, ref.namespace, ref.name, account=context.account)
        if live is None:
            return False
        verdict = fate(entry, live, installation=context.installation.id, stack=context.stack, teardown=teardown)
        if verdict is Fate.RELEASE:
            LOG.info("released, not deleted", extra={"stack": context.stack, "object": str(ref)})
            return False
        if (live["metadata"].get("deletionTimestamp") or "") == "":
            LOG.info("deleting", extra={"stack": context.stack, "object": str(ref)})
            gone = await context.cluster.delete(entry.api_version, ref, uid=entry.uid, account=context.account)
            return True if gone else None
        return None
    except (ApiError, TransportError) as error:
        LOG.warning("not deleted", extra={"stack": context.stack, "object": str(ref), "error": str(error)})
        return None
