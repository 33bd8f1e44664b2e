"""Helm's release records in the cluster: read, created, replaced and pruned as Helm itself would."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from clusterstack.core.objects import Manifest, ObjectRef
from clusterstack.core.ownership import HELM_MANAGER
from clusterstack.engine.world import Cluster
from clusterstack.errors import ApiError
from clusterstack.helm.record import Head, Release, Status, decode, encode, head_of, secret_name, selector, surplus
from clusterstack.telemetry.logs import logger

LOG = logger(__name__)
RELEASE_OF = "clusterstack.dev/release-of"
RELEASE_LAYER = "clusterstack.dev/release-layer"


class Taken(Exception):  # noqa: N818 - reads as what happened
    """Someone else wrote this revision first."""


class Records:
    """The records of one release, in its storage namespace."""

    def __init__(self, cluster: Cluster, *, name: str, namespace: str, account: str) -> None:
        self._cluster, self._account = cluster, account
        self.name, self.namespace = name, namespace

    async def heads(self) -> list[Head]:
        """What the labels of all revisions say, oldest first."""
        found = await self._secrets()
        heads = (head_of(secret["metadata"]) for secret in found)
        return sorted((head for head in heads if head is not None), key=lambda head: head.revision)

    async def read(self, revision: int) -> Release | None:
        """One revision; None when it is gone, or cannot be read: then it is as if it had never been."""
        secret = await self._cluster.get(
            "v1", "Secret", self.namespace, secret_name(self.name, revision), account=self._account
        )
        try:
            return None if secret is None else await asyncio.to_thread(decode, secret)
        except ValueError as error:
            LOG.warning("release record cannot be read", extra={"namespace": self.namespace, "error": str(error)})
            return None

    async def create(self, release: Release) -> None:
        """The first write of a revision. Raises Taken when it is there already."""
        try:
            await self._cluster.create(await self._secret(release), manager=HELM_MANAGER, account=self._account)
        except ApiError as error:
            if error.status == 409:
                raise Taken(str(error)) from error
            raise

    async def update(self, release: Release) -> None:
        """Replace a revision's record."""
        await self._cluster.replace(await self._secret(release), manager=HELM_MANAGER, account=self._account)

    async def supersede(self, newest: int, limit: int) -> None:
        """Mark older deployed revisions superseded, and delete what is past the history's limit.

        A revision that was under way when newer inputs took over counts as failed: nobody will finish it.
        """
        heads = await self.heads()
        for head in heads:
            if head.revision != newest and (head.status is Status.DEPLOYED or head.status.pending):
                old = await self.read(head.revision)
                if old is not None:
                    status = Status.FAILED if head.status.pending else Status.SUPERSEDED
                    await self.update(replace(old, status=status))
        await self.trim(heads, limit)

    async def trim(self, heads: list[Head], limit: int) -> None:
        """Delete the oldest revisions past the history's limit."""
        for head in surplus(heads, limit):
            await self.delete(head.revision)

    async def delete(self, revision: int) -> None:
        ref = ObjectRef("", "Secret", self.namespace, secret_name(self.name, revision))
        await self._cluster.delete("v1", ref, account=self._account)

    async def _secrets(self) -> list[Manifest]:
        return await self._cluster.list(
            "v1",
            "Secret",
            self.namespace,
            selector=selector(self.name),
            account=self._account,
            metadata_only=True,  # a record takes up to a megabyte, and there are ten of each release
        )

    async def _secret(self, release: Release) -> Manifest:
        """Packing megabytes of a chart takes a tenth of a second, which the loop need not wait for."""
        return await asyncio.to_thread(encode, release, namespace=self.namespace)
