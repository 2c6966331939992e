"""Starts the processes of a benchmark, each on one core, and reads their CPU time. Linux only."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from bench.wire import Target
from campaign_gateway.web.callers.keys import create_key

FOLDER = Path(__file__).parent
START_SECONDS = 60

# A server has a core for itself, and shares it with no part of the benchmark if there are two.
SERVER_CORE, OTHER_CORE = min(os.sched_getaffinity(0)), max(os.sched_getaffinity(0))

COPY = """
mutation Copy($input: DuplicateCampaignInput!, $key: String!) {
  duplicateCampaign(input: $input, idempotencyKey: $key) {
    status campaign { id name status createdAt provider } duplication { id providerTraceId }
    userErrors { code message }
  }
}
"""
BODY = '{"query":"%s","operationName":"Copy","variables":{"key":"@KEY@","input":%s}}'
INPUTS = {
    "sonarly": '{"sonarly":{"accountGroupId":"acc_1","campaignId":"cmp_1","name":"Copy @KEY@",'
    '"audienceId":"aud_1","leadIds":["lead_1","lead_2"]}}',
    # Copies of one campaign whose outcomes are not known yet are searched for together, and there
    # would be thousands of them.
    "braze": '{"braze":{"campaignId":"source-@KEY@","name":"Copy @KEY@","tagNames":["promo"]}}',
}
# Braze responds before the copy exists.
EXPECTED = {"sonarly": b'"status":"CREATED"', "braze": b'"status":"ACCEPTED"'}

CONFIGURATION = """
[ledger]
url = "{ledger}"
[metrics]
port = 0
[callers.bench]
key = "{stored}"
accounts = ["*"]
may = ["copy", "read"]
requests_per_minute = 100_000_000
unknown_limit = 100_000_000
records_limit = 100_000_000
megabytes_limit = 100_000_000
[accounts.sonarly]
provider = "sonarly"
base_url = "{provider}"
api_key = "sk_live_1234567890"
calls_at_once = 1000
[accounts.braze]
provider = "braze"
base_url = "{provider}"
api_key = "1234567890-abcdef"
calls_at_once = 1000
calls_per_minute = 100_000_000
"""


class Failed(Exception):
    """A process has not started."""


@contextmanager
def process(
    command: Sequence[str | Path],
    core: int,
    *,
    folder: Path | None = None,
    environment: Mapping[str, str] = MappingProxyType({}),
    log: Path | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command on one core. Its log goes to a file, as in production, or to stderr."""
    before = os.sched_getaffinity(0)
    errors = None if log is None else log.open("wb")
    # A child inherits the cores.
    os.sched_setaffinity(0, {core})
    try:
        child = subprocess.Popen(
            list(map(str, command)),
            cwd=folder,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE if errors is None else errors,
            stderr=errors,
        )
    finally:
        os.sched_setaffinity(0, before)
    try:
        yield child
    finally:
        child.terminate()
        child.send_signal(signal.SIGCONT)
        with suppress(subprocess.TimeoutExpired):
            child.wait(15)
        child.kill()
        child.wait()
        if child.stdout is not None:
            child.stdout.close()
        if errors is not None:
            errors.close()


@contextmanager
def provider(delay: float = 0.0) -> Iterator[str]:
    """Run the provider. Return its base URL."""
    with process([sys.executable, FOLDER / "wire.py", str(delay)], OTHER_CORE) as child:
        assert child.stdout is not None
        yield f"http://127.0.0.1:{int(child.stdout.readline())}"


@dataclass(frozen=True)
class Server:
    """A running server. `start_seconds` is the time until it served."""

    pid: int
    port: int
    start_seconds: float
    credential: str | None = None

    def target(self, shape: str) -> Target:
        body = BODY % (" ".join(COPY.split()), INPUTS[shape])
        name = f"this gateway, {shape.capitalize()}"
        return Target(name, self.port, body, EXPECTED[shape], credential=self.credential)


@contextmanager
def gateway(
    folder: Path,
    provider_url: str,
    ledger: str,
    command: Sequence[str | Path] = (),
    core: int = SERVER_CORE,
) -> Iterator[Server]:
    """Run `serve` with a caller, metrics and a log. `command` replaces the installed program."""
    folder.mkdir(exist_ok=True)
    key, stored = create_key()
    config, log = folder / "gateway.toml", folder / "log"
    config.write_text(CONFIGURATION.format(ledger=ledger, stored=stored, provider=provider_url))
    config.chmod(0o600)
    installed = Path(sys.executable).with_name("campaign-gateway")
    began_at = time.perf_counter()
    program = [*(command or [installed]), "serve", "--config", config, "--port", "0"]
    with process(program, core, log=log) as child:
        while not (port := re.search(r"listening on \S+ port (\d+)", log.read_text())):
            _wait(child, began_at, log)
        _connect(child, int(port[1]), began_at, log)
        yield Server(child.pid, int(port[1]), time.perf_counter() - began_at, key)


@contextmanager
def running(server: Server) -> Iterator[None]:
    """Let a server run that stands still before and after. It then takes no time from others."""
    os.kill(server.pid, signal.SIGCONT)
    try:
        yield
    finally:
        os.kill(server.pid, signal.SIGSTOP)


@dataclass(frozen=True)
class Peer:
    """Another server that is installed on this machine, with the same mutation."""

    name: str
    command: Sequence[str]
    port: int
    body: str
    expected: str
    path: str = "/graphql"
    folder: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def target(self) -> Target:
        return Target(self.name, self.port, self.body, self.expected.encode(), self.path)


def read_peers(file: Path) -> list[Peer]:
    """Return the peers of a TOML file, one table for each, with the fields of `Peer`."""
    return [Peer(name, **table) for name, table in tomllib.loads(file.read_text()).items()]


@contextmanager
def peer(settings: Peer, provider_url: str, log: Path) -> Iterator[Server]:
    """Run a peer. `{provider}` in its environment is the provider's base URL."""
    environment = {
        name: text.replace("{provider}", provider_url)
        for name, text in settings.environment.items()
    }
    began_at = time.perf_counter()
    with process(
        settings.command, SERVER_CORE, folder=settings.folder, environment=environment, log=log
    ) as child:
        _connect(child, settings.port, began_at, log)
        yield Server(child.pid, settings.port, time.perf_counter() - began_at)


def _connect(child: subprocess.Popen[bytes], port: int, began_at: float, log: Path) -> None:
    while True:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        _wait(child, began_at, log)


def _wait(child: subprocess.Popen[bytes], began_at: float, log: Path) -> None:
    if child.poll() is not None or time.perf_counter() - began_at > START_SECONDS:
        raise Failed(f"{child.args!r} does not serve:\n{log.read_text()[-2000:]}")
    time.sleep(0.002)


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process and its descendants, in steps of 10 ms."""
    children: dict[int, list[int]] = {}
    ticks: dict[int, int] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            with suppress(OSError):
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                children.setdefault(int(fields[1]), []).append(int(folder.name))
                ticks[int(folder.name)] = int(fields[11]) + int(fields[12])
    total, todo = 0, [pid]
    while todo:
        each = todo.pop()
        total += ticks.get(each, 0)
        todo += children.get(each, [])
    return total / os.sysconf("SC_CLK_TCK")


def memory_of(pid: int) -> float:
    """Return the resident memory of a process in MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    (kilobytes,) = re.findall(r"VmRSS:\s+(\d+) kB", status)
    return int(kilobytes) / 1000
