"""Watches ClusterStacks with kopf, and tells the engine which one to look at. It writes nothing.

kopf owns every task of the loop that it runs in, and ends as a whole when one of its watches breaks; so it lives in a
thread with a loop of its own, and is started again, with growing pauses, whenever it ends. A guard beside it sees what
kopf itself does not: a watch that is no longer there while everything else goes on.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import kopf

from clusterstack.errors import ClusterStackError
from clusterstack.shell.session import Session, open_session
from clusterstack.telemetry.logs import logger

LOG = logger(__name__)

GROUP, VERSION, PLURAL = "clusterstack.dev", "v1alpha1", "clusterstacks"
BEAT = 1.0  # seconds between the guard's looks
GRACE = (5.0, 60.0)  # seconds that a watch may be missing before kopf is started again: at first, at most
NEW_CRD = 2.0  # between looks for the CRD; and once it has come, for kopf misses one whose discovery comes late
LATE = 30.0  # seconds without a beat: the thread is stuck
SERVER_TIMEOUT = 290
INACTIVITY = 70.0
SILENCE = SERVER_TIMEOUT + INACTIVITY + 60  # seconds without any answer: no watch can be that quiet
PAUSES = (0.5, 30.0)  # seconds before kopf is started again: the first pause, the longest
STEADY = 60.0  # seconds after which a run counts as a good one, and pauses start small again

_ALARMISTS = ("kopf._core.reactor.running", "kopf._core.reactor.observation")
"""They warn of a thread that gets no signals, and of a CRD that is not there yet; both are as we want it."""

_IDENTITY: Any = "clusterstack"
"""Means nothing without peering; kopf's default asks for the user's name, which a container may not have."""


class Watcher:
    """Make it inside the engine's running loop: `notify` and `relisted` are called there.

    `notify` gets the name of a ClusterStack that appeared, changed or went. `relisted` says that a list was read
    afresh: kopf reports no deletion that happened while no watch was open, so look at every stack known. Neither
    carries an object, for that may be old: read it.
    """

    def __init__(
        self,
        notify: Callable[[str], None],
        *,
        kubeconfig: str | None = None,
        context: str | None = None,
        selector: str = "",
        relisted: Callable[[], None] | None = None,
    ) -> None:
        self.restarts = 0
        self.synced = False
        self._notify, self._relisted = notify, relisted
        self._kubeconfig, self._context, self._selector = kubeconfig, context, selector
        self._engine = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._main, name="kopf", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._run: asyncio.Task[None] | None = None
        self._session: Session | None = None
        self._stopping = False
        self._beat = 0.0
        self._heard = 0.0
        self._watching = 0.0
        self._grace, self._due = GRACE[0], 0.0
        self._served: bool | None = None
        self._trouble = ""

    def start(self) -> None:
        """Start the thread; once."""
        for name in _ALARMISTS:
            logging.getLogger(name).setLevel(logging.ERROR)
        self._beat = self._heard = self._watching = time.monotonic()
        self._due = self._beat + GRACE[0]
        self._thread.start()

    async def stop(self, timeout: float = 3.0) -> None:
        """End the watch and wait for the thread; past `timeout` seconds it is left to end with the process."""
        self._stopping = True
        if self._loop is not None and self._task is not None:
            with suppress(RuntimeError):  # the loop is closed: it has ended already
                self._loop.call_soon_threadsafe(self._task.cancel)
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join, timeout)

    def alive(self) -> bool:
        """Whether changes of ClusterStacks really reach the engine."""
        return not self.problem()

    def problem(self) -> str:
        """Why changes do not reach the engine; empty when they do, or when the CRD is not there yet."""
        now = time.monotonic()
        if not self._thread.is_alive():
            return "the thread has ended"
        if now - self._beat > LATE:
            return f"the thread has been stuck for {now - self._beat:.0f}s"
        if self._served is False:
            return ""
        if now - self._watching > LATE:
            return f"nothing has watched {PLURAL} for {now - self._watching:.0f}s: {self._trouble or 'not started yet'}"
        if now - self._heard > SILENCE:
            return f"the API server has been silent for {now - self._heard:.0f}s"
        return ""

    def _main(self) -> None:
        with suppress(asyncio.CancelledError):
            asyncio.run(self._live())

    async def _live(self) -> None:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        guard = asyncio.create_task(self._guard(), name="guard of the watch")
        least, most = PAUSES
        pause = least
        try:
            while not self._stopping:
                started = time.monotonic()
                await self._once()
                if time.monotonic() - started > STEADY:
                    pause = least
                LOG.warning("watch of ClusterStacks ended; starting it again", extra={"error": self._trouble})
                self.restarts += 1
                await asyncio.sleep(pause)
                pause = min(pause * 2, most)
        finally:
            guard.cancel()
            await asyncio.gather(guard, return_exceptions=True)

    async def _once(self) -> None:
        """One run of kopf, until it ends for whatever reason; raises only the cancellation of ourselves."""
        self.synced = False
        self._run = asyncio.create_task(self._operate(), name="kopf operator")
        try:
            await asyncio.wait({self._run})
        except asyncio.CancelledError:
            self._run.cancel()
            await asyncio.gather(self._run, return_exceptions=True)
            raise
        finally:
            await self._close()
        if not self._run.cancelled():
            error = self._run.exception()
            self._trouble = f"{type(error).__name__}: {error}" if error is not None else "it ended by itself"

    async def _operate(self) -> None:
        await kopf.operator(
            registry=self._registry(),
            settings=_settings(self._selector),
            standalone=True,
            clusterwide=True,
            identity=_IDENTITY,
        )

    def _registry(self) -> kopf.OperatorRegistry:
        registry = kopf.OperatorRegistry()

        @kopf.on.login(registry=registry, retries=1)  # type: ignore[untyped-decorator, unused-ignore]
        async def login(**_: Any) -> kopf.AiohttpSession:
            return await self._login()

        @kopf.on.event(GROUP, PLURAL, registry=registry)  # type: ignore[untyped-decorator, unused-ignore]
        async def seen(name: str, **_: Any) -> None:
            self._tell(self._notify, name)

        return registry

    async def _login(self) -> kopf.AiohttpSession:
        """A session whose credentials stay fresh; kopf asks again when the API server refuses them.

        Tries for ever: kopf survives no failed login.
        """
        previous = self._session
        if previous is not None:
            await asyncio.sleep(max(0.0, previous.opened + 5.0 - time.monotonic()))
            await self._close()
        for pause in _Forever():
            try:
                session = await open_session(
                    kubeconfig=self._kubeconfig, context=self._context, answered=self._answered
                )
            except ClusterStackError as error:
                self._trouble = str(error)
                LOG.warning("no way to the API server yet", extra={"error": self._trouble})
                await asyncio.sleep(pause)
            else:
                self._session = session
                return kopf.AiohttpSession(server=session.server, aiohttp_session=session.client)
        raise AssertionError("the pauses never end")

    async def _close(self) -> None:
        if self._session is not None:
            session, self._session = self._session, None
            await session.close()

    def _answered(self, path: str, status: int, watch: bool) -> None:
        """The API server answered a request of kopf's."""
        self._heard = time.monotonic()
        if status == 200 and not watch and path.endswith(f"/{PLURAL}"):
            self.synced = True
            if self._relisted is not None:
                self._tell(self._relisted)

    def _tell(self, callback: Callable[..., None], *arguments: object) -> None:
        with suppress(RuntimeError):  # the engine's loop is closed: the process is ending
            self._engine.call_soon_threadsafe(callback, *arguments)

    async def _guard(self) -> None:
        """Know at all times whether a watch is open; without one, start kopf again."""
        while True:
            now = self._beat = time.monotonic()
            if any(_is_watch(task) for task in asyncio.all_tasks()):
                self._watching, self._served = now, True
                self._grace, self._due = GRACE[0], now + GRACE[0]
            elif now > self._due and self._run is not None and self._session is not None:
                await self._recover(self._session, self._run)
            await asyncio.sleep(BEAT)

    async def _recover(self, session: Session, run: asyncio.Task[None]) -> None:
        """Without a watch: there is no CRD, or it has only just come, or kopf has lost its watch."""
        with suppress(Exception):  # no answer is no answer: the next look asks again
            before, self._served = self._served, await session.serves(GROUP, VERSION, PLURAL)
            now = time.monotonic()
            self._due = now + NEW_CRD
            if self._served and before is False:
                self._watching = now
            elif self._served:
                self._trouble = "kopf lost its watch"
                self._grace = min(self._grace * 2, GRACE[1])  # a slow API server is not helped by starting over
                self._due = now + self._grace
                run.cancel()


