"""Starts the commands as a user starts them, each in its own process."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from queue import Queue
from threading import Thread


class Command:
    """A running `campaign-gateway ...`. A test can wait for a line of its output.

    `launcher` are the arguments of Python that start it.
    """

    def __init__(
        self,
        *arguments: str,
        environment: dict[str, str] | None = None,
        launcher: Sequence[str] = ("-m", "campaign_gateway"),
    ) -> None:
        self.process = subprocess.Popen(
            [sys.executable, *launcher, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **(environment or {})},
        )
        self.output = ""
        self._lines: Queue[str | None] = Queue()
        self._reader = Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout:
            for line in self.process.stdout:
                self._lines.put(line)
        self._lines.put(None)

    def wait_for(self, pattern: str, seconds: float = 60) -> re.Match[str]:
        while not (match := re.search(pattern, self.output)):
            line = self._lines.get(timeout=seconds)
            assert line is not None, f"ended without {pattern!r}:\n{self.output}"
            self.output += line
        return match

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Return the exit code. After that, `output` is complete."""
        self.process.send_signal(number)
        code = self.process.wait(60)
        while (line := self._lines.get(timeout=10)) is not None:
            self.output += line
        return code


@contextmanager
def running(*arguments: str, environment: dict[str, str] | None = None) -> Iterator[Command]:
    command = Command(*arguments, environment=environment)
    try:
        yield command
    finally:
        command.kill()
