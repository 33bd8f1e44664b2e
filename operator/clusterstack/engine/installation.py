"""Who this operator is: an identity and a secret key, made once and kept in a Secret of its namespace."""

from __future__ import annotations

import base64
import secrets

from clusterstack.core.objects import Manifest
from clusterstack.core.ownership import MANAGER
from clusterstack.engine.context import Installation
from clusterstack.engine.world import Cluster
from clusterstack.errors import ApiError

NAME = "clusterstack-installation"


async def installation(cluster: Cluster, namespace: str) -> Installation:
    """Read the installation's Secret, or make it. Raises ApiError, TransportError."""
    found = await cluster.get("v1", "Secret", namespace, NAME)
    if found is None:
        key = base64.b64encode(secrets.token_bytes(32)).decode()
        manifest: Manifest = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": NAME, "namespace": namespace},
            "type": "Opaque",
            "data": {"key": key},
        }
        try:
            found = await cluster.create(manifest, manager=MANAGER)
        except ApiError as error:
            if error.status != 409:
                raise
            found = await cluster.get("v1", "Secret", namespace, NAME)
            assert found is not None
    return Installation(namespace, str(found["metadata"]["uid"]), base64.b64decode(found["data"]["key"]))
