"""The operator as a process of its own, started as a person would start it, against any cluster."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from testbed import tools
from testbed.processes import rss_mib_of

_ROOT = Path(__file__).resolve().parent.parent
_READY_SECONDS = 60.0
_STOP_SECONDS = 15.0


class OperatorError(RuntimeError):
    """The operator did not start, or ended by itself; the message holds the end of its log."""


def command(
    *, kubeconfig: Path, cache: Path, port: int, mirrors: Mapping[str, str], arguments: Sequence[str] = ()
) -> list[str]:
    """What to run. `mirrors` are prefixes of addresses and what to fetch from instead."""
    argv = [sys.executable, "-m", "clusterstack.cli.main", "operator"]
    argv += ["--kubeconfig", str(kubeconfig), "--cache", str(cache), "--bind", "127.0.0.1", "--port", str(port)]
    argv += ["--renderer", str(tools.binary(tools.RENDERER)), "--log-format", "json"]
    argv += [part for source, target in mirrors.items() for part in ("--mirror", f"{source}={target}")]
    return [*argv, *arguments]


def environment() -> dict[str, str]:
    """What the operator sees beside its arguments."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR", "LANG") if name in os.environ}
    return {**kept, "PYTHONPATH": str(_ROOT / "operator"), "PYTHONUNBUFFERED": "1"}


class Operator:
    """One operator process; `start` returns when it is ready, `stop` when it is gone."""

    def __init__(
        self,
        *,
        kubeconfig: Path,
        workdir: Path,
        mirrors: Mapping[str, str] | None = None,
        arguments: Sequence[str] = (),
    ) -> None:
        self.cache, self.log = workdir / "cache", workdir / "operator.log"
        self.port = free_port()
        self._argv = command(
            kubeconfig=kubeconfig, cache=self.cache, port=self.port, mirrors=mirrors or {}, arguments=arguments
        )
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        return self._running.pid

    @property
    def rss_mib(self) -> float:
        """Resident memory of the operator itself, its renderers not counted."""
        return rss_mib_of(self.pid) or 0.0

    def start(self, *, ready: bool = True) -> Self:
        """Starts it and waits until /readyz answers, unless `ready` is false. Raises OperatorError."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._argv, env=environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + _READY_SECONDS
        while ready and not self.get("/readyz"):
            self.check()
            if time.monotonic() > deadline:
                self.kill()
                raise OperatorError(f"the operator was not ready within {_READY_SECONDS:.0f} s:\n{self._tail()}")
            time.sleep(0.05)
        return self

    def check(self) -> None:
        """Raises OperatorError if it has ended by itself."""
        if (code := self._running.poll()) is not None:
            raise OperatorError(f"the operator ended with code {code}:\n{self._tail()}")

    def stop(self) -> int | None:
        """SIGTERM, as Kubernetes ends a container; the exit code, or None when it was not running."""
        process, self._process = self._process, None
        if process is None:
            return None
        process.terminate()
        try:
            return process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._kill(process)
            raise OperatorError(f"the operator did not stop within {_STOP_SECONDS:.0f} s:\n{self._tail()}") from None
        finally:
            self._sweep(process)

    def kill(self) -> None:
        """Ends it without a word, as a crash or a power cut would."""
        process, self._process = self._process, None
        if process is not None:
            self._kill(process)

    def get(self, path: str) -> str:
        """The text at a path of its HTTP server; empty when it does not answer with success."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return str(answer.read().decode()) or "ok"
        except OSError:
            return ""

    def lines(self) -> list[dict[str, Any]]:
        """What it logged, as far as it is JSON."""
        found = []
        for line in self.log.read_text().splitlines() if self.log.exists() else ():
            with contextlib.suppress(json.JSONDecodeError):
                found.append(json.loads(line))
        return found

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise OperatorError("the operator is not running")
        return self._process

    def _kill(self, process: subprocess.Popen[bytes]) -> None:
        process.kill()
        process.wait()
        self._sweep(process)

    def _sweep(self, process: subprocess.Popen[bytes]) -> None:
        """Its renderers and git are in its own process group; none of them may stay behind."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)

    def _tail(self) -> str:
        return self.log.read_bytes()[-4000:].decode(errors="replace") if self.log.exists() else ""


def free_port() -> int:
    """A port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
