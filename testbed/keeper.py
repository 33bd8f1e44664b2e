"""A control plane that outlives the command that started it, held by a process of its own: the keeper.

A keeper has a folder: `alive` is locked while it lives, `state.json` tells how to reach the control plane, `keeper.log`
and `plane/logs` tell what went wrong. With `--until-unused` it ends when nobody holds a shared lock on `users` any
more, which also covers users that crash; test workers share one control plane in this way.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from testbed import tools
from testbed.controlplane import Access, Cluster, ControlPlane
from testbed.processes import ProcessError, ProcessGroup
from testbed.tools import BuildError

_ROOT = Path(__file__).resolve().parent.parent
_START_SECONDS = 120.0
_STOP_SECONDS = 30.0


class KeeperError(RuntimeError):
    """A kept control plane cannot be started or stopped; the message says why."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a kept control plane is started with. `simulator`: None for none, else further arguments for it.

    `manifests` are applied once it is up, then `programs` are started, a file of what `write_programs` wrote. With
    `kubeconfig` there is no control plane to start: the programs run beside a cluster that somebody else keeps.
    """

    nodes: int = 1
    webhooks: bool = True
    seed: int = 0
    simulator: tuple[str, ...] | None = None
    until_unused: bool = False
    manifests: tuple[Path, ...] = ()
    programs: Path | None = None
    kubeconfig: Path | None = None

    def to_arguments(self) -> list[str]:
        flags = ["--nodes", str(self.nodes), "--seed", str(self.seed)]
        flags += [] if self.webhooks else ["--no-webhooks"]
        flags += ["--until-unused"] if self.until_unused else []
        flags += [part for path in self.manifests for part in ("--apply", str(path))]
        flags += ["--programs", str(self.programs)] if self.programs else []
        flags += ["--kubeconfig", str(self.kubeconfig)] if self.kubeconfig else []
        return flags if self.simulator is None else [*flags, "--simulator", *self.simulator]


@dataclass(frozen=True, slots=True)
class State:
    """What `state.json` holds."""

    pid: int
    access: Access
    programs: dict[str, int] = field(default_factory=dict)
    start_seconds: float = 0.0
    journal: str = ""

    def to_json(self) -> dict[str, Any]:
        data: dict[str, Any] = {name: getattr(self, name) for name in self.__slots__}
        return {**data, "access": self.access.to_json()}


@dataclass(frozen=True, slots=True)
class Program:
    """Something that runs beside a kept control plane and ends with it; it sees `env` only, beside PATH and HOME."""

    name: str
    argv: tuple[str, ...]
    env: dict[str, str] = field(default_factory=dict)


def write_programs(path: Path, programs: Sequence[Program]) -> Path:
    """A file for `Options.programs`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([{"name": p.name, "argv": p.argv, "env": p.env} for p in programs]))
    return path


def kubeconfig(folder: Path) -> Path:
    """Where the administrator's kubeconfig of a control plane kept in `folder` is, or will be."""
    return folder / "plane" / "admin.kubeconfig"


def state(folder: Path) -> State | None:
    """How to reach the control plane kept in `folder`; None when none is up."""
    if not _is_alive(folder):
        return None
    try:
        data = json.loads((folder / "state.json").read_text())
    except FileNotFoundError:
        return None
    return State(**{**data, "access": Access.from_json(data["access"])})


def start(folder: Path, options: Options) -> State:
    """The control plane kept in `folder`, started if none is up. A KeeperError has the end of the keeper's log."""
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder / "start.lock", fcntl.LOCK_EX):
        if not _is_alive(folder):
            (folder / "state.json").unlink(missing_ok=True)
            command = [sys.executable, "-m", "testbed.keeper", "--dir", str(folder), *options.to_arguments()]
            subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": str(_ROOT)})
        deadline = time.monotonic() + _START_SECONDS
        while (found := state(folder)) is None:
            if not _is_alive(folder) or time.monotonic() > deadline:
                tail = "\n".join((folder / "keeper.log").read_text().splitlines()[-20:])
                raise KeeperError(f"no control plane came up; the end of {folder / 'keeper.log'}:\n{tail}")
            time.sleep(0.05)
        return found


def stop(folder: Path) -> bool:
    """Ends the control plane kept in `folder` and waits until it is gone; whether there was one."""
    found = state(folder)
    if found is None and not _is_alive(folder):
        return False
    if found is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(found.pid, signal.SIGTERM)
    deadline = time.monotonic() + _STOP_SECONDS
    while _is_alive(folder):
        if time.monotonic() > deadline:
            raise KeeperError(f"the control plane in {folder} did not end within {_STOP_SECONDS:.0f} s")
        time.sleep(0.05)
    return True


@contextlib.contextmanager
def shared(folder: Path, options: Options) -> Iterator[Cluster]:
    """The control plane of `folder`, which all users share and which ends with the last of them."""
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder / "users", fcntl.LOCK_SH):
        found = start(folder, replace(options, until_unused=True))
        yield Cluster(found.access)


@contextlib.contextmanager
def _locked(path: Path, kind: int) -> Iterator[None]:
    with path.open("a") as handle:
        fcntl.flock(handle, kind)
        yield


