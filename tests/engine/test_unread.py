"""Kinds that the operator may not read: said at once, in the API server's words, and over when the right is given."""

from __future__ import annotations

import pytest

from clusterstack.core.health import Policy
from clusterstack.core.objects import GroupKind
from clusterstack.errors import ApiError, ClusterStackError, TransportError
from tests.engine.clock import settle
from tests.engine.home import Home, config_map, custom, keeping, layering

WIDGET = GroupKind("example.com", "Widget")
TOLD = 'widgets.example.com is forbidden: User "clusterstack" cannot list resource "widgets"'
FORBIDDEN = ApiError(TOLD, status=403, reason="Forbidden")


async def test_an_object_whose_kind_may_not_be_read_says_so_until_it_may(home: Home) -> None:
    home.cluster.serve("example.com/v1", "Widget")
    home.cluster.syncing = False
    widget = home.desire(custom("Widget", "w"))
    async with keeping(home, widget, policy=Policy.EXISTS) as bench:
        assert bench.reason(widget.ref) == "Syncing"
        home.cluster.hide(WIDGET, FORBIDDEN)
        await settle()
        assert bench.message(widget.ref) == f"Forbidden: cannot read widgets: {TOLD}"
        assert not bench.keeper.board.reading
        assert widget.ref not in home.cluster.of("apply")
        home.cluster.sync(WIDGET)
        await settle()
        assert bench.healthy
    assert home.clock.elapsed == 0.0


async def test_a_connection_that_is_lost_is_named_but_no_more_is_known_than_before(home: Home) -> None:
    home.cluster.serve("example.com/v1", "Widget")
    home.cluster.syncing = False
    widget = home.desire(custom("Widget", "w"))
    async with keeping(home, widget, policy=Policy.EXISTS) as bench:
        home.cluster.hide(WIDGET, TransportError("connection refused"))
        await settle()
        assert bench.message(widget.ref) == "Syncing: cannot read widgets: connection refused"
        assert bench.keeper.board.reading


@pytest.mark.parametrize(
    ("error", "says"),
    [(FORBIDDEN, f"Widget apps/w: cannot read widgets: {TOLD}"), (TransportError("gone"), "reading what it requires")],
)
async def test_a_required_object_whose_kind_may_not_be_read_says_so(
    home: Home, error: ClusterStackError, says: str
) -> None:
    home.cluster.serve("example.com/v1", "Widget")
    home.cluster.put(custom("Widget", "w"))
    home.cluster.syncing = False
    requires = [{"apiVersion": "example.com/v1", "kind": "Widget", "name": "w", "namespace": "apps"}]
    async with layering(home) as base:
        await base.put(home.content(config_map("a"), requires=requires, health={"policy": "Exists"}))
        home.cluster.hide(WIDGET, error)
        await settle()
        assert says in base.message
        home.cluster.syncing = True
        home.cluster.sync(WIDGET)
        await settle()
        assert base.layer.facts.done
