"""`clusterstack suspend`."""

from __future__ import annotations

import argparse
import asyncio

from clusterstack.cli.switch import configure, switch

__all__ = ["HELP", "NEEDS_CLUSTER", "configure", "run"]

HELP = "stop work on a stack or a layer; what runs stays as it is"
NEEDS_CLUSTER = True


def run(args: argparse.Namespace) -> int:
    return asyncio.run(switch(args, suspend=True))
