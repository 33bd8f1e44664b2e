"""Keeps the process small: glibc holds on to what a burst of rendering needed (measured: 330 MiB held, 225 used)."""

from __future__ import annotations

import asyncio
import ctypes
import gc
from typing import NoReturn

PERIOD = 30.0
_ARENAS = 2
_M_ARENA_MAX, _M_MMAP_THRESHOLD = -8, -3  # malloc.h
_LARGE = 128 * 1024


def settle() -> None:
    """Once, at the start: few arenas, and no full collection over large caches, for that stops the loop.

    Large blocks stay mappings of their own (glibc would raise the limit at the first that is freed): given back when
    freed, and not there as long as nobody writes to them, such as the 256 KiB that asyncio sets aside for a TLS
    connection, of which there is one per watch.
    """
    gc.set_threshold(50_000, 20, 100)
    libc = _libc()
    if libc is not None:
        libc.mallopt(_M_ARENA_MAX, _ARENAS)
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGE)


async def trim_for_ever() -> NoReturn:
    """Give freed memory back to the system, now and then."""
    libc = _libc()
    while True:
        await asyncio.sleep(PERIOD)
        if libc is not None:
            await asyncio.to_thread(libc.malloc_trim, 0)


def _libc() -> ctypes.CDLL | None:
    """The C library, where it is glibc."""
    try:
        libc = ctypes.CDLL("libc.so.6")
    except OSError:
        return None
    return libc if hasattr(libc, "malloc_trim") else None
