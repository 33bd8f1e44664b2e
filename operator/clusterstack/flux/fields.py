"""Reading fields of a user's object, with errors that name the object and the field."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from clusterstack.errors import SpecError
from clusterstack.helm.spec import parse_duration, plain

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Fields:
    """A map inside an object: `where` names the object, `path` the way to the map. Every reader raises SpecError."""

    where: str
    path: str
    data: Mapping[str, Any]

    def text(self, key: str, default: str = "") -> str:
        value: str = self._read(key, str, default, "text")
        return value

    def flag(self, key: str, *, default: bool = False) -> bool:
        value: bool = self._read(key, bool, default, "true or false")
        return value

    def number(self, key: str, default: int) -> int:
        value: int = self._read(key, int, default, "a whole number")
        if isinstance(value, bool):
            raise self.error(key, "is not a whole number")
        return value

    def seconds(self, key: str, default: float) -> float:
        value = self.data.get(key)
        if value is None:
            return default
        try:
            return parse_duration(str(value))
        except ValueError as error:
            raise self.error(key, str(error)) from None

    def choice(self, key: str, choices: Mapping[str, Value], default: str) -> Value:
        value = self.text(key, default) or default
        if value not in choices:
            raise self.error(key, f"{value!r} is none of {', '.join(name for name in choices if name)}")
        return choices[value]

    def map(self, key: str) -> Fields:
        """The map at a key; an absent one reads as empty."""
        return Fields(self.where, f"{self.path}.{key}", self._read(key, Mapping, {}, "a map"))

    def maps(self, key: str) -> tuple[Fields, ...]:
        """The maps of a list."""
        items = self._read(key, list, [], "a list")
        for index, item in enumerate(items):
            if not isinstance(item, Mapping):
                raise self.error(f"{key}[{index}]", "is not a map")
        return tuple(Fields(self.where, f"{self.path}.{key}[{index}]", item) for index, item in enumerate(items))

    def texts(self, key: str) -> tuple[str, ...]:
        items = self._read(key, list, [], "a list")
        for index, item in enumerate(items):
            if not isinstance(item, str):
                raise self.error(f"{key}[{index}]", "is not text")
        return tuple(items)

    def plain(self) -> dict[str, Any]:
        """A copy of the map as it stands."""
        return {key: plain(value) for key, value in self.data.items()}

    def required(self, key: str) -> str:
        value = self.text(key)
        if not value:
            raise self.error(key, "is missing")
        return value

    def has(self, key: str) -> bool:
        return self.data.get(key) is not None

    def error(self, key: str, problem: str, *, reason: str = "InvalidRelease") -> SpecError:
        return SpecError(f"{self.where}: {self.path}.{key}: {problem}", reason=reason)

    def _read(self, key: str, kind: type[Any], default: Any, expected: str) -> Any:
        value = self.data.get(key)
        if value is None:
            return default
        if not isinstance(value, kind):
            raise self.error(key, f"is not {expected}")
        return value
