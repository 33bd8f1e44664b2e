"""Whether a manifest has the shape that everything here relies on, whatever else is wrong with it."""

from __future__ import annotations

from clusterstack.core.objects import Manifest


def flaw(manifest: Manifest) -> str:
    """What is wrong with the fields that identify an object and with its metadata, in a few words; empty: nothing."""
    for field in ("apiVersion", "kind"):
        if not isinstance(manifest.get(field), str) or not manifest[field]:
            return f"{field} is {_called(manifest.get(field))}, not a text"
    if manifest["apiVersion"].count("/") > 1:
        return f"apiVersion {manifest['apiVersion'][:80]!r} is neither a version nor group/version"
    metadata = manifest.get("metadata")
    if not isinstance(metadata, dict):
        return f"metadata is {_called(metadata)}, not a map"
    if not isinstance(metadata.get("name"), str) or not metadata["name"]:
        generated = "generateName" if metadata.get("generateName") else _called(metadata.get("name"))
        return f"metadata.name is {generated}, and an object that is kept up needs a name of its own"
    if not isinstance(metadata.get("namespace") or "", str):
        return f"metadata.namespace is {_called(metadata['namespace'])}, not a text"
    return _map_flaw("labels", metadata.get("labels")) or _map_flaw("annotations", metadata.get("annotations"))


def _map_flaw(field: str, value: object) -> str:
    if value is None:
        return ""
    if not isinstance(value, dict):
        return f"metadata.{field} is {_called(value)}, not a map"
    wrong = next((key for key, text in value.items() if not isinstance(text, str)), None)
    return "" if wrong is None else f"metadata.{field}.{wrong} is {_called(value[wrong])}, not a text"


def _called(value: object) -> str:
    """A value's kind as YAML's readers call it; never the value itself."""
    match value:
        case None:
            return "missing"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a text" if value else "empty"
        case list():
            return "a list"
        case _:
            return "a map"
