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
    timer: asyncio.TimerHandle | None = None

    def mark_sent() -> None:
        nonlocal timer
        if loop.time() >= ends_at:
            raise TimeoutError
        limit.reschedule(None)
        timer = loop.call_at(ends_at, poll, LAST_POLLS)

    def poll(polls_left: int) -> None:
        nonlocal timer
        # The number of turns is fixed, because one turn of a busy loop may take longer than the
        # time, and the bytes of a socket need several turns to reach the call that waits for them.
        if polls_left > 0:
            timer = loop.call_later(LAST_SECONDS / LAST_POLLS, poll, polls_left - 1)
        else:
            limit.reschedule(loop.time())

    async with asyncio.timeout_at(ends_at) as limit:
        try:
            yield mark_sent
        finally:
            if timer is not None:
                timer.cancel()
