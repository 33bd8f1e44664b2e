"""What the demo consists of, and how it is set up and taken away."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from testbed import anycluster, keeper, operator_process, site, tools
from testbed.components import PROGRAMS
from testbed.gitrepo import GitRepository

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "demo"
STACK = "demo"
GIT_HOST, CHART_HOST = "https://git.example.com/", "https://charts.example.com"
_MANIFESTS = (ROOT / "deploy" / "base" / "namespace.yaml", ROOT / "crds")


class DemoError(RuntimeError):
    """The demo cannot go on; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A demo that is, or will be, up. All its files are in `folder`."""

    folder: Path

    @property
    def kubeconfig(self) -> Path:
        kind = self.folder / "kind.kubeconfig"
        return kind if kind.exists() else keeper.kubeconfig(self.folder)

    @property
    def repository(self) -> GitRepository:
        return GitRepository(self.folder / "site" / "git" / "platform.git")

    @property
    def commands(self) -> Path:
        """A folder for PATH: clusterstack, kubectl and helm, of the very versions that the demo uses."""
        return self.folder / "bin"

    @property
    def logs(self) -> Path:
        return self.folder / "plane" / "logs"


def named(name: str) -> Stage:
    """Several demos can be up side by side; `make demo` uses the one called demo."""
    return Stage(tools.cache_root() / "planes" / name)


def is_up(stage: Stage) -> bool:
    return keeper.state(stage.folder) is not None


def raise_up(stage: Stage, *, cluster: str) -> None:
    """Starts everything; returns when the API server knows our kinds and the operator is on its way."""
    for program in (*PROGRAMS, "kubectl", tools.RENDERER) if cluster == "testbed" else ("kubectl", tools.RENDERER):
        tools.binary(program)
    _make_site(stage)
    _make_commands(stage)
    kubeconfig = None
    if cluster == "kind":
        kubeconfig = stage.folder / "kind.kubeconfig"
        anycluster.create_kind(kubeconfig)
    programs = keeper.write_programs(stage.folder / "programs.json", _programs(stage))
    keeper.start(stage.folder, keeper.Options(manifests=_MANIFESTS, programs=programs, kubeconfig=kubeconfig))


def take_down(stage: Stage) -> bool:
    """Ends everything and removes its files; whether there was anything."""
    there = stage.folder.exists()
    keeper.stop(stage.folder)
    if (stage.folder / "kind.kubeconfig").exists():
        anycluster.delete_kind()
    shutil.rmtree(stage.folder, ignore_errors=True)
    return there


def kubectl(stage: Stage, *arguments: str, check: bool = True) -> str:
    """The output of a kubectl command against the demo's cluster. Raises DemoError with what it complained about."""
    command = [str(tools.binary("kubectl")), "--kubeconfig", str(stage.kubeconfig), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise DemoError(f"kubectl {' '.join(arguments)} failed: {done.stderr.strip()}")
    return done.stdout


def check(stage: Stage) -> None:
    """Raises DemoError if something of the demo has ended by itself."""
    if not is_up(stage):
        log = stage.folder / "keeper.log"
        text = log.read_text()[-2000:] if log.exists() else ""
        raise DemoError(f"the demo's control plane or operator ended; logs are in {stage.logs}\n{text}".rstrip())


def complaints(stage: Stage, count: int = 10) -> list[str]:
    """The last things that the operator's log says and that are no mere information."""
    log = stage.logs / "operator.log"
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return [line[:2000] for line in lines if '"level":"info"' not in line][-count:]


def _make_site(stage: Stage) -> None:
    stage.repository.create(EXAMPLE / "repo").welcome("You", "you@example.com")
    site.pack_charts(EXAMPLE / "charts", stage.folder / "site" / "charts")


def _make_commands(stage: Stage) -> None:
    stage.commands.mkdir(parents=True)
    here = Path(sys.executable).parent
    commands = {name: here / name for name in ("clusterstack", "kubectl-clusterstack")}
    for name, target in {**commands, **{name: tools.binary(name) for name in ("kubectl", "helm")}}.items():
        (stage.commands / name).symlink_to(target)


def _programs(stage: Stage) -> list[keeper.Program]:
    port = operator_process.free_port()
    web = f"http://127.0.0.1:{port}"
    environment = operator_process.environment()
    python = operator_process.command(
        kubeconfig=stage.kubeconfig,
        cache=stage.folder / "cache",
        port=operator_process.free_port(),
        mirrors={GIT_HOST: f"{web}/git/", CHART_HOST: f"{web}/charts"},
    )
    serve = [python[0], "-m", "testbed.site", "--root", str(stage.folder / "site"), "--port", str(port)]
    return [
        keeper.Program("site", tuple(serve), {**environment, "PYTHONPATH": str(ROOT)}),
        keeper.Program("operator", tuple(python), environment),
    ]
