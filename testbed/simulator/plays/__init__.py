"""One module per family of operators. `ALL` is every play there is."""

from __future__ import annotations

from testbed.simulator.play import Play
from testbed.simulator.plays import (
    certmanager,
    databases,
    externalsecrets,
    gateway,
    gatewaystatus,
    keycloak,
    knative,
    messaging,
    network,
    observability,
    olm,
    platform,
    storage,
)

ALL: tuple[Play, ...] = (
    *certmanager.PLAYS,
    *externalsecrets.PLAYS,
    *olm.PLAYS,
    *gateway.PLAYS,
    *gatewaystatus.PLAYS,
    *messaging.PLAYS,
    *databases.PLAYS,
    *keycloak.PLAYS,
    *knative.PLAYS,
    *observability.PLAYS,
    *platform.PLAYS,
    *network.PLAYS,
    *storage.PLAYS,
)
