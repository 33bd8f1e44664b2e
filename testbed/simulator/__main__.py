"""`python -m testbed.simulator`."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys

from testbed.simulator.options import Options, parse
from testbed.simulator.runner import EndOfControl, run


def main() -> int:
    try:
        options = parse()
    except ValueError as error:
        print(f"simulator: {error}", file=sys.stderr)
        return 2
    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(_until_signal(options))
    return 0


async def _until_signal(options: Options) -> None:
    task = asyncio.current_task()
    assert task is not None
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    try:
        await run(options, ready=lambda: print("ready", flush=True))
    except* EndOfControl:
        pass


if __name__ == "__main__":
    sys.exit(main())
