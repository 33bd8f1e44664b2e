"""A release's values: what ConfigMaps and Secrets hold, and the inline values on top, in Flux's order."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from clusterstack.core.objects import Manifest
from clusterstack.core.yaml import load_value
from clusterstack.errors import RenderError
from clusterstack.helm.spec import ReleaseSpec, ValuesReference, plain
from clusterstack.helm.strvals import StrvalsError, set_path

Source = tuple[str, str, str]  # kind, namespace, name
Reader = Mapping[Source, Mapping[str, str | bytes] | None]

_LINE = re.compile(r"\bline \d+")


@dataclass(frozen=True, slots=True)
class Composed:
    """The values that the chart is rendered with; null stays null: the chart's own defaults decide what it deletes."""

    values: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Missing:
    """Not yet: an object, or a key of it, that `valuesFrom` reads is absent. `key` is empty when it is the object."""

    kind: str
    namespace: str
    name: str
    key: str
    message: str


@dataclass(frozen=True, slots=True)
class Invalid:
    """What `valuesFrom` reads cannot be used; the message never quotes it, for it may be a Secret's."""

    kind: str
    namespace: str
    name: str
    key: str
    message: str


def sources(spec: ReleaseSpec) -> tuple[Source, ...]:
    """The objects that `compose` reads, each once, in the order of their first use: what to watch."""
    return tuple(dict.fromkeys(reference.source for reference in spec.values_from))


def data_of(manifest: Manifest) -> dict[str, bytes]:
    """The data of a live ConfigMap or Secret, decoded."""
    data = manifest.get("data") or {}
    if manifest.get("kind") == "Secret":
        return {key: base64.b64decode(value) for key, value in data.items()}
    binary = manifest.get("binaryData") or {}
    return {key: value.encode() for key, value in data.items()} | {
        key: base64.b64decode(value) for key, value in binary.items()
    }


def compose(spec: ReleaseSpec, reader: Reader) -> Composed | Missing | Invalid:
    """The values of a release (fluxcd/pkg chartutil.ChartValuesFromReferences).

    References are merged in their order, the inline values over all of them; a `targetPath` sets its value over both.
    As in Flux, an inline value at that very path still wins when an earlier reference has a map around it: maps are
    shared between result and inline values until a merge copies them. `reader` has the decoded data of every object
    of `sources(spec)` that exists.
    """
    inline: dict[str, Any] = plain(spec.values)
    result: dict[str, Any] = {}
    for reference in spec.values_from:
        match _read(reference, reader):
            case None:
                continue
            case Missing() | Invalid() as answer:
                return answer
            case str() as text:
                pass
        if reference.target_path:
            result = merge(result, inline)
            try:
                set_path(result, reference.target_path, text, literal=reference.literal)
            except StrvalsError as error:
                return _invalid(reference, f"cannot be set at targetPath {reference.target_path}: {error}")
        else:
            document = _document(reference, text)
            if isinstance(document, Invalid):
                return document
            result = merge(result, document)
    return Composed(plain(merge(result, inline)))


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` on top of `base`: maps merge at every depth, all else is replaced, null included (chartutil.MergeMaps).

    Maps that only one of the two has are shared with the result, not copied.
    """
    merged = dict(base)
    for key, value in over.items():
        current = merged.get(key)
        if isinstance(value, Mapping) and isinstance(current, Mapping):
            merged[key] = merge(current, value)
        else:
            merged[key] = value
    return merged


def coalesce(over: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """`over` on top of a chart's defaults, as Helm: a null in `over` deletes the default (CoalesceTables).

    A map is never replaced by a scalar default, nor a scalar by a default map. A null without a default stays.
    """
    result = dict(over)
    for key, default in defaults.items():
        if key not in result:
            if default is not None:
                result[key] = plain(default)
        elif result[key] is None:
            if default is not None:
                del result[key]
        elif isinstance(result[key], Mapping) and isinstance(default, Mapping):
            result[key] = coalesce(result[key], default)
    return result


def _read(reference: ValuesReference, reader: Reader) -> str | Missing | Invalid | None:
    """The text that a reference points to; None when it is absent and optional."""
    where = f"{reference.kind} {reference.namespace}/{reference.name}"
    if reference.kind not in ("ConfigMap", "Secret"):
        return _invalid(reference, "valuesFrom reads ConfigMaps and Secrets only")
    data = reader.get(reference.source)
    if data is None:
        return None if reference.optional else Missing(*reference.source, "", f"{where} does not exist yet")
    value = data.get(reference.key)
    if value is None:
        message = f"{where} has no key {reference.key} yet"
        return None if reference.optional else Missing(*reference.source, reference.key, message)
    if isinstance(value, str):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        return _invalid(reference, "is not UTF-8 text")


def _document(reference: ValuesReference, text: str) -> dict[str, Any] | Invalid:
    """The values of a YAML document; an empty one is an empty map."""
    try:
        document = load_value(text, source=f"{reference.kind} {reference.namespace}/{reference.name}")
    except RenderError as error:
        line = _LINE.search(str(error))
        return _invalid(reference, f"is not valid YAML{f' ({line[0]})' if line else ''}")
    if document is None:
        return {}
    if not isinstance(document, dict):
        return _invalid(reference, "is not a YAML map; to set one value from it, name its targetPath")
    return document


def _invalid(reference: ValuesReference, problem: str) -> Invalid:
    where = f"{reference.kind} {reference.namespace}/{reference.name}, key {reference.key}"
    return Invalid(*reference.source, reference.key, f"{where}: {problem}")
