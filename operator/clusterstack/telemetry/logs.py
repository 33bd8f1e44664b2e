"""Logs: one line an event, as JSON for machines or as text for a terminal.

A line says what happened; whom it happened to is in the fields beside it (`extra={"stack": …, "layer": …}`).
Callers never pass the values of Secrets; credentials that slip into a message with a URL or a header are masked here.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, TextIO

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}
_CREDENTIALS = (
    (re.compile(r"(?i)([a-z][a-z0-9+.-]*://)[^\s/@]+@"), r"\1***@"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[a-z0-9._~+/=-]{8,}"), r"\1 ***"),
)
_CHATTY = ("kopf", "aiohttp.access", "asyncio", "urllib3")
"""Libraries whose news is not ours: heard from WARNING on."""


def logger(name: str) -> logging.Logger:
    """The logger of a module; pass `__name__`."""
    return logging.getLogger(name)


def configure(level: str | int = "info", json: bool = True, *, stream: TextIO | None = None) -> None:
    """Send everything from `level` on to `stream` (stderr), replacing what was configured before.

    Raises ValueError for a level that does not exist.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if json else TextFormatter())
    root = logging.getLogger()
    root.setLevel(level.upper() if isinstance(level, str) else level)
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))


class JsonFormatter(logging.Formatter):
    """One JSON object a line: ts (RFC 3339, UTC), level, logger, msg, the fields, and exc (a traceback)."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "ts": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "msg": _mask(record.getMessage()),
        }
        for key, value in _fields(record):
            line.setdefault(key, value)
        trace = _trace(self, record)
        if trace:
            line["exc"] = trace
        return json.dumps(line, ensure_ascii=False, separators=(",", ":"))


class TextFormatter(logging.Formatter):
    """`20:15:04.123 WARNING kube.observer: message  stack=home object=…`, for people."""

    def format(self, record: logging.LogRecord) -> str:
        clock = _time(record)[11:23]
        name = record.name.removeprefix("clusterstack.")
        fields = "".join(f"  {key}={value}" for key, value in _fields(record))
        line = f"{clock} {record.levelname:<7} {name}: {_mask(record.getMessage())}{fields}"
        trace = _trace(self, record)
        return f"{line}\n{trace}" if trace else line


def _time(record: logging.LogRecord) -> str:
    at = datetime.fromtimestamp(record.created, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _fields(record: logging.LogRecord) -> Iterator[tuple[str, Any]]:
    for key, value in record.__dict__.items():
        if key in _STANDARD or key.startswith("_"):
            continue
        yield key, value if isinstance(value, bool | int | float) or value is None else _mask(str(value))


def _trace(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    if record.exc_info and not record.exc_text:
        record.exc_text = formatter.formatException(record.exc_info)
    return _mask("\n".join(text for text in (record.exc_text, record.stack_info) if text))


def _mask(text: str) -> str:
    for pattern, replacement in _CREDENTIALS:
        text = pattern.sub(replacement, text)
    return text
