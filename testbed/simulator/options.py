"""What a simulator is told on its command line."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from testbed.simulator.broken import BrokenRules

_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Options:
    """`minimum`, `maximum`: seconds of a delay before `scale`; `ungated`: controllers act without their Deployment."""

    kubeconfig: Path
    journal: Path
    seed: int = 0
    minimum: float = 1.0
    maximum: float = 20.0
    scale: float = 1.0
    olm_crds: Path | None = None
    broken: BrokenRules = field(default_factory=BrokenRules)
    webhooks: bool = True
    ungated: bool = False
    workload_delays: bool = False
    control: bool = False


def parse(argv: Sequence[str] | None = None) -> Options:
    args = _parser().parse_args(argv)
    return Options(
        kubeconfig=args.kubeconfig,
        journal=args.journal,
        seed=args.seed,
        minimum=args.min,
        maximum=args.max,
        scale=args.scale,
        olm_crds=args.olm_crds or default_olm_crds(),
        broken=BrokenRules.parse(args.broken),
        webhooks=args.webhooks,
        ungated=args.ungated,
        workload_delays=args.workload_delays,
        control=args.control,
    )


def default_olm_crds() -> Path | None:
    """The CRDs of OLM's bundles beside the homelab data set, if that is there."""
    homelab = Path(os.environ.get("HOMELAB") or _ROOT.parent / "shared" / "homelab")
    folder = homelab / "olm-crds"
    return folder if folder.is_dir() else None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m testbed.simulator", description="Plays a cluster's controllers.")
    parser.add_argument("--kubeconfig", type=Path, required=True)
    parser.add_argument("--journal", type=Path, required=True, help="file that gets one JSON line per event")
    parser.add_argument("--seed", type=int, default=0, help="with an object's identity, decides its delay (default: 0)")
    parser.add_argument("--min", type=float, default=1.0, help="shortest delay in seconds (default: 1)")
    parser.add_argument("--max", type=float, default=20.0, help="longest delay in seconds (default: 20)")
    parser.add_argument("--scale", type=float, default=1.0, help="factor on every delay; 0 = none (default: 1)")
    parser.add_argument("--olm-crds", type=Path, help="CRDs that OLM's bundles install")
    parser.add_argument("--broken", default="", metavar="KIND[/NAMESPACE]/NAME=MODE,…", help="objects to play broken")
    parser.add_argument(
        "--no-webhooks", dest="webhooks", action="store_false", help="do not answer for webhooks and APIs"
    )
    parser.add_argument("--ungated", action="store_true", help="controllers act even if their Deployment is not there")
    parser.add_argument("--workload-delays", action="store_true", help="pods start only after their workload's delay")
    parser.add_argument("--control", action="store_true", help="read `broken RULES` lines from standard input")
    parser.add_argument("--service-range", help="ignored: addresses are read off the Services")
    return parser
