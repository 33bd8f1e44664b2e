"""What a person or a script sees: data on stdout, everything else on stderr."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

DONE, NO, USAGE, CLUSTER, MISSING, TIMEOUT, INTERRUPTED = 0, 1, 2, 3, 4, 124, 130
EXIT_CODES = """\
exit codes:
  0    done; for a question: yes
  1    no: not Ready, not valid, not healthy
  2    the command line or a file makes no sense
  3    the API server cannot be reached, or refused
  4    no such stack, layer or object
  124  the timeout has passed
"""

_COLOURS = {
    "Ready": "32",
    "Current": "32",
    "Failed": "31",
    "Degraded": "31",
    "NotFound": "31",
    "Progressing": "36",
    "InProgress": "36",
    "Waiting": "33",
    "Pending": "2",
    "Suspended": "35",
    "Terminating": "33",
    "Unknown": "33",
}


class CliError(Exception):
    """Ends the command: what went wrong and why, what to do next, and the exit code."""

    def __init__(self, message: str, *, hint: str = "", code: int = NO) -> None:
        super().__init__(message)
        self.hint = hint
        self.code = code


def coloured(stream: TextIO) -> bool:
    """Whether colours are welcome: a terminal, and neither NO_COLOR nor a dumb one."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def paint(text: str, state: str, *, colour: bool) -> str:
    """A text in the colour of a phase or state."""
    code = _COLOURS.get(state) if colour else None
    return f"\x1b[{code}m{text}\x1b[0m" if code else text


def bold(text: str, *, colour: bool) -> str:
    return f"\x1b[1m{text}\x1b[0m" if colour else text


def table(rows: Sequence[Sequence[str]], *, painted: int = -1, colour: bool = False) -> list[str]:
    """Lines of a table whose first row is its head; the column `painted` holds phases. No line ends in blanks."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))] if rows else []
    lines: list[str] = []
    for number, row in enumerate(rows):
        cells = [text.ljust(width) for text, width in zip(row, widths, strict=True)]
        if number and painted >= 0:
            cells[painted] = paint(cells[painted], row[painted], colour=colour)
        lines.append("   ".join(cells).rstrip())
    return lines


def emit(lines: Iterable[str]) -> None:
    """Data, to stdout."""
    text = "".join(f"{line}\n" for line in lines)
    sys.stdout.write(text)
    sys.stdout.flush()


def note(text: str) -> None:
    """Progress, to stderr."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def dump(data: Any, form: str) -> list[str]:
    """Data as json or yaml."""
    if form == "json":
        return [json.dumps(data, indent=2, ensure_ascii=False)]
    import yaml

    text: str = yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=120)
    return text.splitlines()
