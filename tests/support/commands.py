"""Starts the commands, each in its own process."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from queue import Queue
from tempfile import TemporaryFile
from threading import Thread
from types import MappingProxyType

from support.forked_gateways import ForkedProcess, forks

AS_A_USER = ("-m", "campaign_gateway")

NOTHING: Mapping[str, str] = MappingProxyType({})


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `campaign-gateway ...` to its end."""
    with TemporaryFile("w+") as output, TemporaryFile("w+") as errors:
        process = _start(arguments, AS_A_USER, NOTHING, (output.fileno(), errors.fileno()))
        code = process.wait(60)
        output.seek(0)
        errors.seek(0)
        return subprocess.CompletedProcess(arguments, code, output.read(), errors.read())


def _start(
    arguments: Sequence[str],
    launcher: Sequence[str],
    environment: Mapping[str, str],
    streams: tuple[int, int],
) -> subprocess.Popen[bytes] | ForkedProcess:
    environment = {**os.environ, **environment}
    if launcher == AS_A_USER:
        return forks().start(["{}", *arguments], streams, environment)
    command = [sys.executable, *launcher, *arguments]
    return subprocess.Popen(command, stdout=streams[0], stderr=streams[1], env=environment)


class Command:
    """A running `campaign-gateway ...`. A test can wait for a line of its output.

    `launcher` are the arguments of Python that start it.
    """

    def __init__(
        self,
        *arguments: str,
        environment: Mapping[str, str] = NOTHING,
        launcher: Sequence[str] = AS_A_USER,
    ) -> None:
        reading, writing = os.pipe()
        self.process = _start(arguments, launcher, environment, (writing, writing))
        os.close(writing)
        self.output = ""
        self._lines: Queue[str | None] = Queue()
        self._reader = Thread(target=self._read, args=[reading])
        self._reader.start()

    def _read(self, reading: int) -> None:
        with open(reading) as lines:
            for line in lines:
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
def running(*arguments: str, environment: Mapping[str, str] = NOTHING) -> Iterator[Command]:
    command = Command(*arguments, environment=environment)
    try:
        yield command
    finally:
        command.kill()
