"""The way of the verbs to the cluster."""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from clusterstack import __version__
from clusterstack.api.common import GROUP, VERSION
from clusterstack.cli.output import CLUSTER, MISSING, USAGE, CliError
from clusterstack.cli.records import LayerRecord, StackRecord, stack_record
from clusterstack.core.objects import Manifest
from clusterstack.errors import ApiError
from clusterstack.kube.auth import connect
from clusterstack.kube.client import KubeClient
from clusterstack.kube.resource import Resource

STACK = Resource(GROUP, VERSION, "ClusterStack", "clusterstacks", namespaced=False)
LAYER = Resource(GROUP, VERSION, "StackLayer", "stacklayers", namespaced=False)
MANAGER = "clusterstack-cli"


@asynccontextmanager
async def cluster(args: argparse.Namespace) -> AsyncIterator[KubeClient]:
    """A client for the cluster that --kubeconfig and --context name."""
    async with await connect(kubeconfig=args.kubeconfig, context=args.context) as connection:
        yield KubeClient(connection, user_agent=f"kubectl-clusterstack/{__version__}")


async def read_stacks(client: KubeClient, name: str = "") -> list[StackRecord]:
    """One stack by its name, or all of them. Raises CliError when there is none, or when the CRDs are missing."""
    try:
        stacks = [await client.get(STACK, "", name)] if name else await client.list(STACK)
        layers = await client.list(LAYER)
    except ApiError as error:
        if error.status != 404:
            raise
        if name and error.reason == "NotFound":
            raise _no_stack(name) from error
        raise CliError(
            "this cluster does not know the kind ClusterStack",
            hint="install the CRDs: clusterstack crds | kubectl apply --server-side -f -",
            code=CLUSTER,
        ) from error
    return [stack_record(stack, layers) for stack in sorted(stacks, key=_name)]


def _name(stack: Manifest) -> str:
    return str(stack["metadata"]["name"])


def _no_stack(name: str) -> CliError:
    return CliError(f"there is no ClusterStack {name}", hint="kubectl get clusterstacks", code=MISSING)


def target(stacks: Sequence[StackRecord], text: str) -> tuple[StackRecord, LayerRecord | None]:
    """What a name stands for: a stack, a layer (`base`), or a layer of a certain stack (`home.base`, `home/base`).

    An empty name stands for the only stack. Raises CliError when nothing, or more than one thing, has that name.
    """
    if not text:
        if len(stacks) == 1:
            return stacks[0], None
        if not stacks:
            raise CliError("there is no ClusterStack in this cluster", hint="kubectl apply -f one", code=MISSING)
        names = ", ".join(stack.name for stack in stacks)
        raise CliError(f"there are {len(stacks)} stacks: {names}", hint="name one of them", code=USAGE)
    found: list[tuple[StackRecord, LayerRecord | None]] = [(stack, None) for stack in stacks if stack.name == text]
    for stack in stacks:
        found += [
            (stack, layer)
            for layer in stack.layers
            if text in (layer.name, f"{stack.name}.{layer.name}", f"{stack.name}/{layer.name}")
        ]
    if not found:
        raise CliError(f"no stack and no layer has the name {text}", hint="see: clusterstack status", code=MISSING)
    if len(found) > 1:
        names = ", ".join(f"layer {s.name}.{layer.name}" if layer else f"stack {s.name}" for s, layer in found)
        raise CliError(f"{text} may be {names}", hint="write stack.layer, or name the stack alone", code=USAGE)
    return found[0]
