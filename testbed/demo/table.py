"""Shows a stack's layers while they come up: redrawn in place on a terminal, one line per change elsewhere."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TextIO

_COLOURS = {"Ready": "32", "Progressing": "36", "Failed": "31", "Waiting": "2", "Pending": "2"}
_COLUMNS = ("LAYER", "PHASE", "OBJECTS", "")


@dataclass(slots=True)
class Table:
    """Draws to `out`; `show` takes the ClusterStack's status as it is now, and the seconds since the start."""

    out: TextIO
    _lines: int = 0
    _seen: dict[str, tuple[str, str]] = field(default_factory=dict)

    def show(self, status: Mapping[str, Any], seconds: float) -> None:
        if self.out.isatty():
            self._redraw(status, seconds)
        else:
            self._append(status, seconds)

    def _redraw(self, status: Mapping[str, Any], seconds: float) -> None:
        width = shutil.get_terminal_size().columns
        summary = status.get("summary") or {}
        lines = [f"{seconds:5.1f} s  {summary.get('layers', '')}  {summary.get('message', '')}"[:width]]
        rows = [_COLUMNS, *(_row(layer) for layer in status.get("layers") or ())]
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        for row in rows:
            cells = "  ".join(cell.ljust(size) for cell, size in zip(row[:3], widths, strict=True))
            lines.append(self._colour(row[1], f"  {cells}  {row[3]}".rstrip()[:width]))
        if self._lines:
            self.out.write(f"\x1b[{self._lines}F")
        self.out.write("".join(f"\x1b[2K{line}\n" for line in lines) + "\x1b[J")
        self.out.flush()
        self._lines = len(lines)

    def _append(self, status: Mapping[str, Any], seconds: float) -> None:
        for layer in status.get("layers") or ():
            name, phase, objects, message = _row(layer)
            state = (phase, _without_counts(message))
            if self._seen.get(name) != state:
                self._seen[name] = state
                self.out.write(f"{seconds:5.1f} s  {name:14} {phase:12} {objects:>7}  {message}".rstrip() + "\n")
        self.out.flush()

    def _colour(self, phase: str, text: str) -> str:
        code = _COLOURS.get(phase)
        return text if code is None or "NO_COLOR" in os.environ else f"\x1b[{code}m{text}\x1b[0m"


def _row(layer: Mapping[str, Any]) -> tuple[str, str, str, str]:
    phase, total = str(layer.get("phase", "")), layer.get("total", 0)
    objects = f"{layer.get('ready', 0)}/{total}" if total else ""
    message = "" if phase == "Ready" else str(layer.get("message", ""))
    return str(layer.get("name", "")), phase, objects, message


def _without_counts(message: str) -> str:
    """A message without its numbers: an age or a count that grows is no news for a log."""
    return "".join(character for character in message if not character.isdigit())
