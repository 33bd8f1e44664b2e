"""One renderer process: a line goes in, a line comes out, and questions may come before the answer."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from clusterstack.errors import RenderError

MAX_LINE = 64 << 20
EXIT_MEMORY = 87  # renderer/isolate.go
STDERR_HEAD = 4096

Question = Callable[[dict[str, Any]], Awaitable[Mapping[str, Any]]]


class RendererProcess:
    """A running renderer. After any exception out of `request` it is of no more use: `kill` it."""

    def __init__(self, process: asyncio.subprocess.Process, *, memory_mib: int) -> None:
        self._process = process
        self._memory_mib = memory_mib
        self._ids = itertools.count(1)
        self._stderr = b""
        self._drain = asyncio.create_task(self._drain_stderr(), name=f"renderer-{process.pid}-stderr")
        self.served = 0
        self.idle_since = 0.0

    @classmethod
    async def start(cls, binary: Path, *, memory_mib: int) -> RendererProcess:
        """Raises RenderError(reason=RendererDied) when the program cannot be started."""
        try:
            process = await asyncio.create_subprocess_exec(
                str(binary),
                "--memory-mib",
                str(memory_mib),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                limit=MAX_LINE,
                env={"GOMEMLIMIT": f"{memory_mib * 3 // 4}MiB", "GOMAXPROCS": "2", "GOTRACEBACK": "single"},
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            raise _died(f"the renderer {binary} cannot be started: {error.strerror}") from error
        return cls(process, memory_mib=memory_mib)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.returncode is None

    async def request(self, message: Mapping[str, Any], *, question: Question, timeout: float) -> dict[str, Any]:
        """Sends a request and returns the answer, which may be `{"error": …}`.

        `timeout` is seconds of the renderer's own time: waiting for `question` does not count. Raises RenderError when
        the process dies, runs out of time or memory, or answers what is no answer.
        """
        identity = next(self._ids)
        self.served += 1
        self._stderr = b""
        try:
            async with asyncio.timeout(timeout) as limit:
                await self._send({**message, "id": identity})
                while True:
                    answer = await self._receive()
                    if answer.get("id") != identity:
                        raise _died("the renderer answered another request")
                    if "lookup" not in answer:
                        return answer
                    left = (limit.when() or 0.0) - asyncio.get_running_loop().time()
                    limit.reschedule(None)
                    reply = await question(answer["lookup"])
                    limit.reschedule(asyncio.get_running_loop().time() + left)
                    await self._send(reply)
        except TimeoutError as error:
            if not limit.expired():
                raise  # the question's own
            text = f"rendering took longer than {timeout:g} s"
            raise RenderError(text, reason="RenderTimeout", retryable=True) from error

    async def _send(self, message: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        try:
            line = msgspec.json.encode(message)
            if len(line) >= MAX_LINE:
                raise RenderError(f"the request is larger than {MAX_LINE >> 20} MiB", reason="RenderTooLarge")
            self._process.stdin.write(line + b"\n")
            await self._process.stdin.drain()
        except (BrokenPipeError, ConnectionResetError) as error:
            raise await self._cause_of_death() from error

    async def _receive(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        try:
            line = await self._process.stdout.readline()
        except ValueError as error:
            raise RenderError(f"the result is larger than {MAX_LINE >> 20} MiB", reason="RenderTooLarge") from error
        if not line.endswith(b"\n"):
            raise await self._cause_of_death()
        try:
            answer = msgspec.json.decode(line, type=dict[str, Any])
        except msgspec.MsgspecError as error:
            raise _died(f"the renderer's answer is not JSON: {error}") from error
        return answer

    async def _cause_of_death(self) -> RenderError:
        code = await self._process.wait()
        await self._drain
        if code == EXIT_MEMORY:
            text = f"rendering needs more than {self._memory_mib} MiB of memory"
            return RenderError(text, reason="RenderMemoryExceeded", retryable=True)
        lines = self._stderr.decode(errors="replace").strip().splitlines()
        cause = next(
            (line for line in lines if line.startswith(("fatal error: ", "panic: "))), lines[0] if lines else ""
        )
        return _died(f"the renderer died (exit status {code}){': ' + cause[:200] if cause else ''}")

    async def _drain_stderr(self) -> None:
        assert self._process.stderr is not None
        while part := await self._process.stderr.read(STDERR_HEAD):
            self._stderr = (self._stderr + part)[:STDERR_HEAD]  # a cause of death comes before the stack

    def resident_mib(self) -> int:
        """Resident memory in MiB; 0 where /proc cannot tell."""
        try:
            fields = Path(f"/proc/{self.pid}/statm").read_text().split()
        except OSError:
            return 0
        return int(fields[1]) * 4096 >> 20

    async def kill(self) -> None:
        """Ends the process and waits for it; safe to call twice."""
        if self.alive:  # its number cannot be another's yet
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
        await self._process.wait()
        await self._drain
        if self._process.stdin is not None:
            self._process.stdin.close()
            with suppress(BrokenPipeError, ConnectionResetError):
                await self._process.stdin.wait_closed()


def _died(text: str) -> RenderError:
    return RenderError(text, reason="RendererDied", retryable=True)
