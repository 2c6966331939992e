"""The version of the tables in a PostgreSQL database, and their migrations."""

import psycopg

from campaign_gateway.ledger.connections import with_timeouts
from campaign_gateway.ledger.engine import LedgerUnavailable
from campaign_gateway.ledger.migrations import migrations

# The advisory lock of a database, so that its gateways migrate the tables one after the other.
MIGRATION_LOCK = 7210448236


async def require_version(url: str) -> None:
    """Raises `LedgerUnavailable` if the tables are not those of this version."""
    async with await psycopg.AsyncConnection.connect(with_timeouts(url)) as connection:
        try:
            cursor = await connection.execute("SELECT max(version) FROM ledger_version")
            row = await cursor.fetchone()
        except psycopg.errors.UndefinedTable:
            row = None
        if row is None or row[0] != len(migrations("postgres")):
            raise LedgerUnavailable(
                "the database is not a ledger of this version of the gateway; use the version that "
                "created it, or start this version's gateway once"
            )


async def migrate(url: str) -> None:
    """Bring the tables up to date. Raises `LedgerUnavailable` if they are of a newer version."""
    scripts = migrations("postgres")
    async with await psycopg.AsyncConnection.connect(with_timeouts(url)) as connection:
        await connection.execute("SELECT pg_advisory_xact_lock(%s)", [MIGRATION_LOCK])
        await connection.execute(
            "CREATE TABLE IF NOT EXISTS ledger_version (version integer NOT NULL)"
        )
        cursor = await connection.execute("SELECT max(version) FROM ledger_version")
        row = await cursor.fetchone()
        version = row[0] or 0 if row else 0
        if version > len(scripts):
            raise LedgerUnavailable(
                "the database was used by a newer version of the gateway; start that version, or "
                "restore the backup that was made before the update"
            )
        for number, script in enumerate(scripts[version:], start=version + 1):
            await connection.execute(script.encode())
            await connection.execute("INSERT INTO ledger_version VALUES (%s)", [number])
