"""Fixtures for all tests: servers on real sockets, accounts that reach them, recordings."""

import gc
import os
import shutil
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from graphql import GraphQLSchema
from xdist.scheduler import LoadScopeScheduling

from campaign_gateway import app
from campaign_gateway.accounts.account import Account, open_account
from campaign_gateway.accounts.transport import kept_connections
from campaign_gateway.api.schema import build_schema
from campaign_gateway.connectors.contract import ProviderResponse
from campaign_gateway.connectors.registry import CONNECTORS, Connectors
from campaign_gateway.model import Outcome
from campaign_gateway.sandbox.contract_suite import calling
from support.commands import running
from support.figures import Figures
from support.postgres import PostgresServer, postgres_server

# With this variable, each of the hundreds of processes that tests start would compile the package,
# and each worker all files of tests.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# Thousands of tests and their modules stay in memory. To search them for garbage as often as usual
# takes a tenth of the CPU.
gc.set_threshold(20_000)

FIGURES = pytest.StashKey[Figures]()

# The tests of each of these files share a thing that costs seconds of CPU: a browser, a compiled
# frontend, a router, a search of a model, a gateway with Prometheus.
ONE_WORKER_EACH = (
    "tests/clients/test_readme_frontend.py",
    "tests/clients/test_typescript.py",
    "tests/clients/test_urql_apollo.py",
    "tests/conformance/test_graphql_http.py",
    "tests/e2e/test_graphiql.py",
    "tests/faults/test_ownership_model.py",
    "tests/faults/test_protocol_model.py",
    "tests/federation/test_composition.py",
    "tests/federation/test_routers.py",
    "tests/observe/test_diagnoses.py",
    "tests/observe/test_metrics.py",
    "tests/observe/test_prometheus.py",
    "tests/packages/test_gateway.py",
    "tests/packages/test_installation.py",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--figures", metavar="FILE", type=Path, help="write the report there")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[FIGURES] = Figures()
    if hasattr(config, "workerinput") and config.args == ["tests"]:
        config.args = _begin_elsewhere(config.workerinput)


def _begin_elsewhere(worker: Mapping[str, Any]) -> list[str]:
    """Return all files of tests, but let each worker of pytest-xdist begin with others.

    In a new clone, pytest compiles each file for its assertions when it collects it. If all workers
    came to a file at the same time, each would compile it.
    """
    root = Path(__file__).parent
    files = sorted(
        str(file) for room in ("", "*/", "*/*/") for file in root.glob(f"{room}test_*.py")
    )
    number = int(worker["workerid"].removeprefix("gw"))
    begin = number * len(files) // worker["workercount"]
    return files[begin:] + files[:begin]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Return more than three times the number of CPUs, because tests mostly wait.

    If only files or tests are named, they run in this process, which starts faster.
    """
    if chosen := os.environ.get("PYTEST_XDIST_AUTO_NUM_WORKERS"):
        return int(chosen)
    if all(Path(argument.partition("::")[0]).suffix == ".py" for argument in config.args):
        return 0
    return 3 * (os.cpu_count() or 1) + 1


# The slow tests: with processes, browsers and outages, and with searches of many cases.
SLOW = (
    "tests/bench/",
    "tests/clients/",
    "tests/conformance/",
    "tests/e2e/",
    "tests/faults/",
    "tests/federation/",
    "tests/hostile/",
    "tests/api/test_fuzz.py",
    "tests/api/test_outage.py",
    "tests/callers/test_commands.py",
    "tests/ledger/test_disk_full.py",
    "tests/ledger/test_postgres.py",
    "tests/ledger/test_stateful.py",
    "tests/observe/test_ledger_metrics.py",
    "tests/observe/test_metrics.py",
    "tests/observe/test_prometheus.py",
    "tests/packages/test_gateway.py",
    "tests/packages/test_installation.py",
    "tests/transport/test_long_responses.py",
)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if item.nodeid.startswith(SLOW):
            item.add_marker("slow")
    if hasattr(config, "workerinput"):
        # Each worker collects them in another order, and all must have the same.
        items.sort(key=lambda item: item.path)
        _mix(items)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    # What is collected stays until the end, and there is hardly any garbage meanwhile.
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


# Slow tests are spread over this part of the run, so that no worker begins one when the others are
# done.
SLOW_PART = 0.8


def _mix(items: list[pytest.Item]) -> None:
    """Spread the slow tests, which mostly wait, among the files of the others, which compute."""
    slow = [item for item in items if item.get_closest_marker("slow")]
    quick = [item for item in items if not item.get_closest_marker("slow")]
    places = {item: SLOW_PART * number / len(slow) for number, item in enumerate(slow)}
    starts: dict[Path, float] = {}
    for number, item in enumerate(quick):
        places[item] = starts.setdefault(item.path, number / len(quick))
    # The files that one worker runs as a whole take longest.
    items.sort(key=lambda item: (not item.nodeid.startswith(ONE_WORKER_EACH), places[item]))


class _Scheduling(LoadScopeScheduling):  # type: ignore[misc]  # pytest-xdist has no py.typed
    """Gives each test to the next free worker, but all tests of some files to one worker.

    The mark of pytest-xdist for this has no effect with pytest 9.2.
    """

    def _split_scope(self, nodeid: str) -> str:
        if nodeid.startswith(ONE_WORKER_EACH):
            return nodeid.partition("::")[0]
        if nodeid.startswith(SLOW):
            return nodeid
        # The cases of a quick test stay together: it costs to hand out thousands of them. So do all
        # tests of a connector by the contract suite, which share emulators and random responses.
        test = nodeid.partition("[")[0]
        return test.partition("::TestContract::")[0]

    def mark_test_complete(self, node: Any, item_index: int, duration: float = 0) -> None:
        super().mark_test_complete(node, item_index, duration)
        # After each test, it counts what is left of all that the worker has ever had.
        scope = self._split_scope(self.registered_collections[node][item_index])
        if all(self.assigned_work[node][scope].values()):
            del self.assigned_work[node][scope]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    # Keep the order of the tests.
    config.option.loadscopereorder = False
    return _Scheduling(config, log)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Send the figures of a worker of pytest-xdist to the process that prints them."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["figures"] = session.config.stash[FIGURES].dump()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    if figures := getattr(node, "workeroutput", {}).get("figures"):
        node.config.stash[FIGURES].add(Figures.load(figures))


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    lines = config.stash[FIGURES].lines()
    if not lines:
        return
    terminalreporter.section("figures")
    terminalreporter.write_line("\n".join(lines))
    if file := config.getoption("--figures"):
        file.write_text("\n".join(lines) + "\n", "utf-8")


@pytest.fixture(scope="session")
def figures(pytestconfig: pytest.Config) -> Figures:
    return pytestconfig.stash[FIGURES]


@pytest.fixture(scope="session", autouse=True)
def _schemas_are_built_once() -> Iterator[None]:
    """Lets gateways with the same connectors share a schema, as requests to one gateway do.

    To build it takes more than half of a gateway's start.
    """
    built: dict[tuple[object, ...], GraphQLSchema] = {}

    def build(connectors: Connectors) -> GraphQLSchema:
        key = tuple(connectors.items())
        if key not in built:
            built[key] = build_schema(connectors)
        return built[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app, "build_schema", build)
        yield


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A real PostgreSQL server that all tests of a worker share, and none stops or configures."""
    with postgres_server() as server:
        yield server


@pytest.fixture(scope="module")
def own_postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server that only this module uses. Its tests may stop and configure it."""
    with postgres_server() as server:
        yield server


@pytest.fixture
def postgres_url(postgres: PostgresServer) -> str:
    """The URL of a new database."""
    return postgres.create_database()


@pytest.fixture(scope="module")
def serve() -> Iterator[calling.Serve]:
    """Serves an app until the end of the module, and returns its base URL."""
    with calling.serving_apps() as serve:
        yield serve


@pytest.fixture
def only_new_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets each request have a connection of its own, so that a read that is cut off fails.

    On a kept connection, it would be sent again.
    """
    for name in ("IDLE_SECONDS_OF_READS", "IDLE_SECONDS_OF_COPIES"):
        monkeypatch.setattr(kept_connections, name, 0)


@pytest.fixture
async def open_at() -> AsyncIterator[Callable[..., Account]]:
    """Opens an account of a provider at a URL, with more settings by name."""
    opened: list[Account] = []

    def open_one(provider: str, url: str, **settings: object) -> Account:
        table = {"provider": provider, "base_url": url, "timeout_seconds": 5, **settings}
        opened.append(open_account("tried", CONNECTORS[provider].Account.model_validate(table)))
        return opened[-1]

    yield open_one
    for account in opened:
        await account.transport.close()


@pytest.fixture
def duplicate() -> Callable[[Account, Any], Awaitable[Outcome]]:
    """Makes and completes one copy as the gateway does. Raises the errors of the transport."""
    return calling.duplicate


@pytest.fixture
def read_recording() -> Callable[[Path], ProviderResponse]:
    """Reads a recorded response as the transport passes it to a connector."""
    return calling.read_recording


CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of Chromium. Without one the test is skipped, unless it is required."""
    candidates = [os.environ.get("CHROMIUM"), *map(shutil.which, CHROMIUM_NAMES)]
    if found := next((path for path in candidates if path), None):
        return found
    reason = "no Chromium found; name one in the environment variable CHROMIUM"
    if os.environ.get("CAMPAIGN_GATEWAY_REQUIRE_BROWSER"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def sandbox_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    ledger: Path = tmp_path_factory.mktemp("sandbox") / "ledger.db"
    with running("sandbox", "--port", "0", "--ledger", str(ledger)) as command:
        url = command.wait_for(r"GraphiQL +(http://\S+)/graphiql")[1]
        command.wait_for("Ctrl-C stops the sandbox")
        yield url
        assert command.stop() == 0
