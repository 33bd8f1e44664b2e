"""`python -m testbed.build`: builds the pinned tools into the cache, reusing what is there."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

from testbed import tools


def main(argv: Sequence[str] | None = None) -> int:
    """Builds what is missing; returns the exit code."""
    args = _parser().parse_args(argv)
    try:
        chosen = [tools.family_of(name) for name in args.only or ()] or list(tools.FAMILIES)
    except KeyError as error:
        print(error.args[0], file=sys.stderr)
        return 2
    families = list(dict.fromkeys(chosen))
    if args.list:
        for name in (binary for family in families for binary in family.binaries):
            print(name)
        return 0
    started = time.monotonic()
    failed = [family for family in families if not _build(family, named=bool(args.only), quiet=args.quiet)]
    if failed:
        return 1
    if not args.quiet:
        print(f"tools are in {tools.cache_root() / 'tools'} ({time.monotonic() - started:.0f} s)")
    return 0


def _build(family: tools.Family, *, named: bool, quiet: bool) -> bool:
    try:
        folder = tools.build(family)
    except tools.NotThereError as error:
        print(f"skipped {error}", flush=True)
        return not named
    except tools.BuildError as error:
        print(error, file=sys.stderr, flush=True)
        return False
    for name in family.binaries if not quiet else ():
        print(f"{name}={folder / name}", flush=True)
    return True


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m testbed.build",
        description="Builds the pinned tools of the test bed from Go modules into a cache outside the tree. "
        "The first run takes 10 to 15 minutes on two cores; later ones reuse what is there.",
        epilog="The cache is $CLUSTERSTACK_CACHE, else $XDG_CACHE_HOME/clusterstack, else ~/.cache/clusterstack.",
    )
    parser.add_argument("--only", nargs="+", metavar="NAME", help="only these families or binaries")
    parser.add_argument("--list", action="store_true", help="print the names of the binaries and end")
    parser.add_argument("--quiet", action="store_true", help="say nothing about what is there already")
    return parser


if __name__ == "__main__":
    sys.exit(main())
