"""One deadline for a whole call, which still reads a response that has arrived."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

# After the deadline of a call that was sent, the event loop polls the sockets `LAST_POLLS` times
# within `LAST_SECONDS`, because a response may have arrived already.
LAST_POLLS = 20
LAST_SECONDS = 0.2


@asynccontextmanager
async def deadline(seconds: float) -> AsyncIterator[Callable[[], None]]:
    """Raise `TimeoutError` after this many seconds.

    It yields a function that the caller calls when it sends the request. The function raises
    `TimeoutError` if it is too late to send. After it was called, a response that has arrived by
    the deadline is still read, and the call ends at most `LAST_SECONDS` after the deadline.
    """
    # If the process was stopped or the event loop was blocked beyond the deadline, the loop finds
    # the timer and the provider's response at the same moment, and runs the timer first.
    #
    # Before the request is sent, the deadline is asyncio's own. It cancels the call immediately,
    # even while the record is being written, so that nothing is sent after it. The switch to the
    # late deadline and the first byte are one step of the loop: no timer can run between the check
    # of the time and the switch, and a timer that ran before has cancelled the call already.
    loop = asyncio.get_running_loop()
    ends_at = loop.time() + seconds
    polling: list[asyncio.Task[None]] = []

    def mark_sent() -> None:
        if loop.time() >= ends_at:
            raise TimeoutError
        limit.reschedule(None)
        polling.append(asyncio.create_task(_expire_late(limit, ends_at)))

    async with asyncio.timeout_at(ends_at) as limit:
        try:
            yield mark_sent
        finally:
            for task in polling:
                task.cancel()


async def _expire_late(limit: asyncio.Timeout, ends_at: float) -> None:
    loop = asyncio.get_running_loop()
    await asyncio.sleep(ends_at - loop.time())
    # The number of turns is fixed, because one turn of a busy loop may take longer than the time,
    # and the bytes of a socket need several turns to reach the call that waits for them.
    for _ in range(LAST_POLLS):
        await asyncio.sleep(LAST_SECONDS / LAST_POLLS)
    limit.reschedule(loop.time())
