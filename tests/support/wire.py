"""What lies between a gateway and its PostgreSQL, and may fail by itself."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field

from anyio.from_thread import start_blocking_portal
from psycopg.conninfo import conninfo_to_dict

# Only the record of an intent holds the input, and only that of a copy the provider's word for it.
BEGIN = b'"account_group_id"'
SETTLE = b'"provider_status"'


@dataclass
class Wire:
    """Statements are known by what they hold.

    Those of `mute` are carried out, each so many times, and their answers are lost with the
    connection. Those of `late` arrive so many seconds after they were sent. Before one of `events`
    is passed on, something happens, once. `is_cut` refuses connections and ends those that are
    there; `is_stalled` passes nothing on.
    """

    url: str = ""
    mute: Counter[bytes] = field(default_factory=Counter)
    late: dict[bytes, float] = field(default_factory=dict)
    events: dict[bytes, Callable[[], None]] = field(default_factory=dict)
    muted: int = 0
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
        is_mute = asyncio.Event()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._there(from_client, to_server, is_mute))
                tasks.create_task(self._back(from_server, to_client, is_mute))
                tasks.create_task(self._end_when_cut())
        finally:
            # With FIN, behind what was written: a late statement must be read.
            to_server.close()

    async def _there(
        self, client: asyncio.StreamReader, server: asyncio.StreamWriter, is_mute: asyncio.Event
    ) -> None:
        while said := await client.read(65536):
            for statement in [each for each in self.mute if each in said]:
                if self.mute[statement] > 0:
                    self.mute[statement] -= 1
                    is_mute.set()
            for statement in [each for each in self.events if each in said]:
                await asyncio.to_thread(self.events.pop(statement))
            for statement in [each for each in self.late if each in said]:
                await asyncio.sleep(self.late.pop(statement))
            await self._while_stalled()
            server.write(said)
        raise ConnectionAbortedError

    async def _back(
        self, server: asyncio.StreamReader, client: asyncio.StreamWriter, is_mute: asyncio.Event
    ) -> None:
        while said := await server.read(65536):
            await self._while_stalled()
            if is_mute.is_set():
                self.muted += 1
                break
            client.write(said)
        raise ConnectionAbortedError

    async def _end_when_cut(self) -> None:
        while not self.is_cut:
            await asyncio.sleep(0.01)
        raise ConnectionAbortedError

    async def _while_stalled(self) -> None:
        while self.is_stalled:
            await asyncio.sleep(0.01)


@contextmanager
def wire_to(url: str) -> Iterator[Wire]:
    """In a thread of its own, so that it goes on while a test waits."""
    wire = Wire()
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(_carrying(wire, url)):
        yield wire


@asynccontextmanager
async def _carrying(wire: Wire, url: str) -> AsyncIterator[None]:
    parts = conninfo_to_dict(url)
    target = str(parts["host"]), int(parts["port"] or 5432)
    carrying: set[asyncio.Task[None]] = set()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await wire.carry(target, (reader, writer))
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
    wire.url = f"postgresql://{parts['user']}@127.0.0.1:{port}/{parts['dbname']}?sslmode=disable"
    try:
        yield
    finally:
        server.close()
        for each in list(carrying):
            each.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*carrying, return_exceptions=True)
