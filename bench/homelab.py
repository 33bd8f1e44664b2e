"""The homelab from empty to all layers Ready, unattended, on a real API server: how long, how true, how quiet after.

Prints one JSON line per seed, and for several seeds one more that sums them up. `seconds` run from the apply of
examples/homelab to 13 of 13 layers Ready.
`critical_path_seconds` is what the simulated controllers and pods alone need, from the simulator's journal;
`raw_apply_seconds` is a plain server-side apply of the same objects to an empty control plane, 32 requests at a time;
`render_seconds` is the processor time of the operator's renderers and git. `false_ready`: see testbed/falseready.py.
`writes_*` count the operator's accepted writes, Lease and the answer to reconcileAt aside.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from bench.rawapply import RefusedError, raw_apply
from testbed import falseready, outside
from testbed.homelab import Homelab, NotReadyError, location
from testbed.operator_process import OperatorError
from testbed.processes import ProcessError
from testbed.releases import release_groups
from testbed.simulator import SimulatorError
from testbed.simulator.critical import Item, critical_path

_SETTLE_SECONDS = 10.0
_MARGIN_SECONDS = 15.0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs every seed; the exit code is 0 when each was Ready in time, never falsely, and wrote nothing afterwards."""
    args = _parser().parse_args(argv)
    if location() is None:
        print("no homelab data set: name its folder with HOMELAB=", file=sys.stderr)
        return 2
    results = []
    for seed in [*(args.seed or []), *range(args.seeds)] or [0]:
        with tempfile.TemporaryDirectory(prefix="clusterstack-homelab-") as scratch:
            workdir = Path(args.keep) / f"seed-{seed}" if args.keep else Path(scratch)
            try:
                result = run(workdir, seed=seed, args=args)
            except (NotReadyError, OperatorError, ProcessError, SimulatorError, TimeoutError) as error:
                print(f"seed {seed}: {error}", file=sys.stderr)
                result = {"seed": seed, "layers": 13, "error": str(error).splitlines()[0]}
        print(json.dumps(result), flush=True)
        results.append(result)
    if len(results) > 1:
        print(json.dumps(sum_up(results)), flush=True)
    return 0 if all(_is_good(result) for result in results) else 1


