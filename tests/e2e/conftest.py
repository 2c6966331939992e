"""The commands as a user starts them, each in a process of its own."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Queue
from threading import Thread

import pytest


class Command:
    """A running `campaign-gateway ...`, whose lines can be waited for."""

    def __init__(self, *arguments: str, environment: dict[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "campaign_gateway", *arguments],
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
        while not (found := re.search(pattern, self.output)):
            line = self._lines.get(timeout=seconds)
            assert line is not None, f"ended without {pattern!r}:\n{self.output}"
            self.output += line
        return found

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Its exit code; its output is then whole."""
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


@pytest.fixture(name="running")
def running_fixture() -> object:
    return running


@pytest.fixture
def shell() -> Callable[[str], str]:
    """Runs a line with curl in it as somebody would who pastes it, and gives what it prints."""
    if shutil.which("curl") is None and "CAMPAIGN_GATEWAY_REQUIRE_BROWSER" not in os.environ:
        pytest.skip("there is no curl on this machine")

    def run(line: str) -> str:
        done = subprocess.run(
            ["sh", "-c", line], capture_output=True, text=True, check=True, timeout=30
        )
        return done.stdout

    return run


@pytest.fixture(scope="session")
def sandbox_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    ledger: Path = tmp_path_factory.mktemp("sandbox") / "ledger.db"
    with running("sandbox", "--port", "0", "--ledger", str(ledger)) as command:
        url = command.wait_for(r"GraphiQL +(http://\S+)/graphiql")[1]
        command.wait_for("Ctrl-C stops the sandbox")
        yield url
        assert command.stop() == 0
