"""The command line as a whole: help, exit codes, errors, verbs that need no cluster."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from clusterstack import __version__
from clusterstack.cli.main import VERBS, main

ROOT = Path(__file__).resolve().parents[3]

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def invoke(*argv: str) -> tuple[int, str, str]:
        try:
            code = main(argv)
        except SystemExit as error:
            code = int(error.code or 0)
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return invoke


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def test_help_lists_every_verb_and_the_exit_codes(run: Run) -> None:
    code, out, _ = run("--help")
    assert code == 0
    assert all(f"    {verb}" in out for verb in VERBS)
    assert "124  the timeout has passed" in out


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_has_help(run: Run, verb: str) -> None:
    code, out, _ = run(verb, "--help")
    assert code == 0
    assert out.startswith("usage:")


def test_help_imports_nothing_large() -> None:
    program = (
        "import sys\nfrom clusterstack.cli.main import parser\nparser().format_help()\n"
        "large = {'pydantic', 'kubernetes', 'aiohttp', 'kopf', 'cel_expr_python', 'prometheus_client', 'yaml'}\n"
        "print(*sorted(large & set(sys.modules)))"
    )
    environ = {**os.environ, "PYTHONPATH": str(ROOT / "operator")}
    found = subprocess.run([sys.executable, "-c", program], env=environ, capture_output=True, text=True, check=True)
    assert found.stdout == "\n"


def test_an_unknown_verb_is_a_usage_error(run: Run) -> None:
    code, _, err = run("explode")
    assert code == 2
    assert "explode" in err


def test_the_version_is_printed(run: Run) -> None:
    assert run("version")[:2] == (0, f"clusterstack {__version__}\n")
    code, out, _ = run("version", "-o", "json")
    assert (code, json.loads(out)["version"]) == (0, __version__)


def test_the_crds_are_those_of_the_repository(run: Run) -> None:
    _, out, _ = run("crds")
    for path in (ROOT / "crds").glob("*.yaml"):
        assert path.read_text().rstrip("\n") in out


def test_without_a_cluster_the_error_says_what_to_do(run: Run, tmp_path: Path) -> None:
    code, out, err = run("status", "--kubeconfig", str(tmp_path / "nowhere"))
    assert (code, out) == (3, "")
    assert "nowhere" in err
    assert "next: set KUBECONFIG" in err


def test_the_operator_says_which_flag_is_wrong(run: Run) -> None:
    code, _, err = run("operator", "--renderer", sys.executable, "--port", "many")
    assert code == 2
    assert "--port" in err
    assert "next:" in err


VALID = """\
apiVersion: clusterstack.dev/v1alpha1
kind: ClusterStack
metadata: {name: home}
spec:
  layers:
    - {name: apps, dependsOn: [base], manifests: [{apiVersion: v1, kind: Namespace, metadata: {name: apps}}]}
    - {name: base, manifests: [{apiVersion: v1, kind: Namespace, metadata: {name: base}}]}
"""


RULES = "{health: {expressions: [{apiVersion: a/v1, current: 'true'}, {apiVersion: a/v1, current: 'a ='}]}}"


def test_a_valid_stack_is_told_in_the_order_in_which_it_starts(run: Run, tmp_path: Path) -> None:
    other = "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: other}\n"
    code, out, _ = run("validate", write(tmp_path / "stack.yaml", VALID + other))
    assert code == 0
    assert out.endswith("ClusterStack home: valid, 2 layers: base → apps\n")


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("name: base, m", "name: base, dependsOn: [apps], m", "DependencyCycle"),
        ("dependsOn: [base]", "dependsOn: [bass]", "UnknownDependency"),
        ("dependsOn", "dependOn", "dependOn"),
        ("layers:", "interval: soon\n  layers:", "spec.interval"),
        ("layers:", f"defaults: {RULES}\n  layers:", "spec.defaults.health.expressions[1].current: line 1, column 3"),
        ("name: base,", f"name: base, {RULES[1:-1]},", "layer base: health.expressions[1].current: line 1, column 3"),
    ],
)
def test_what_is_wrong_with_a_stack_is_named(run: Run, tmp_path: Path, old: str, new: str, expected: str) -> None:
    path = write(tmp_path / "stack.yaml", VALID.replace(old, new, 1))
    code, out, _ = run("validate", path)
    assert code == 1
    assert expected in out
    code, out, _ = run("validate", path, "-o", "json")
    assert code == 1
    assert json.loads(out)[0]["problems"]


def test_a_file_without_a_stack_or_without_yaml_is_an_error(run: Run, tmp_path: Path) -> None:
    assert run("validate", write(tmp_path / "a.yaml", "apiVersion: v1\nkind: Namespace\nmetadata: {name: x}\n"))[0] == 4
    assert run("validate", str(tmp_path / "absent.yaml"))[0] == 4
    code, _, err = run("validate", write(tmp_path / "b.yaml", "a: [b\n"))
    assert code == 1
    assert "b.yaml" in err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_every_verb_and_its_options(run: Run, shell: str) -> None:
    code, out, _ = run("completion", shell)
    assert code == 0
    assert all(verb in out for verb in VERBS)
    assert "exit-code" in out


def test_bash_completes_verbs_and_options(run: Run, tmp_path: Path) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("bash is not installed")
    path = write(tmp_path / "completion", run("completion", "bash")[1])
    script = f"""\
source {path}
COMP_WORDS=(clusterstack st); COMP_CWORD=1; _clusterstack; echo "${{COMPREPLY[@]}}"
COMP_WORDS=(clusterstack judge --exi); COMP_CWORD=2; _clusterstack; echo "${{COMPREPLY[@]}}"
COMP_WORDS=(clusterstack completion z); COMP_CWORD=2; _clusterstack; echo "${{COMPREPLY[@]}}"
"""
    found = subprocess.run([bash, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout == "status\n--exit-code\nzsh\n"
