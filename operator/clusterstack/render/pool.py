"""A pool of renderer processes: started when needed, one request at a time each, replaced when they misbehave."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from clusterstack.core.objects import Manifest
from clusterstack.errors import LookupFailed, RenderError
from clusterstack.render.process import Question, RendererProcess
from clusterstack.render.protocol import (
    ChartInfo,
    HelmRendered,
    HelmRequest,
    KustomizeBuilt,
    KustomizeRequest,
    Lookup,
    LookupKey,
    PostRender,
    PostRendered,
    RemotesMissing,
)

_REASONS = {
    "load": "ChartInvalid",
    "incompatible": "ChartIncompatible",
    "schema": "ValuesRejected",
    "values": "ValuesRejected",
    "template": "TemplateFailed",
    "yaml": "InvalidYAML",
    "kustomize": "BuildFailed",
    "remote-git": "RemoteBaseUnsupported",
    "too-large": "RenderTooLarge",
}
_MAY_COME_FROM_LOOKUP = frozenset({"template", "lookup", "yaml", "kustomize", "panic"})
_HINTS = {
    "schema": "fix the values, or turn schema validation off for this release",
    "remote-git": "copy the base into the repository, or refer to a single YAML file by its URL",
}


class RendererPool:
    """Renders through at most `size` processes; calls past that wait their turn.

    `timeout` (seconds) and `memory_mib` bound one request; a process past either is killed and its request fails. A
    process is also replaced after `max_requests`, and stopped after `idle` seconds without work. Bound to the event
    loop of its first call.
    """

    def __init__(
        self,
        binary: Path,
        *,
        size: int | None = None,
        timeout: float = 90,
        memory_mib: int = 1024,
        max_requests: int = 500,
        idle: float = 60,
    ) -> None:
        self._binary = binary
        self._timeout = timeout
        self._memory_mib = memory_mib
        self._max_requests = max_requests
        self._idle_seconds = idle
        self._slots = asyncio.Semaphore(max(1, size or os.cpu_count() or 1))
        self._idle: list[RendererProcess] = []
        self._reaper: asyncio.Task[None] | None = None
        self._closed = False

    async def kustomize(self, request: KustomizeRequest) -> KustomizeBuilt:
        """Builds a directory. Raises RenderError; RemotesMissing when URLs must be fetched first."""
        answer = await self._call(request.encode(), question=_no_questions)
        return KustomizeBuilt(tuple(answer["objects"]), tuple(answer["inputs"]))

    async def helm(self, request: HelmRequest, *, lookup: Lookup) -> HelmRendered:
        """Renders a chart, asking `lookup` for what its templates look up in the cluster.

        Raises LookupFailed when rendering failed after a lookup (what it read may change), else RenderError with reason
        ChartInvalid, ChartIncompatible, ValuesRejected, TemplateFailed or InvalidYAML.
        """
        asked: list[LookupKey] = []

        async def question(raw: dict[str, Any]) -> Mapping[str, Any]:
            key = (raw["apiVersion"], raw["kind"], raw["namespace"], raw["name"])
            if key not in asked:
                asked.append(key)
            return (await lookup(*key)).encode()

        answer = await self._call(request.encode(), question=question, asked=asked)
        return HelmRendered.decode(answer, lookups=tuple(asked))

    async def post_render(
        self, objects: Sequence[Manifest], *, hooks: Sequence[Manifest] = (), post: PostRender
    ) -> PostRendered:
        """Takes objects that are already rendered through post-renderers; HelmRequest.post_render does it in one go."""
        message = {"op": "postrender", "objects": list(objects), "hooks": list(hooks), **post.encode()}
        return PostRendered.decode(await self._call(message, question=_no_questions))

    async def chart_info(self, chart: Path, *, root: Path | None = None) -> ChartInfo:
        """Reads a chart without rendering it. Raises RenderError(reason=ChartInvalid)."""
        message = {"op": "charts-metadata", "chart": str(chart), "root": str(root) if root else ""}
        answer = await self._call(message, question=_no_questions)
        return ChartInfo(answer["metadata"], answer["values"] or {}, tuple(answer["dependencies"]), answer["crds"])

    async def crds(self, chart: Path, *, values: Mapping[str, Any], root: Path | None = None) -> tuple[Manifest, ...]:
        """The objects under crds/ of a chart and of the subcharts that these values enable, without rendering it."""
        message = {"op": "crds", "chart": str(chart), "root": str(root) if root else "", "values": values}
        answer = await self._call(message, question=_no_questions)
        return tuple(crd for file in answer["crds"] for crd in file["objects"])

    async def close(self) -> None:
        """Stops every idle process; a call in flight stops its own when it ends."""
        self._closed = True
        if self._reaper is not None:
            self._reaper.cancel()
            await asyncio.gather(self._reaper, return_exceptions=True)
        while self._idle:
            await self._idle.pop().kill()

    async def _call(
        self, message: Mapping[str, Any], *, question: Question, asked: Sequence[LookupKey] = ()
    ) -> dict[str, Any]:
        async with self._slots:
            answer = await self._exchange(message, question)
        failure = answer.get("error")
        if failure is not None:
            raise _error_of(failure, tuple(asked))
        return answer

    async def _exchange(self, message: Mapping[str, Any], question: Question) -> dict[str, Any]:
        process = await self._take()
        try:
            answer = await process.request(message, question=question, timeout=self._timeout)
        except BaseException:
            # Also a cancelled caller: a process with half a conversation behind it must not serve the next one.
            await process.kill()
            raise
        await self._give_back(process)
        return answer

    async def _take(self) -> RendererProcess:
        if self._closed:
            raise RenderError("the renderer pool is closed", reason="RendererDied", retryable=True)
        while self._idle:
            process = self._idle.pop()
            if process.alive:
                return process
            await process.kill()
        return await RendererProcess.start(self._binary, memory_mib=self._memory_mib)

    async def _give_back(self, process: RendererProcess) -> None:
        worn = process.served >= self._max_requests or process.resident_mib() > self._memory_mib // 2
        if worn or self._closed:
            await process.kill()
            return
        process.idle_since = asyncio.get_running_loop().time()
        self._idle.append(process)
        if self._reaper is None or self._reaper.done():
            self._reaper = asyncio.create_task(self._stop_idle(), name="renderer-reaper")

    async def _stop_idle(self) -> None:
        while self._idle:
            left = self._idle[0].idle_since + self._idle_seconds - asyncio.get_running_loop().time()
            if left > 0:
                await asyncio.sleep(left)
            else:
                await self._idle.pop(0).kill()


async def _no_questions(raw: dict[str, Any]) -> Mapping[str, Any]:
    return {"error": f"no lookup here: {raw}"}


def _error_of(failure: Mapping[str, Any], asked: tuple[LookupKey, ...]) -> RenderError:
    kind, message = failure["kind"], failure["message"]
    if kind == "remote":
        return RemotesMissing(message, urls=tuple(failure.get("urls") or ()))
    if asked and kind in _MAY_COME_FROM_LOOKUP:
        return LookupFailed(message, keys=asked)
    return RenderError(message, reason=_REASONS.get(kind, "RendererFailed"), hint=_HINTS.get(kind, ""))
