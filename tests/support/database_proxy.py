"""A TCP proxy between a gateway and its PostgreSQL, which can fail by itself."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field

from anyio.from_thread import start_blocking_portal
from psycopg.conninfo import conninfo_to_dict

# Statements are recognised by a part of their values: the input is only in the record of an
# intent, and the provider's status only in that of a copy.
BEGIN = b'"account_group_id"'
SETTLE = b'"provider_status"'


@dataclass
class DatabaseProxy:
    """How the proxy fails. Statements are given as bytes that they contain.

    The database executes a statement of `lost_confirmations`, and the connection ends before the
    confirmation, that many times. A statement of `late` is delayed once by that many seconds.
    `events` has callbacks that run once, before the statement is passed on. `is_cut` ends all
    connections and refuses new ones. `is_stalled` keeps them open and passes nothing on.
    """

    url: str = ""
    lost_confirmations: Counter[bytes] = field(default_factory=Counter)
    late: dict[bytes, float] = field(default_factory=dict)
    events: dict[bytes, Callable[[], None]] = field(default_factory=dict)
    confirmations_lost: int = 0
    is_cut: bool = False
    is_stalled: bool = False

    async def carry(
        self,
        target: tuple[str, int],
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        if self.is_cut:
            return
        from_client, to_client = client
        from_server, to_server = await asyncio.open_connection(*target)
        is_lost = asyncio.Event()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._there(from_client, to_server, is_lost))
                tasks.create_task(self._back(from_server, to_client, is_lost))
                tasks.create_task(self._end_when_cut())
        finally:
            # FIN comes after the data, so the database still gets a late statement.
            to_server.close()

    async def _there(
        self, client: asyncio.StreamReader, server: asyncio.StreamWriter, is_lost: asyncio.Event
    ) -> None:
        while data := await client.read(65536):
            for statement in [part for part in self.lost_confirmations if part in data]:
                if self.lost_confirmations[statement] > 0:
                    self.lost_confirmations[statement] -= 1
                    is_lost.set()
            for statement in [part for part in self.events if part in data]:
                await asyncio.to_thread(self.events.pop(statement))
            for statement in [part for part in self.late if part in data]:
                await asyncio.sleep(self.late.pop(statement))
            await self._while_stalled()
            server.write(data)
        raise ConnectionAbortedError

    async def _back(
        self, server: asyncio.StreamReader, client: asyncio.StreamWriter, is_lost: asyncio.Event
    ) -> None:
        while data := await server.read(65536):
            await self._while_stalled()
            if is_lost.is_set():
                self.confirmations_lost += 1
                break
            client.write(data)
        raise ConnectionAbortedError

    async def _end_when_cut(self) -> None:
        while not self.is_cut:
            await asyncio.sleep(0.01)
        raise ConnectionAbortedError

    async def _while_stalled(self) -> None:
        while self.is_stalled:
            await asyncio.sleep(0.01)


@contextmanager
def proxy_for(url: str) -> Iterator[DatabaseProxy]:
    """Run a proxy in a thread of its own, so that it works while a test blocks."""
    database_proxy = DatabaseProxy()
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(_carrying(database_proxy, url)),
    ):
        yield database_proxy


@asynccontextmanager
async def _carrying(database_proxy: DatabaseProxy, url: str) -> AsyncIterator[None]:
    parts = conninfo_to_dict(url)
    target = str(parts["host"]), int(parts["port"] or 5432)
    carrying: set[asyncio.Task[None]] = set()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await database_proxy.carry(target, (reader, writer))
        except* OSError:
            pass
        finally:
            writer.transport.abort()

    def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(carry(reader, writer))
        carrying.add(task)
        task.add_done_callback(carrying.discard)

    server = await asyncio.start_server(begin, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    database_proxy.url = (
        f"postgresql://{parts['user']}@127.0.0.1:{port}/{parts['dbname']}?sslmode=disable"
    )
    try:
        yield
    finally:
        server.close()
        for running in list(carrying):
            running.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*carrying, return_exceptions=True)
