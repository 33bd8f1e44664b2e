"""The simulator as a subprocess, for tests and benches."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

_ROOT = Path(__file__).resolve().parents[2]


class SimulatorError(RuntimeError):
    """The simulator did not start, ended by itself, or did not do in time what was waited for."""


class Simulator:
    """Start it with `start()` or as a context manager; both return once its watches are in step.

    Delays are uniform in [minimum, maximum] times scale seconds, and depend on `seed` and the object alone. The
    simulator ends with this process.
    """

    def __init__(
        self,
        *,
        kubeconfig: Path,
        journal: Path,
        seed: int = 0,
        minimum: float = 1.0,
        maximum: float = 20.0,
        scale: float = 1.0,
        olm_crds: Path | None = None,
        broken: str = "",
        webhooks: bool = True,
        ungated: bool = False,
        workload_delays: bool = False,
    ) -> None:
        flags = {
            "--kubeconfig": kubeconfig,
            "--journal": journal,
            "--seed": seed,
            "--min": minimum,
            "--max": maximum,
            "--scale": scale,
            "--broken": broken,
        }
        switches = {"--no-webhooks": not webhooks, "--ungated": ungated, "--workload-delays": workload_delays}
        self._argv = [sys.executable, "-m", "testbed.simulator", "--control"]
        self._argv += [str(part) for flag, value in flags.items() for part in (flag, value)]
        self._argv += ["--olm-crds", str(olm_crds)] if olm_crds else []
        self._argv += [switch for switch, on in switches.items() if on]
        self._journal = journal
        self._log = journal.with_suffix(".log")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        return self._running.pid

    def start(self) -> Self:
        """Raises SimulatorError, with the end of its log, if it does not come up."""
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._argv, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
            )
        if not self._answer():
            self.stop()
            raise SimulatorError(f"the simulator did not start: {self._log.read_text()[-2000:]}")
        return self

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def break_(self, rules: str) -> None:
        """Replaces the rules of what is played broken; returns once they are in force. Empty mends everything."""
        stdin = self._running.stdin
        assert stdin is not None
        stdin.write(f"broken {rules}\n".encode())
        stdin.flush()
        if not self._answer():
            raise SimulatorError(f"the simulator did not take {rules!r}: {self._log.read_text()[-2000:]}")

    def entries(self, since: int = 0) -> list[dict[str, Any]]:
        """The journal's lines from number `since` on."""
        if not self._journal.exists():
            return []
        whole = [line for line in self._journal.read_bytes().split(b"\n")[:-1] if line]
        return [json.loads(line) for line in whole[since:]]

    def wait_for(
        self,
        kind: str,
        name: str,
        namespace: str = "",
        *,
        state: str = "healthy",
        since: int = 0,
        timeout: float = 60.0,
    ) -> dict[str, Any]:
        """The first journal line of that object in that state. Raises SimulatorError past `timeout` seconds."""
        what = {"kind": kind, "name": name, "namespace": namespace, "state": state}
        return self.wait_until(
            lambda entry: what.items() <= entry.items(), since=since, timeout=timeout, what=str(what)
        )

    def wait_until(
        self, matches: Callable[[dict[str, Any]], bool], *, since: int = 0, timeout: float = 60.0, what: str = ""
    ) -> dict[str, Any]:
        """The first journal line that matches. Raises SimulatorError past `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while True:
            found = next((entry for entry in self.entries(since) if matches(entry)), None)
            if found is not None:
                return found
            self.check()
            if time.monotonic() > deadline:
                raise SimulatorError(f"not in the journal after {timeout:.0f} s: {what}")
            time.sleep(0.05)

    def check(self) -> None:
        """Raises SimulatorError, with the end of its log, if it has ended by itself."""
        if self._running.poll() is not None:
            raise SimulatorError(f"the simulator ended: {self._log.read_text()[-2000:]}")

    @property
    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise SimulatorError("the simulator is not running")
        return self._process

    def _answer(self) -> bool:
        """Whether the next line it says is `ready`."""
        stdout = self._running.stdout
        assert stdout is not None
        return stdout.readline().strip() == b"ready"
