"""`clusterstack resume`."""

from __future__ import annotations

import argparse
import asyncio

from clusterstack.cli.switch import configure, switch

__all__ = ["HELP", "NEEDS_CLUSTER", "configure", "run"]

HELP = "go on with what was suspended"
NEEDS_CLUSTER = True


def run(args: argparse.Namespace) -> int:
    return asyncio.run(switch(args, suspend=False))
