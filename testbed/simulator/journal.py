"""What the simulator saw and did, one JSON line each, flushed at once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from testbed.simulator.objects import now_micro


class Journal:
    """Appends to a file; numbers its lines."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab", buffering=0)
        self._number = 0

    def write(self, state: str, obj: Mapping[str, Any], **more: object) -> None:
        """`obj` needs apiVersion, kind and metadata; what else is there is left out."""
        meta = obj.get("metadata") or {}
        line = {
            "n": self._number,
            "time": now_micro(),
            "state": state,
            "apiVersion": obj.get("apiVersion", ""),
            "kind": obj.get("kind", ""),
            "namespace": meta.get("namespace", ""),
            "name": meta.get("name", ""),
            "uid": meta.get("uid", ""),
            "resourceVersion": meta.get("resourceVersion", ""),
            **more,
        }
        self._number += 1
        self._file.write(msgspec.json.encode(line) + b"\n")

    def close(self) -> None:
        self._file.close()