class _Forever:
    """Pauses between attempts at a request, without an end: 1 s doubling to 30 s."""

    def __iter__(self) -> Iterator[float]:
        pause = 1.0
        while True:
            yield pause
            pause = min(pause * 2, 30.0)


def _settings(selector: str) -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.peering.standalone = True
    settings.posting.enabled = False
    settings.networking.error_backoffs = _Forever()
    settings.networking.request_timeout = 30
    settings.networking.connect_timeout = 10
    settings.watching.server_timeout = SERVER_TIMEOUT
    settings.watching.connect_timeout = 10
    settings.watching.inactivity_timeout = INACTIVITY
    settings.queueing.exit_timeout = 0.1
    settings.process.ultimate_exiting_timeout = None  # it would kill the whole process, not this thread
    # A handler that keeps state would write these. There is none; were there one, the marks would at least be ours.
    settings.persistence.finalizer = f"{GROUP}/watcher"
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=GROUP)
    settings.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix=GROUP)
    # Of the CRDs only our own: while a cluster is filled there are thousands of events of others, each a discovery.
    settings.watching.field_selectors["apiextensions.k8s.io", "customresourcedefinitions"] = (
        f"metadata.name={PLURAL}.{GROUP}"
    )
    if selector:
        settings.watching.label_selectors[GROUP, PLURAL] = selector
    return settings


def _is_watch(task: asyncio.Task[Any]) -> bool:
    return not task.done() and task.get_name().startswith(f"watcher for {PLURAL}.")
