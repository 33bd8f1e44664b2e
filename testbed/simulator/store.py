"""What the watches have seen, and a way to wait for it to change."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Literal, TypeVar

from testbed.simulator.objects import Key, Obj, Resource, key_of

Change = Literal["ADDED", "MODIFIED", "DELETED"]
Listener = Callable[[Change, Resource, Obj], None]
T = TypeVar("T")


class Store:
    """Objects by resource name. Not thread-safe: one event loop."""

    def __init__(self) -> None:
        self._objects: dict[str, dict[Key, Obj]] = {}
        self._listeners: list[Listener] = []
        self._waiting: dict[str, set[asyncio.Event]] = {}

    def listen(self, listener: Listener) -> None:
        """`listener` hears every change, after it is in the store."""
        self._listeners.append(listener)

    def get(self, resource: str, namespace: str, name: str) -> Obj | None:
        return self._objects.get(resource, {}).get(Key(resource, namespace, name))

    def all(self, resource: str) -> Iterable[Obj]:
        return tuple(self._objects.get(resource, {}).values())

    def put(self, resource: Resource, obj: Obj) -> None:
        obj.setdefault("apiVersion", resource.api_version)
        obj.setdefault("kind", resource.kind)
        known = self._objects.setdefault(resource.name, {})
        key = key_of(resource, obj)
        change: Change = "MODIFIED" if key in known else "ADDED"
        if change == "MODIFIED" and known[key]["metadata"]["uid"] != obj["metadata"]["uid"]:
            self.drop(resource, known[key])
            change = "ADDED"
        known[key] = obj
        self._tell(change, resource, obj)

    def drop(self, resource: Resource, obj: Obj) -> None:
        if self._objects.get(resource.name, {}).pop(key_of(resource, obj), None) is not None:
            obj.setdefault("apiVersion", resource.api_version)
            obj.setdefault("kind", resource.kind)
            self._tell("DELETED", resource, obj)

    def replace(self, resource: Resource, objects: list[Obj]) -> None:
        """A fresh list: what is not in it is gone; what has not changed is not told again."""
        fresh = {key_of(resource, obj): obj for obj in objects}
        known = self._objects.setdefault(resource.name, {})
        for key in [key for key in known if key not in fresh]:
            self.drop(resource, known[key])
        for key, obj in fresh.items():
            before = known.get(key)
            if before is None or before["metadata"]["resourceVersion"] != obj["metadata"]["resourceVersion"]:
                self.put(resource, obj)

    def subscribe(self, resources: Iterable[str]) -> asyncio.Event:
        """An event that is set after every change of one of `resources`, for ever."""
        changed = asyncio.Event()
        for resource in resources:
            self._waiting.setdefault(resource, set()).add(changed)
        return changed

    async def until(self, resources: Iterable[str], question: Callable[[], T | None]) -> T:
        """The first truthy answer; asked again after every change of one of `resources`."""
        if answer := question():
            return answer
        changed = asyncio.Event()
        sets = [self._waiting.setdefault(resource, set()) for resource in resources]
        for waiting in sets:
            waiting.add(changed)
        try:
            while True:
                await changed.wait()
                changed.clear()
                if answer := question():
                    return answer
        finally:
            for waiting in sets:
                waiting.discard(changed)

    def touch(self, resource: str) -> None:
        """Has everyone who waits for `resource` look again."""
        for event in self._waiting.get(resource, ()):
            event.set()

    def _tell(self, change: Change, resource: Resource, obj: Obj) -> None:
        for listener in self._listeners:
            listener(change, resource, obj)
        self.touch(resource.name)
