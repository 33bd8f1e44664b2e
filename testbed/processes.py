"""Child processes that never outlive the process that started them, whichever way it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

_TAIL_BYTES = 4000


class ProcessError(RuntimeError):
    """A child ended when it should not have; the message holds the end of its log."""


class ProcessGroup:
    """Named children in one process group, with a guard that kills the group when this process is gone.

    The guard is a shell that waits for the end of its standard input. The kernel closes that pipe however the parent
    ends, SIGKILL included, and unlike a parent-death signal it does not depend on the thread that started a child.
    """

    def __init__(self, logs: Path) -> None:
        self.logs = logs
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._guard: subprocess.Popen[bytes] | None = None

    def start(self, name: str, argv: Sequence[str | Path], *, env: Mapping[str, str] | None = None) -> None:
        """Starts a child here that writes to `<logs>/<name>.log`. It sees `env` only, beside PATH and HOME."""
        if name in self._children:
            raise ProcessError(f"{name} is running already")
        self.logs.mkdir(parents=True, exist_ok=True)
        minimal = {key: os.environ[key] for key in ("PATH", "HOME", "TMPDIR") if key in os.environ}
        with self.log_of(name).open("ab") as log:
            self._children[name] = subprocess.Popen(
                [str(part) for part in argv],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**minimal, **(env or {})},
                process_group=self._group(),
            )

    def log_of(self, name: str) -> Path:
        return self.logs / f"{name}.log"

    def running(self) -> tuple[str, ...]:
        return tuple(name for name, child in self._children.items() if child.poll() is None)

    def pids(self) -> dict[str, int]:
        return {name: child.pid for name, child in self._children.items()}

    def check(self) -> None:
        """Raises ProcessError if any child has ended by itself."""
        for name, child in self._children.items():
            if (code := child.poll()) is not None:
                raise ProcessError(
                    f"{name} ended with code {code}; the end of {self.log_of(name)}:\n{self._tail(name)}"
                )

    def signal(self, name: str, number: signal.Signals) -> None:
        self._children[name].send_signal(number)

    def stop(self, name: str, *, grace: float) -> None:
        """Ends a child: SIGTERM, and SIGKILL after `grace` seconds. Unknown names and ended children are fine."""
        child = self._children.pop(name, None)
        if child is None:
            return
        if child.poll() is None:
            child.send_signal(signal.SIGCONT)  # a stopped child would not see SIGTERM
            child.terminate() if grace > 0 else child.kill()
        try:
            child.wait(timeout=grace or None)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()

    def close(self) -> None:
        """Kills what is left and the guard."""
        for name in tuple(self._children):
            self.stop(name, grace=0)
        if self._guard is not None:
            self._guard.kill()
            self._guard.communicate()
            self._guard = None

    def rss_mib(self) -> dict[str, float]:
        """Resident memory per running child, in MiB."""
        sizes = {name: rss_mib_of(child.pid) for name, child in self._children.items()}
        return {name: size for name, size in sizes.items() if size is not None}

    def _group(self) -> int:
        if self._guard is None:
            self._guard = subprocess.Popen(
                ["/bin/sh", "-c", "read _; kill -KILL 0"], stdin=subprocess.PIPE, process_group=0
            )
        return self._guard.pid

    def _tail(self, name: str) -> str:
        try:
            return self.log_of(name).read_bytes()[-_TAIL_BYTES:].decode(errors="replace")
        except OSError as error:
            return str(error)


def rss_mib_of(pid: int) -> float | None:
    """Resident memory of any process in MiB; None when it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS:")), None)


def wait_for(condition: Callable[[], bool], *, what: str, timeout: float, check: Callable[[], None]) -> None:
    """Polls a condition that has no event, failing at once when `check` raises; TimeoutError names `what`."""
    deadline = time.monotonic() + timeout
    while not condition():
        check()
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not happen within {timeout:.0f} s")
        time.sleep(0.03)
