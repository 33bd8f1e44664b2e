"""What every model of the API shares: how it is written in YAML, names, durations, references."""

from __future__ import annotations

import re
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, JsonValue
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

GROUP = "clusterstack.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

_DURATION = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$"
_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}

_LABEL_PATTERN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
_SUBDOMAIN_PATTERN = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"


class Model(BaseModel):
    """A frozen value, camelCase in YAML and snake_case in code; a field that is not known is refused."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        validate_by_alias=True,
        validate_by_name=True,
        serialize_by_alias=True,
        extra="forbid",
        frozen=True,
    )

    def as_input(self) -> dict[str, Any]:
        """The plain camelCase dictionary that a user would write: only what was set."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)


class Duration(str):
    """A length of time as Go writes it: `90s`, `10m`, `1h30m`. A `ValueError` for anything else."""

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        if not re.fullmatch(_DURATION, text):
            raise ValueError(f"must be a duration such as 30s, 10m or 1h30m, not {text!r}")
        return super().__new__(cls, text)

    @classmethod
    def of(cls, seconds: float) -> Duration:
        """The shortest text for a number of seconds, to the millisecond."""
        rest = round(seconds * 1000)
        text = ""
        for unit, size in (("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
            count, rest = divmod(rest, size)
            text += f"{count}{unit}" if count else ""
        return cls(text or "0s")

    @property
    def seconds(self) -> float:
        """The same in seconds."""
        return sum(float(number) * _UNITS[unit] for number, unit in _DURATION_PART.findall(self))

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(
            cls, core_schema.str_schema(), serialization=core_schema.plain_serializer_function_ser_schema(str)
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"type": "string", "pattern": _DURATION, "maxLength": 32}


DnsLabel = Annotated[str, Field(min_length=1, max_length=63, pattern=_LABEL_PATTERN)]
"""A DNS label: names of namespaces."""

LayerName = Annotated[str, Field(min_length=1, max_length=63, pattern=_SUBDOMAIN_PATTERN)]
"""A layer's name; at most 63 characters, for it becomes a label's value."""

ObjectName = Annotated[str, Field(min_length=1, max_length=253)]
"""The name of any Kubernetes object (some kinds allow more than a DNS subdomain)."""

SecretName = Annotated[str, Field(min_length=1, max_length=253, pattern=_SUBDOMAIN_PATTERN)]
Kind = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[A-Z][A-Za-z0-9]*$")]
ApiVersion = Annotated[str, Field(min_length=1, max_length=317, pattern=r"^([a-z0-9.-]+/)?[a-z0-9]+$")]
Path = Annotated[str, Field(max_length=1024)]
Text = Annotated[str, Field(max_length=1024)]
LabelValue = Annotated[str, Field(max_length=63)]
AnnotationValue = Annotated[str, Field(max_length=16384)]
Expression = Annotated[str, Field(min_length=1, max_length=4096)]

PRESERVE: dict[str, JsonValue] = {"x-kubernetes-preserve-unknown-fields": True}


def keyed(*keys: str) -> dict[str, Any]:
    """Schema: a list whose items are told apart by these fields, for server-side apply and against duplicates."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)}


def unique() -> dict[str, Any]:
    """Schema: a list of distinct plain values."""
    return {"x-kubernetes-list-type": "set"}


def atomic() -> dict[str, Any]:
    """Schema: a list that is replaced as a whole."""
    return {"x-kubernetes-list-type": "atomic"}


def rules(*checks: tuple[str, str]) -> dict[str, Any]:
    """Schema: CEL rules, each with the message for whoever breaks it."""
    return {"x-kubernetes-validations": [{"rule": rule, "message": message} for rule, message in checks]}


def stored_default(extra: dict[str, Any] | None = None) -> dict[str, Any]:
    """Schema: the API server stores the default. Not for what `defaults` may set: a stored value would win over it."""
    return {"x-stored-default": True, **(extra or {})}
