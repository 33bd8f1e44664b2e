"""`python -m testbed.demo up|once|down`."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections.abc import Sequence
from typing import Any

from testbed import anycluster, keeper, tools
from testbed.demo import stage
from testbed.demo.stage import DemoError, Stage
from testbed.demo.table import Table
from testbed.processes import ProcessError

_LOOK_SECONDS = 0.25
_GIVE_UP_SECONDS = 180.0
_FAILURES = (DemoError, anycluster.ClusterError, keeper.KeeperError, tools.BuildError, ProcessError, TimeoutError)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; the exit code is 0 when every layer became Ready."""
    args = _parser().parse_args(argv)
    demo = stage.named(args.name)
    try:
        match args.command:
            case "down":
                print("the demo is gone" if stage.take_down(demo) else "there was no demo")
                return 0
            case "once":
                return _once(demo, args.cluster)
            case _:
                return _up(demo, args.cluster)
    except _FAILURES as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; `make demo-down` ends what runs in the background", file=sys.stderr)
        return 130


def _up(demo: Stage, cluster: str) -> int:
    if stage.is_up(demo):
        print("the demo is up already; `make demo-down` ends it")
    else:
        _start(demo, cluster)
    ready = _watch(demo)
    print(_what_next(demo))
    return 0 if ready else 1


def _once(demo: Stage, cluster: str) -> int:
    try:
        _start(demo, cluster)
        return 0 if _watch(demo) else 1
    finally:
        stage.take_down(demo)


def _start(demo: Stage, cluster: str) -> None:
    print(f"starting a control plane ({cluster}), a Git and chart server, and the operator …", flush=True)
    started = time.monotonic()
    stage.take_down(demo)
    stage.raise_up(demo, cluster=cluster)
    print(f"up in {time.monotonic() - started:.1f} s; applying examples/demo/clusterstack.yaml", flush=True)


def _watch(demo: Stage) -> bool:
    """Applies the stack and shows its layers until it is Ready (True) or time is up."""
    _apply(demo)
    table, started = Table(sys.stdout), time.monotonic()
    status: dict[str, Any] = {}
    while time.monotonic() - started < _GIVE_UP_SECONDS:
        found = json.loads(stage.kubectl(demo, "get", "clusterstack", stage.STACK, "-o", "json"))
        status = found.get("status") or {}
        table.show(status, time.monotonic() - started)
        if status.get("observedGeneration") == found["metadata"]["generation"] and status.get("phase") == "Ready":
            total = status["summary"]["total"]
            print(f"all {total} layers are Ready after {time.monotonic() - started:.1f} s")
            return True
        stage.check(demo)
        time.sleep(_LOOK_SECONDS)
    print(f"not Ready after {_GIVE_UP_SECONDS:.0f} s: {status.get('summary', {}).get('message', 'no status')}")
    for line in stage.complaints(demo):
        print(f"  operator: {line}")
    return False


def _apply(demo: Stage) -> None:
    """The first tries may come before the API server serves kinds that it has just been told of."""
    path = str(stage.EXAMPLE / "clusterstack.yaml")
    for _ in range(20):
        try:
            stage.kubectl(demo, "apply", "-f", path)
        except DemoError as error:
            if "no matches for kind" not in str(error):
                raise
            time.sleep(_LOOK_SECONDS)
        else:
            return
    stage.kubectl(demo, "apply", "-f", path)


def _what_next(demo: Stage) -> str:
    return f"""
What to look at next:

  export KUBECONFIG={shlex.quote(str(demo.kubeconfig))}
  export PATH={shlex.quote(str(demo.commands))}:"$PATH"
  kubectl get cst                        # one line for the whole stack; -w to watch
  kubectl get stacklayers                # one line a layer
  clusterstack status
  helm ls -A                             # releases are real Helm releases

Break a layer in Git, see why, and mend it:

  cd {shlex.quote(str(demo.repository.worktree))}
  sed -i 's/name: fast/name: FAST/' base/storage.yaml && git commit -qam 'Break it' && git push -q
  clusterstack why                       # within seconds; the other layers stay Ready
  git revert --no-edit HEAD && git push -q

Change something by hand, and see it put right:

  kubectl -n shop scale deployment shop --replicas 0

Delete everything, the last layer first:

  kubectl delete clusterstack {stage.STACK}

Logs are in {demo.logs}; `make demo-down` ends it all and leaves nothing."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m testbed.demo", description=__doc__)
    parser.add_argument("command", choices=("up", "once", "down"), help="up stays in the background; once does not")
    parser.add_argument(
        "--cluster", choices=("testbed", "kind"), default="testbed", help="kind needs Docker (default: testbed)"
    )
    parser.add_argument("--name", default="demo", help="of the folder for everything it makes (default: demo)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
