"""Casts a scene for every object that somebody plays, and keeps it in step with the watch."""

from __future__ import annotations

import asyncio
import traceback
from dataclasses import dataclass

from testbed.simulator.broken import BrokenRules
from testbed.simulator.client import ApiError
from testbed.simulator.objects import Obj, Resource, generation
from testbed.simulator.play import Play
from testbed.simulator.scene import Scene, Stage
from testbed.simulator.store import Change


@dataclass(slots=True)
class _Running:
    scene: Scene
    task: asyncio.Task[None]
    generation: object


class Director:
    """One task per object and play; a new generation starts it anew, deletion ends it."""

    def __init__(self, stage: Stage, plays: tuple[Play, ...], tasks: asyncio.TaskGroup) -> None:
        self._stage = stage
        self._tasks = tasks
        self._plays: dict[str, list[Play]] = {}
        for play in plays:
            self._plays.setdefault(play.resource, []).append(play)
        self._running: dict[tuple[str, int], _Running] = {}
        stage.store.listen(self.hear)

    @property
    def resources(self) -> frozenset[str]:
        """The kinds that somebody plays."""
        return frozenset(self._plays)

    def hear(self, change: Change, resource: Resource, obj: Obj) -> None:
        for number, play in enumerate(self._plays.get(resource.name, ())):
            key = obj["metadata"]["uid"], number
            running = self._running.get(key)
            if change == "DELETED":
                self._end(key, obj)
            elif running is None and not play.applies(obj):
                continue
            elif running is None:
                self._begin(key, play, resource, obj, was_healthy=False)
            elif running.generation != _generation(obj):
                running.task.cancel()
                self._begin(key, play, resource, obj, was_healthy=running.scene.was_healthy)
            elif _version(obj) >= _version(running.scene.obj):  # our own write's answer may be ahead of the watch
                running.scene.obj = obj

    def rebreak(self, rules: BrokenRules) -> None:
        """Starts every scene anew whose rule changed."""
        before, self._stage.broken = self._stage.broken, rules
        for key, running in list(self._running.items()):
            scene = running.scene
            identity = scene.resource.kind, scene.namespace, scene.name
            if before.mode(*identity) != rules.mode(*identity):
                running.task.cancel()
                play = self._plays[scene.resource.name][key[1]]
                self._begin(key, play, scene.resource, scene.obj, was_healthy=False)

    def _begin(self, key: tuple[str, int], play: Play, resource: Resource, obj: Obj, *, was_healthy: bool) -> None:
        scene = Scene(self._stage, resource, obj, play.operator, dict(play.failure))
        scene.was_healthy, scene.informational = was_healthy, play.informational
        operator = play.operator.name if play.operator else ""
        if not play.quiet:
            self._stage.journal.write("seen", obj, delay=scene.delay, controller=operator, mode=scene.mode)
        if play.informational and not was_healthy:
            self._stage.journal.write("healthy", obj, sent="", waited=0.0)
        task = self._tasks.create_task(self._perform(play, scene))
        self._running[key] = _Running(scene, task, _generation(obj))

    def _end(self, key: tuple[str, int], obj: Obj) -> None:
        if running := self._running.pop(key, None):
            running.task.cancel()
            if not self._plays[running.scene.resource.name][key[1]].quiet:
                self._stage.journal.write("gone", obj)

    async def _perform(self, play: Play, scene: Scene) -> None:
        while True:
            try:
                await scene.begin()
                await play.run(scene)
            except ApiError as error:
                # A webhook that is down, an object that was replaced: as a controller would, try again.
                self._stage.journal.write("error", scene.obj, message=str(error))
                await asyncio.sleep(1.0)
            except Exception as error:  # an object that a play cannot read must not end all the others
                self._stage.journal.write("error", scene.obj, message=repr(error))
                traceback.print_exc()
                return
            else:
                return


def _generation(obj: Obj) -> object:
    # Services and a few others have no generation: their spec decides.
    return generation(obj) or repr(obj.get("spec"))


def _version(obj: Obj) -> int:
    return int(obj["metadata"]["resourceVersion"])
