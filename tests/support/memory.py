"""A folder in memory for test files that need not survive a failure of the machine."""

import os
import shutil

MEMORY = "/dev/shm"


def memory_folder(needed: int) -> str | None:
    """Return the parent for such files, or None if it has less than the needed bytes free.

    None stands for the default of `tempfile`. On a busy disk each fsync may take a second.
    """
    has_access = os.access(MEMORY, os.W_OK | os.X_OK)
    return MEMORY if has_access and shutil.disk_usage(MEMORY).free >= needed else None
