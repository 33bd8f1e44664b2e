"""The coroutines that bring a stack up and keep it there."""
