"""`clusterstack crds`."""

from __future__ import annotations

import argparse

from clusterstack.cli.output import DONE, emit

HELP = "print the CustomResourceDefinitions, to apply"
EXAMPLES = "example:\n  clusterstack crds | kubectl apply --server-side -f -\n"


def configure(parser: argparse.ArgumentParser) -> None:  # noqa: ARG001 - takes no arguments
    return


def run(args: argparse.Namespace) -> int:  # noqa: ARG001 - takes no arguments
    from clusterstack.api.schema import documents

    for text in documents().values():
        emit(["---", text.rstrip("\n")])
    return DONE
