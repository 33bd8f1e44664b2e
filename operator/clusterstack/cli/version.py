"""`clusterstack version`."""

from __future__ import annotations

import argparse
import platform

from clusterstack import __version__
from clusterstack.cli.output import DONE, dump, emit

HELP = "print the version"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--output", choices=("text", "json", "yaml"), default="text", help="default: text")


def run(args: argparse.Namespace) -> int:
    if args.output == "text":
        emit([f"clusterstack {__version__}"])
    else:
        emit(dump({"version": __version__, "python": platform.python_version()}, args.output))
    return DONE