def sum_up(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """All seeds in one line: how many came up, what was false and what was written in vain in all, the times."""
    done = [result for result in results if "error" not in result]
    counts = sorted({name for result in done for name in result if name.startswith("writes_")})
    seconds = [result["seconds"] for result in done]
    return {
        "seeds": len(results),
        "all_ready": sum(result["ready"] == result["layers"] for result in done),
        "false_ready": sum(result["false_ready"] for result in done),
        "seconds_median": round(statistics.median(seconds), 1) if seconds else None,
        "seconds_max": max(seconds, default=None),
        **{name: sum(result.get(name, 0) for result in done) for name in counts},
    }


def run(workdir: Path, *, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """One seed, as the line to print."""
    shutil.rmtree(workdir, ignore_errors=True)
    with Homelab(workdir=workdir, seed=seed, scale=args.scale) as homelab:
        _say(f"seed {seed}: control plane up in {homelab.plane.start_seconds:.1f} s; applying the example")
        result = {"seed": seed, **_bring_up(homelab, timeout=args.timeout)}
        _say(f"seed {seed}: {result['ready']}/{result['layers']} Ready after {result['seconds']} s")
        result |= _quiet(homelab, restarts=args.restarts)
        objects = _manifests(homelab) if args.raw else []
        if args.keep:
            (workdir / "objects.json").write_text(json.dumps(objects))
    if args.raw:
        _say(f"seed {seed}: applying {len(objects)} objects plainly")
        result["raw_apply_seconds"] = raw = _raw(workdir / "raw", objects)
        if raw is not None:
            parts = (result["critical_path_seconds"], raw, result["render_seconds"], _MARGIN_SECONDS)
            result["target_seconds"] = round(sum(parts), 1)
    return result


def _raw(workdir: Path, objects: Sequence[Mapping[str, Any]]) -> float | None:
    try:
        return round(raw_apply(workdir, objects), 1)
    except RefusedError as error:
        _say(str(error))
        return None


def _bring_up(homelab: Homelab, *, timeout: float) -> dict[str, Any]:
    since = homelab.plane.audit_offset()
    started = time.monotonic()
    homelab.apply()
    stack = homelab.wait_ready(timeout=timeout)
    seconds = time.monotonic() - started
    operator = homelab.operator
    assert operator is not None
    memory, render = _peak_mib(operator.pid), _children_seconds(operator.pid)
    api = homelab.plane.api
    inventories = outside.inventories(api, homelab.name)
    false = falseready.judge(homelab.evidence(stack, since))
    for one in false:
        _say(f"FALSE READY {one.write.layer}: {one.item}: {one.why}")
    path = _critical_path(homelab, stack, inventories)
    return {
        "layers": stack["status"]["summary"]["total"],
        "ready": stack["status"]["summary"]["ready"],
        "seconds": round(seconds, 1),
        "critical_path_seconds": round(path.seconds, 1),
        "raw_apply_seconds": None,
        "render_seconds": round(render, 1),
        "objects": sum(len(entries_) for entries_ in inventories.values()),
        "releases": len(outside.deployed_releases(api)),
        "writes": len(homelab.writes(since)),
        "false_ready": len(false),
        "rss_mib": round(memory),
        "critical_path": [
            f"{step.item.kind} {step.item.namespace}/{step.item.name} {step.done:.1f}" for step in path.steps
        ],
    }


def _critical_path(
    homelab: Homelab,
    stack: Mapping[str, Any],
    inventories: Mapping[str, list[outside.Owned]],
) -> Any:
    groups = release_groups(outside.graph(stack), homelab.data / "repo", inventories)
    member = {
        Item(one.item.kind, one.item.namespace, one.item.name): f"{layer}/{one.unit}" if one.unit else layer
        for layer, owned in inventories.items()
        for one in owned
    }
    return critical_path(homelab.entries(), groups, member.get)


def _quiet(homelab: Homelab, *, restarts: bool) -> dict[str, int]:
    """Writes of a second pass, of a restart, and of a restart without the cache, over an unchanged cluster."""
    counts = {"writes_second_pass": _count(homelab, "second pass")}
    if restarts:
        counts["writes_restart"] = _count(homelab, "restart", restart=True)
        counts["writes_restart_without_cache"] = _count(homelab, "restart without cache", restart=True, lose_cache=True)
    return counts


def _count(homelab: Homelab, what: str, *, restart: bool = False, lose_cache: bool = False) -> int:
    """What was left to do at first is not counted: the cluster is given time to settle before."""
    time.sleep(_SETTLE_SECONDS)
    since = homelab.plane.audit_offset()
    if restart:
        homelab.restart(lose_cache=lose_cache)
    homelab.reconcile()
    homelab.wait_ready(timeout=60)
    time.sleep(_SETTLE_SECONDS)
    writes = homelab.writes(since)
    for event in writes[:20]:
        about = event["objectRef"]
        name = f"{about.get('namespace', '')}/{about.get('name', '')}"
        _say(f"{what}: {event['verb']} {about.get('resource')}/{about.get('subresource', '')} {name}")
    return len(writes)


def _manifests(homelab: Homelab) -> list[dict[str, Any]]:
    """Every object of the inventories as it is in the cluster, and the CRDs that OLM brought."""
    plural = {(group, kind): resource for (group, resource), kind in outside.kinds(homelab.plane.api).items()}
    found: dict[outside.Item, dict[str, Any]] = {}
    for owned in outside.inventories(homelab.plane.api, homelab.name).values():
        for one in owned:
            group, kind, namespace, name = one.item
            root = f"/apis/{one.api_version}" if group else f"/api/{one.api_version}"
            within = f"/namespaces/{namespace}" if namespace else ""
            path = f"{root}{within}/{plural[group, kind]}/{name}"
            live = homelab.plane.api.find(path)
            if live is not None:
                found[one.item] = {**live, "path": path}
    for file in sorted((homelab.data / "olm-crds").glob("*.yaml")):
        for crd in yaml.safe_load_all(file.read_text()):
            root = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
            item = outside.Item("apiextensions.k8s.io", crd["kind"], "", crd["metadata"]["name"])
            found[item] = {**crd, "path": f"{root}/{item.name}"}
    return list(found.values())


def _peak_mib(pid: int) -> float:
    """The most memory that a process has had, in MiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))


def _children_seconds(pid: int) -> float:
    """Processor time of a process's children: of those that ended, and of those that live."""
    ticks = os.sysconf("SC_CLK_TCK")
    fields = _stat(pid)
    total = int(fields[13]) + int(fields[14])
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            total += int(_stat(int(child))[11]) + int(_stat(int(child))[12])
    return total / ticks


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat behind the program's name, which may hold spaces."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _is_good(result: Mapping[str, Any]) -> bool:
    if "error" in result:
        return False
    quiet = all(not value for name, value in result.items() if name.startswith("writes_"))
    in_time = "target_seconds" not in result or result["seconds"] <= result["target_seconds"]
    return result["ready"] == result["layers"] and not result["false_ready"] and quiet and in_time


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="make bench-homelab ARGS=…", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, action="append", metavar="N", help="of the delays; repeatable (default: 0)")
    parser.add_argument("--seeds", type=int, default=0, metavar="N", help="the seeds from 0 to N - 1")
    parser.add_argument("--scale", type=float, default=1.0, help="factor on the delays of 1-20 s (default: 1)")
    parser.add_argument("--timeout", type=float, default=900.0, metavar="S", help="give up after this (default: 900)")
    parser.add_argument("--no-raw", dest="raw", action="store_false", help="do not measure the plain apply")
    parser.add_argument("--no-restarts", dest="restarts", action="store_false", help="do not restart the operator")
    parser.add_argument("--keep", metavar="DIR", help="leave logs, journal and audit log here")
    return parser


if __name__ == "__main__":
    sys.exit(main())
