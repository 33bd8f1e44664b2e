"""Health rules as they are now: those that ship, the cluster's (a ConfigMap, followed), the stack's, the layer's.

Whoever judges asks for the rules each time; when they change, the keys of `StackRules` are published, and every object
is judged anew. Nothing is applied for that.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from clusterstack.core.health import Level, RuleSet
from clusterstack.core.health.rulefile import load_config_map
from clusterstack.core.objects import Manifest, ObjectRef
from clusterstack.core.views import RulesView
from clusterstack.engine.wait import changed_or_later, sleep
from clusterstack.engine.world import Clock, Cluster
from clusterstack.errors import ApiError, TransportError
from clusterstack.kube.facts import Bus, object_key
from clusterstack.kube.resource import CONFIG_MAP
from clusterstack.telemetry.logs import logger

if TYPE_CHECKING:
    from clusterstack.engine.release import ReleaseUnit
    from clusterstack.engine.unit import ManifestUnit

LOG = logger(__name__)
CONFIG_MAP_NAME = "clusterstack-health"
READ_AGAIN, LOOK_AGAIN = 2.0, 600.0

Rules = Callable[[], RuleSet]
"""The rules of this moment; the same object as long as they are the same."""

Told = Callable[[Manifest, RulesView], None]
"""Hears that the rules of the ConfigMap have changed."""


class RuleBook:
    """The rules of every stack: those that ship with ClusterStack, and those of one ConfigMap over them.

    A rule of it that is wrong is left out; `view` tells which. While it cannot be read, what was read last holds.
    """

    key: Hashable = ("rules",)

    def __init__(
        self, cluster: Cluster, clock: Clock, bundled: RuleSet, *, namespace: str, told: Told = lambda *_: None
    ) -> None:
        self.rules = bundled
        self.view: RulesView | None = None
        self._cluster, self._clock, self._bundled, self._told = cluster, clock, bundled, told
        self._ref = ObjectRef("", "ConfigMap", namespace, CONFIG_MAP_NAME)
        self._content: object = None

    async def start(self) -> None:
        """Read the ConfigMap before anything is judged; an API server that does not answer is waited for."""
        while not await self._read(first=True):
            await sleep(self._clock, READ_AGAIN)

    async def run(self) -> None:
        """Follow the ConfigMap until cancelled."""
        watch = self._cluster.watch_object(CONFIG_MAP, self._ref.namespace, self._ref.name)
        try:
            while True:
                since = self._cluster.facts.now
                delay = LOOK_AGAIN if await self._read() else READ_AGAIN
                await changed_or_later(self._cluster.facts, [object_key(self._ref)], since, self._clock, delay)
        finally:
            watch.release()

    async def _read(self, *, first: bool = False) -> bool:
        """Whether the API server answered; that it denies the ConfigMap to us is an answer."""
        try:
            found = await self._cluster.get("v1", "ConfigMap", self._ref.namespace, self._ref.name)
        except TransportError as error:
            LOG.warning("the cluster's health rules cannot be read", extra={"error": str(error)})
            return False
        except ApiError as error:
            LOG.warning("the cluster's health rules cannot be read", extra={"error": str(error)})
            if error.status not in (401, 403):
                return False
            self._show(RulesView(str(self._ref), problems=(f"cannot be read: {error}",)))
            return True
        content = None if found is None else (found.get("data"), found.get("binaryData"))
        if content != self._content or (self.view is None) is not (found is None):
            self._content = content
            self._take(found, tell=not first)
        return True

    def _take(self, found: Manifest | None, *, tell: bool) -> None:
        loaded = load_config_map(found, over=self._bundled)
        self.rules = loaded.rules
        if found is None:
            return self._show(None)
        view = RulesView(str(self._ref), count=loaded.count, problems=loaded.problems, warnings=loaded.warnings)
        LOG.info("health rules read", extra={"rules": loaded.count, "problems": list(loaded.problems)})
        if tell:
            self._told(found, view)
        return self._show(view)

    def _show(self, view: RulesView | None) -> None:
        self.view = view
        self._cluster.facts.publish(self.key)


@dataclass(slots=True)
class Layered:
    """Rules over others: compiled anew when those below have changed."""

    base: Rules
    written: Sequence[Mapping[str, Any]]
    source: str
    level: Level
    _below: RuleSet | None = None
    _made: RuleSet | None = None

    def __call__(self) -> RuleSet:
        """Raises SpecError `RuleInvalid`."""
        below = self.base()
        if self._made is None or below is not self._below:
            self._made = below.with_rules(self.written, source=self.source, level=self.level)
            self._below = below
        return self._made


class StackRules:
    """The rules of one stack: its own, which hold in all of its layers, over the book's.

    `keys` are the bus keys on which a change of either is published, `shared` that of the book's alone.
    """

    def __init__(self, book: RuleBook, facts: Bus, stack: str) -> None:
        self.shared = book.key
        self.keys: tuple[Hashable, ...] = (self.shared, ("rules", stack))
        self._book, self._facts, self._stack = book, facts, stack
        self._written: Sequence[Mapping[str, Any]] = ()
        self._rules: Rules = self._below

    def now(self) -> RuleSet:
        return self._rules()

    @property
    def view(self) -> RulesView | None:
        """What there is to say of the cluster's rules; None while there are none."""
        return self._book.view

    def declare(self, written: Sequence[Mapping[str, Any]]) -> None:
        """These are the stack's own rules from now on. Raises SpecError `RuleInvalid`; the last good ones hold then."""
        if list(written) == list(self._written):
            return
        rules = Layered(self._below, written, "spec.defaults.health.expressions", Level.STACK)
        rules()
        self._written, self._rules = written, rules
        self._facts.publish(("rules", self._stack))

    def over(self, *written: Sequence[Mapping[str, Any]], source: str) -> Rules:
        """A layer's own rules over these; of several lists, the first one wins."""
        listed = [rule for part in written for rule in part]
        return Layered(self.now, listed, source, Level.LAYER) if listed else self.now

    def warnings(self, written: Sequence[Mapping[str, Any]], *, source: str) -> tuple[str, ...]:
        """Check rules of a layer or release: what may be wrong with them. Raises SpecError `RuleInvalid`."""
        below = self.now()
        return below.with_expressions(written, source=source).warnings[len(below.warnings) :] if written else ()

    def _below(self) -> RuleSet:
        return self._book.rules


async def judge_anew(rules: StackRules, facts: Bus, units: Callable[[], Iterable[ManifestUnit | ReleaseUnit]]) -> None:
    """Have every object looked at again whenever the rules have changed, for ever."""
    since = facts.now
    while True:
        await facts.wait(rules.keys, since)
        since = facts.now
        for unit in units():
            unit.keeper.mark_all()
