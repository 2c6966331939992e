"""The modes of the ledger's files: only the gateway's own user can read what was copied."""

import logging
import os
import stat
from pathlib import Path

log = logging.getLogger(__name__)

PRIVATE = 0o600


def open_private(path: str, flags: int) -> int:
    """Like `os.open`, for a file that only its user can read if it is new."""
    return os.open(path, flags, PRIVATE)


def make_private(paths: list[Path]) -> None:
    """Take away the rights of others. Earlier versions, or a copy of a backup, may have left them.

    SQLite gives its log the mode of the ledger.
    """
    for path in paths:
        try:
            mode = stat.S_IMODE(path.stat().st_mode)
            if mode & ~PRIVATE:
                path.chmod(PRIVATE)
                log.warning("the mode of %s was %04o, and is 0600 now", path, mode)
        except FileNotFoundError:
            continue
        except OSError as error:
            log.warning(
                "other users may be able to read %s: its mode cannot be changed to 0600 (%s)",
                path,
                error.strerror,
            )
