"""`python -m testbed up|down|status|kubeconfig`: a control plane that stays up until it is told to go."""

from __future__ import annotations

import argparse
import contextlib
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from testbed import keeper, tools
from testbed.components import PROGRAMS
from testbed.processes import rss_mib_of


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code. Standard output is for the shell: only exports and paths go there."""
    args = _parser().parse_args(argv)
    folder = tools.cache_root() / "planes" / args.name
    try:
        match args.command:
            case "up":
                return _up(folder, keeper.to_options(args))
            case "down":
                return _down(folder)
            case "status":
                return _status(folder)
            case _:
                return _kubeconfig(folder)
    except (keeper.KeeperError, tools.BuildError) as error:
        print(error, file=sys.stderr)
        return 1


def _up(folder: Path, options: keeper.Options) -> int:
    with contextlib.redirect_stdout(sys.stderr):
        for program in (*PROGRAMS, "kubectl"):
            tools.binary(program)
    already = keeper.state(folder) is not None
    state = keeper.start(folder, options)
    verb = "was up already" if already else f"came up in {state.start_seconds:.1f} s"
    print(
        f"control plane {folder.name} {verb}: {state.access.url}, logs in {folder / 'plane' / 'logs'}", file=sys.stderr
    )
    print(f"export KUBECONFIG={shlex.quote(str(state.access.kubeconfig))}")
    if shutil.which("kubectl") is None:
        print(f'export PATH={shlex.quote(str(tools.binary("kubectl").parent))}:"$PATH"')
    return 0


def _down(folder: Path) -> int:
    was_up = keeper.stop(folder)
    print(f"control plane {folder.name} {'is down' if was_up else 'was not up'}", file=sys.stderr)
    return 0


def _status(folder: Path) -> int:
    state = keeper.state(folder)
    if state is None:
        print(f"control plane {folder.name} is down")
        return 1
    access = state.access
    print(f"control plane {folder.name} is up: {access.url}")
    print(f"kubeconfig {access.kubeconfig}\naudit log  {access.audit_log}\nservices   {access.service_range}")
    print(f"webhooks   {'on' if access.webhooks else 'off'}")
    if state.journal:
        print(f"journal    {state.journal}")
    for program, pid in {**state.programs, "keeper": state.pid}.items():
        size = rss_mib_of(pid)
        print(f"{program:26} pid {pid:<8} {'gone' if size is None else f'{size:.0f} MiB'}")
    return 0


def _kubeconfig(folder: Path) -> int:
    state = keeper.state(folder)
    if state is None:
        print(f"control plane {folder.name} is down; start it with: python -m testbed up", file=sys.stderr)
        return 1
    print(state.access.kubeconfig)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m testbed", description="A real Kubernetes control plane on loopback, without Docker."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in (
        ("up", "start a control plane in the background and print the exports that reach it"),
        ("down", "end it"),
        ("status", "what is running, and where its files are"),
        ("kubeconfig", "print the path of its kubeconfig"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("--name", default="default", help="which one, when there are several (default: default)")
        if name == "up":
            keeper.add_options(command)
    return parser


if __name__ == "__main__":
    sys.exit(main())
