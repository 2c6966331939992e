"""Fills a ledger with records of the past, by SQL, because a gateway would need hours."""

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg

# A hundredth of the records has expired, and so many are UNKNOWN or ACCEPTED, half of them each.
UNSETTLED = 1000
CHUNK = 100_000

COLUMNS = """
    id, attempt_id, owner, scope, key, fingerprint, provider, account, source_campaign_id,
    requested_name, name_key, id_namespace, input, status, requested_at, caller, campaign_id,
    campaign, evidence, settled_at, provider_trace_id, changed_at, next_check_at, expired
"""

# Ids grow with the time, and keys and names are random, as in production. `{...}` differ between
# the databases. Ten callers have copied fifty campaigns, one copy in each second. The account is
# configured no more, because a gateway would spend its time on its checks.
VALUES = """
    '01980000-0000-7000-8000-' || {padded}, {random}, 'an-owner', 'caller:caller-' || (n % 10),
    {random}, {random} || {random}, 'sonarly', 'past', 'source-' || (n % 50),
    'Copy ' || n, {random} || {random}, 'sonarly@past#acc_1',
    '{{"account":null,"account_group_id":"acc_1","campaign_id":"cmp_1","audience_id":"aud_1",'
    || '"name":"Copy ' || n || '","lead_ids":["lead_1","lead_2"]}}',
    CASE WHEN n > {open} THEN 'CREATED' WHEN n % 2 = 0 THEN 'UNKNOWN' ELSE 'ACCEPTED' END,
    {now} - ({rows} - n) * CAST(1000000 AS bigint), 'caller-' || (n % 10),
    CASE WHEN n > {open} THEN 'copy-' || {random} END,
    CASE WHEN n > {open} THEN '{{"id":"copy-' || n || '","name":"Copy ' || n
        || '","description":"","status":"DRAFT","provider_status":"draft"}}' END,
    CASE WHEN n > {open} THEN 'RESPONSE' END,
    CASE WHEN n > {open} THEN {now} - ({rows} - n) * CAST(1000000 AS bigint) END,
    {random}, {now} - ({rows} - n) * CAST(1000000 AS bigint),
    CASE WHEN n <= {open} THEN {now} END,
    CASE WHEN n > {open} AND n % 100 = 0 THEN 1 ELSE 0 END
"""

SERIES = {
    "sqlite": "WITH RECURSIVE series(n) AS "
    "(SELECT {first} UNION ALL SELECT n + 1 FROM series WHERE n < {last}) "
    "INSERT INTO duplication ({columns}) SELECT {values} FROM series",
    "postgres": "INSERT INTO duplication ({columns}) "
    "SELECT {values} FROM generate_series({first}, {last}) AS n",
}
PADDED = {"sqlite": "printf('%012d', n)", "postgres": "lpad(n::text, 12, '0')"}
RANDOM = {"sqlite": "hex(randomblob(16))", "postgres": "md5(random()::text || n)"}

# Only those that a statement has made, not those of keys.
INDEXES = {
    "sqlite": "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL "
    "AND tbl_name = 'duplication'",
    "postgres": "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'duplication' "
    "AND indexname NOT IN (SELECT conname FROM pg_constraint)",
}

Execute = Callable[[str], Sequence[Sequence[Any]]]


def fill(url: str, rows: int, now: int) -> None:
    """Add so many records. The ledger exists, and no gateway uses it. `now` is in microseconds."""
    if url.startswith("sqlite:"):
        path = Path(url.removeprefix("sqlite:///"))
        with closing(sqlite3.connect(path, isolation_level=None)) as database:
            database.execute("PRAGMA synchronous = OFF")
            database.execute("PRAGMA cache_size = -500000")
            _fill("sqlite", lambda text: database.execute(text).fetchall(), rows, now)
    else:
        with psycopg.connect(url, autocommit=True) as connection:

            def execute(text: str) -> Sequence[Sequence[Any]]:
                cursor = connection.execute(text.encode())
                return cursor.fetchall() if cursor.description else ()

            execute("SET synchronous_commit = off")
            _fill("postgres", execute, rows, now)
            execute("VACUUM ANALYZE duplication")


def _fill(kind: str, execute: Execute, rows: int, now: int) -> None:
    indexes = execute(INDEXES[kind])
    # To build an index once takes a fraction of the time.
    for name, _ in indexes:
        execute(f"DROP INDEX {name}")
    shown = {"padded": PADDED[kind], "random": RANDOM[kind], "now": now, "rows": rows}
    values = VALUES.format(**shown, open=UNSETTLED)
    for first in range(1, rows + 1, CHUNK):
        last = min(first + CHUNK - 1, rows)
        execute(SERIES[kind].format(first=first, last=last, columns=COLUMNS, values=values))
    for _, statement in indexes:
        execute(statement)
