"""Pure decisions on plain values: no I/O, no asyncio. Core decides, the engine does."""
