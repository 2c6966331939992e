"""Starts gateways and other commands by fork from one process that has imported the package.

Each is a process of its own with its own sockets, files and threads, which can be killed or stopped
like any other. A fork costs milliseconds. A fresh interpreter needs almost a second of CPU for the
imports, and the tests start hundreds of gateways.

As a script, `forked_gateways.py FD`, it is the process that forks. It takes requests over the
socket FD, and ends with its children when the other end is closed.
"""

import asyncio
import atexit
import gc
import json
import mimetypes
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from math import inf
from pathlib import Path
from typing import Any

from campaign_gateway.accounts.account import open_account
from campaign_gateway.accounts.transport.tls import tls_context
from campaign_gateway.connectors.registry import CONNECTORS
from campaign_gateway.settings import parse_settings

MESSAGE_LIMIT = 131_072


# --- in the tests ---------------------------------------------------------------------------------


@dataclass
class Forks:
    """The connection to the process that forks. Safe to use from any thread."""

    connection: socket.socket
    codes: dict[int, int] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def start(
        self, arguments: Sequence[str], streams: tuple[int, int], environment: Mapping[str, str]
    ) -> "ForkedProcess":
        """Run `crashing_gateway.py` with the arguments, this folder and the whole environment.

        `streams` are the file descriptors of its standard output and errors.
        """
        request = {
            "arguments": arguments,
            "environment": dict(environment),
            "folder": str(Path.cwd()),
        }
        with self.lock:
            socket.send_fds(self.connection, [json.dumps(request).encode()], streams)
            while (pid := self._receive()) is None:
                pass
        return ForkedProcess(pid, self)

    def exit_code(self, pid: int) -> int | None:
        """Return the exit code of a child, negative for a signal. None while it runs."""
        with self.lock:
            self.connection.setblocking(False)
            try:
                while pid not in self.codes:
                    self._receive()
            except BlockingIOError:
                return None
            finally:
                self.connection.setblocking(True)
            return self.codes[pid]

    def _receive(self) -> int | None:
        """Take one message. Returns the pid that it reports if a child was started."""
        message = self.connection.recv(MESSAGE_LIMIT)
        assert message, "the process that forks gateways has ended"
        report = json.loads(message)
        if "code" not in report:
            return int(report["pid"])
        self.codes[report["pid"]] = report["code"]
        return None


@dataclass(frozen=True)
class ForkedProcess:
    """What the tests use of `subprocess.Popen`, for a child of another process."""

    pid: int
    forks: Forks

    @property
    def returncode(self) -> int | None:
        return self.poll()

    def poll(self) -> int | None:
        return self.forks.exit_code(self.pid)

    def wait(self, timeout: float = inf) -> int:
        gives_up_at = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > gives_up_at:
                raise subprocess.TimeoutExpired([], timeout)
            time.sleep(0.001)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


@cache
def forks() -> Forks:
    """Return the forking process of this test process. It starts with the first gateway."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, __file__, str(theirs.fileno())], pass_fds=[theirs.fileno()]
        )

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return Forks(ours)


# --- in the process that forks --------------------------------------------------------------------


def main() -> None:
    gateway = import_module("crashing_gateway")
    # Reading the trusted CAs takes 40 ms, and each gateway has them from here.
    tls_context(None)
    app = import_module("campaign_gateway.app")
    schema = app.build_schema()
    setattr(app, "build_schema", lambda _connectors: schema)  # noqa: B010 - mypy rejects `=` here
    asyncio.run(_warm_up())
    # Objects that no collection visits stay shared between the children.
    gc.freeze()
    arguments = _fork_for_each_request(socket.socket(fileno=int(sys.argv[1])))
    if arguments is not None:
        sys.argv[1:] = arguments
        gateway.main()


async def _warm_up() -> None:
    """Do once what each child would do again: late imports, and what Python keeps after it."""
    for name in ("anyio._backends._asyncio", "campaign_gateway.ledger.postgres"):
        import_module(name)
    for provider in CONNECTORS:
        import_module(f"campaign_gateway.sandbox.emulators.{provider}")
    mimetypes.init()
    import_module("campaign_gateway.cli")._parser()
    key = import_module("faulty_provider").API_KEY
    table = {"provider": "sonarly", "base_url": "http://127.0.0.1:1", "api_key": key}
    settings = parse_settings({"accounts": {"main": table}}, {})
    await open_account("main", settings.accounts["main"]).transport.close()


def _fork_for_each_request(requests: socket.socket) -> list[str] | None:
    """Return its arguments in each child, and None in the parent when no more requests can come."""
    woken, wake = socket.socketpair()
    wake.setblocking(False)
    signal.set_wakeup_fd(wake.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    children: set[int] = set()
    while True:
        readable, _, _ = select.select([requests, woken], [], [])
        if woken in readable:
            woken.recv(MESSAGE_LIMIT)
            for pid, code in _ended(children):
                children.remove(pid)
                with suppress(OSError):
                    requests.send(json.dumps({"pid": pid, "code": code}).encode())
        if requests in readable:
            message, streams, *_ = socket.recv_fds(requests, MESSAGE_LIMIT, 2)
            if not message:
                for pid in children:
                    os.kill(pid, signal.SIGKILL)
                return None
            request = json.loads(message)
            pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                for opened in (requests, woken, wake):
                    opened.close()
                _take_over(request, streams)
                return list(request["arguments"])
            for stream in streams:
                os.close(stream)
            children.add(pid)
            requests.send(json.dumps({"pid": pid}).encode())


def _ended(children: set[int]) -> list[tuple[int, int]]:
    """Return the children that have ended, with their exit codes."""
    waited = [os.waitpid(pid, os.WNOHANG) for pid in children]
    return [(pid, os.waitstatus_to_exitcode(status)) for pid, status in waited if pid]


def _take_over(request: dict[str, Any], streams: Sequence[int]) -> None:
    for number, stream in enumerate(streams, start=1):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])


if __name__ == "__main__":
    main()
