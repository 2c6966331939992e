"""Dumps a PostgreSQL ledger with the program pg_dump, as SQL."""

import asyncio
import os
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from campaign_gateway.ledger import rows
from campaign_gateway.ledger.connections import with_timeouts
from campaign_gateway.ledger.engine import LedgerUnavailable
from campaign_gateway.ledger.postgres import first_line
from campaign_gateway.ledger.postgres_tables import require_version

# The table may be in any schema, and a dump names the schema of each table.
PLACE = """
SELECT clock_timestamp(), format('%I.%I', nspname, relname)
FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE pg_class.oid = 'lost_time'::regclass
"""


def dump(url: str, file: Path) -> datetime:
    """Write the SQL that makes a copy. Return the time since which the copy has no records.

    Raises `LedgerUnavailable` and `OSError`.
    """
    if shutil.which("pg_dump") is None:
        raise LedgerUnavailable(
            "the backup of a PostgreSQL ledger needs the program pg_dump, which is not installed"
        )
    try:
        made_at, table = asyncio.run(_read_place(url))
    except psycopg.Error as error:
        raise LedgerUnavailable(f"PostgreSQL cannot be used: {first_line(error)}") from None
    parameters = conninfo_to_dict(url)
    # In the environment, because every user of the machine sees the arguments of a process.
    password = parameters.pop("password", None)
    secret = {} if password is None else {"PGPASSWORD": str(password)}
    command = [
        "pg_dump",
        f"--dbname={make_conninfo('', **parameters)}",
        "--no-owner",
        "--no-privileges",
        # The heartbeats of gateways, which do not run at the copy.
        "--exclude-table-data=*.replica",
    ]
    with file.open("wb") as output:
        done = subprocess.run(  # noqa: S603 - the operator wrote the URL
            command,
            stdout=output,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **secret},
            check=False,
        )
        if done.returncode != 0:
            raise LedgerUnavailable(f"the backup was not made: {done.stderr.strip()}")
        mark = f"INSERT INTO {table} (began_at) VALUES ({rows.to_micros(made_at)});\n"
        output.write(mark.encode())
    return made_at


async def _read_place(url: str) -> tuple[datetime, str]:
    """Return the database's time, and the table that has the mark of a copy."""
    await require_version(url)
    async with await psycopg.AsyncConnection.connect(with_timeouts(url)) as connection:
        cursor = await connection.execute(PLACE)
        row = await cursor.fetchone()
    assert row is not None
    return row[0].astimezone(UTC), row[1]
