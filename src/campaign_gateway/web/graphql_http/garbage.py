"""Keeps Python's search for garbage short."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def one_search_for_garbage() -> Iterator[None]:
    """Search for garbage only at the end, and only among what was made meanwhile.

    A large document makes 20,000 objects that refer to each other. Otherwise Python would search
    dozens of times while they are in use, take them for long-lived, and later delay another request
    by 200 ms to find them.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.collect(0)
