"""The `clusterstack` command, also as `kubectl clusterstack`: one module a verb.

A verb's module says how its arguments look without importing anything large; what it needs, it imports when it runs.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from types import ModuleType

from clusterstack.cli.output import CLUSTER, EXIT_CODES, INTERRUPTED, NO, USAGE, CliError, note
from clusterstack.errors import ApiError, ClusterStackError, SpecError, TransportError

VERBS = (
    "status",
    "why",
    "reconcile",
    "suspend",
    "resume",
    "validate",
    "judge",
    "crds",
    "operator",
    "version",
    "completion",
)
DESCRIPTION = "Brings a Kubernetes cluster from empty to running out of Git, layer by layer, and keeps it there."


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code, see `clusterstack --help`."""
    args = parser().parse_args(argv)
    try:
        return int(args.run(args))
    except CliError as error:
        return _failed(str(error), error.hint, error.code)
    except (ApiError, TransportError) as error:
        return _failed(str(error), error.hint, CLUSTER)
    except ClusterStackError as error:
        return _failed(str(error), error.hint, USAGE if isinstance(error, SpecError) else NO)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # the reader, head for one, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    as_plugin = os.path.basename(sys.argv[0] or "").startswith("kubectl-")
    top = argparse.ArgumentParser(
        prog="kubectl clusterstack" if as_plugin else "clusterstack",
        description=DESCRIPTION,
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = top.add_subparsers(title="verbs", metavar="VERB", required=True)
    for verb in VERBS:
        module = importlib.import_module(f"clusterstack.cli.{verb}")
        child = verbs.add_parser(
            verb,
            help=module.HELP,
            description=_description(module),
            epilog=getattr(module, "EXAMPLES", ""),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if getattr(module, "NEEDS_CLUSTER", False):
            child.add_argument("--kubeconfig", metavar="FILE", help="default: $KUBECONFIG, then ~/.kube/config")
            child.add_argument("--context", metavar="NAME", help="context of the kubeconfig")
        module.configure(child)
        child.set_defaults(run=module.run)
    return top


def _description(module: ModuleType) -> str:
    return getattr(module, "DESCRIPTION", "") or f"{module.HELP[0].upper()}{module.HELP[1:]}."


def _failed(message: str, hint: str, code: int) -> int:
    note(f"error: {message}")
    if hint:
        note(f"  next: {hint}")
    return code


if __name__ == "__main__":
    raise SystemExit(main())
