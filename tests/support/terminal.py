"""A terminal at which an operator types responses to the questions of a command."""

import os
import pty
import subprocess
from collections.abc import Sequence


def run_at_terminal(command: Sequence[str], typed: str) -> "subprocess.CompletedProcess[str]":
    """Run a command whose standard input is a terminal. `typed` is what the operator types."""
    operator, terminal = pty.openpty()
    try:
        os.write(operator, typed.encode())
        return subprocess.run(
            command, stdin=terminal, capture_output=True, text=True, timeout=60, check=False
        )
    finally:
        os.close(operator)
        os.close(terminal)