def _is_alive(folder: Path) -> bool:
    try:
        with (folder / "alive").open("r") as handle:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def main(argv: Sequence[str] | None = None) -> int:
    """The keeper itself: goes to the background holding `alive`, so that its caller knows at once that it lives."""
    folder, options = _parse(argv)
    with (folder / "alive").open("w") as alive:
        try:
            fcntl.flock(alive, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return 3
        _detach(folder / "keeper.log")
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        try:
            _keep(folder, options)
        except (ProcessError, BuildError, TimeoutError) as error:
            print(error, flush=True)
            return 1
        finally:
            (folder / "state.json").unlink(missing_ok=True)
            shutil.rmtree(folder / "plane" / "etcd", ignore_errors=True)
    return 0


def _detach(log: Path) -> None:
    if os.fork():
        os._exit(0)
    os.setsid()
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(source, target)


def _keep(folder: Path, options: Options) -> None:
    workdir = folder / "plane"
    shutil.rmtree(workdir, ignore_errors=True)
    if options.kubeconfig is not None:
        _keep_beside(folder, options, options.kubeconfig)
        return
    with ControlPlane() as plane:
        plane.start(workdir=workdir, nodes=options.nodes, webhooks=options.webhooks)
        journal = ""
        if options.simulator is not None:
            journal = str(plane.run_simulator(seed=options.seed, arguments=options.simulator))
        _apply(plane.kubeconfig, options.manifests)
        for program in _programs(options.programs):
            plane.run(program.name, program.argv, env=program.env)
        _tell(folder, State(os.getpid(), plane.access, plane.pids(), plane.start_seconds, journal))
        if options.until_unused:
            with _locked(folder / "users", fcntl.LOCK_EX):
                (folder / "state.json").unlink()
                plane.stop()
        else:
            _watch(plane.check)


def _keep_beside(folder: Path, options: Options, kubeconfig: Path) -> None:
    group = ProcessGroup(folder / "plane" / "logs")
    try:
        _apply(kubeconfig, options.manifests)
        for program in _programs(options.programs):
            group.start(program.name, program.argv, env=program.env)
        access = Access(
            url="", token="", ca=Path(), kubeconfig=kubeconfig, audit_log=Path(), service_range="", webhooks=True
        )
        _tell(folder, State(os.getpid(), access, group.pids()))
        _watch(group.check)
    finally:
        for name in group.running():
            group.stop(name, grace=15.0)
        group.close()


def _apply(kubeconfig: Path, manifests: Sequence[Path]) -> None:
    for path in manifests:
        command = [str(tools.binary("kubectl")), "--kubeconfig", str(kubeconfig), "apply", "--server-side"]
        done = subprocess.run([*command, "-f", str(path)], check=False, capture_output=True, text=True)
        if done.returncode:
            raise ProcessError(f"{path} could not be applied: {done.stderr.strip()}")


def _programs(path: Path | None) -> list[Program]:
    found = json.loads(path.read_text()) if path is not None else []
    return [Program(one["name"], tuple(one["argv"]), one["env"]) for one in found]


def _tell(folder: Path, found: State) -> None:
    draft = folder / "state.json.new"
    draft.touch(mode=0o600)
    draft.write_text(json.dumps(found.to_json()))
    draft.rename(folder / "state.json")


def _watch(check: Callable[[], None]) -> None:
    while True:
        check()
        time.sleep(1.0)


def _parse(argv: Sequence[str] | None) -> tuple[Path, Options]:
    parser = argparse.ArgumentParser(prog="python -m testbed.keeper", description="Keeps a control plane running.")
    parser.add_argument("--dir", type=Path, required=True)
    add_options(parser)
    parser.add_argument("--until-unused", action="store_true", help="end when nobody holds a lock on DIR/users")
    parser.add_argument("--apply", type=Path, action="append", default=[], help="manifests to apply once it is up")
    parser.add_argument("--programs", type=Path, help="JSON file of programs to run beside it")
    parser.add_argument("--kubeconfig", type=Path, help="start no control plane: keep the programs beside this cluster")
    args = parser.parse_args(argv)
    args.dir.mkdir(parents=True, exist_ok=True)
    options = to_options(args, until_unused=args.until_unused)
    return args.dir.resolve(), replace(
        options, manifests=tuple(args.apply), programs=args.programs, kubeconfig=args.kubeconfig
    )


def add_options(parser: argparse.ArgumentParser) -> None:
    """The arguments that `up` and the keeper share."""
    parser.add_argument("--nodes", type=int, default=1, metavar="N", help="simulated nodes (default: 1)")
    parser.add_argument("--no-webhooks", action="store_true", help="switch admission webhooks off")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the simulator's delays (default: 0)")
    parser.add_argument(
        "--simulator",
        nargs=argparse.REMAINDER,
        help="also run the simulator; everything behind it is passed on, such as --scale 0.1 --olm-crds DIR",
    )


def to_options(args: argparse.Namespace, *, until_unused: bool = False) -> Options:
    return Options(
        nodes=args.nodes,
        webhooks=not args.no_webhooks,
        seed=args.seed,
        simulator=None if args.simulator is None else tuple(args.simulator),
        until_unused=until_unused,
    )


if __name__ == "__main__":
    sys.exit(main())
