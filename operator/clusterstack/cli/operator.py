"""`clusterstack operator`: the operator itself, in this process."""

from __future__ import annotations

import argparse
import importlib
import os

from clusterstack.config import add_arguments, settings

HELP = "run the operator in this process"
DESCRIPTION = "Run the operator in this process, until SIGTERM or SIGINT. Every flag has a variable of the environment."


def configure(parser: argparse.ArgumentParser) -> None:
    add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    configured = settings(args, os.environ)
    # By name: the composition root stands above everything, and nothing may depend on it.
    return int(importlib.import_module("clusterstack.main").run(configured))
