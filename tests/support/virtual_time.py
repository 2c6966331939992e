"""An event loop whose clock jumps to the next timer, so that tests of long times are fast."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")

# In seconds. Each step of the loop takes some time, so that a timer cannot be early for ever.
STEP = 1e-7


class _JumpingSelector(selectors.SelectSelector):
    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "everything waits, and no timer will end that"
        self.now += max(timeout, STEP)
        return super().select(0)


def run_in_virtual_time(main: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine that uses no sockets and no threads."""
    selector = _JumpingSelector()

    def create_loop() -> asyncio.AbstractEventLoop:
        loop = asyncio.SelectorEventLoop(selector)
        setattr(loop, "time", lambda: selector.now)  # noqa: B010 - no stub allows it
        return loop

    with asyncio.Runner(loop_factory=create_loop) as runner:
        return runner.run(main)
