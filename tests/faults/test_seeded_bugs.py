"""The suite is itself tried: each way to break the protocol makes some test of it fail."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

import campaign_gateway
from support.figures import Figures

TESTS = Path(__file__).parent.parent

SPINE = ("spine/test_duplication.py",)
LEDGER = ("ledger/test_contract.py",)


def reading(test: str) -> Sequence[str]:
    """One test alone, because all of them take longer."""
    return (f"spine/test_reconciliation.py::{test}",)


@dataclass(frozen=True)
class Bug:
    """Edits of source files, each as a text and what takes its place, and who must notice."""

    name: str
    edits: Mapping[str, Sequence[tuple[str, str]]]
    noticed_by: Sequence[str]


BUGS = [
    Bug(
        "send before commit",
        {"duplication/attempt.py": [("        await asyncio.shield(self.task)\n", "")]},
        SPINE,
    ),
    Bug(
        "resend on takeover",
        {
            "duplication/service.py": [
                (
                    "        if recorded is None:\n            try:",
                    (
                        "        unknown = DuplicationStatus.UNKNOWN\n"
                        "        if recorded is None or recorded.status is unknown:\n"
                        "            try:"
                    ),
                )
            ],
            "ledger/sql.py": [
                (
                    'ON CONFLICT DO NOTHING RETURNING id"\n)\nUNRESOLVED',
                    (
                        "ON CONFLICT (scope, key) DO UPDATE SET attempt_id = excluded.attempt_id,"
                        " status = 'IN_PROGRESS' WHERE duplication.status = 'UNKNOWN'"
                        ' RETURNING id"\n)\nUNRESOLVED'
                    ),
                ),
                (
                    "= coalesce(:override_of, '')",
                    "IN (coalesce(:override_of, ''), (SELECT id FROM duplication WHERE key = :key))",
                ),
            ],
        },
        SPINE,
    ),
    Bug(
        "503 taken as certain",
        {
            "connectors/errors.py": [
                ("    429: ErrorCode.RATE_LIMITED,\n", "    503: ErrorCode.RATE_LIMITED,\n")
            ]
        },
        ("contract/test_connector_contract.py",),
    ),
    Bug(
        "answer before COMMIT",
        {
            "ledger/writer.py": [
                (
                    '                self.connection.execute("COMMIT")\n',
                    (
                        "                for write, result in zip(batch, results, strict=True):\n"
                        "                    write.tell(result)\n"
                        '                self.connection.execute("COMMIT")\n'
                    ),
                )
            ]
        },
        ("ledger/test_sqlite.py",),
    ),
    Bug(
        "unguarded settle",
        {
            "ledger/sql.py": [
                (
                    "{row}.attempt_id = :attempt_id AND ({row}.status IN ('IN_PROGRESS', 'UNKNOWN')",
                    "{row}.attempt_id = :attempt_id AND (1 = 1",
                )
            ]
        },
        LEDGER,
    ),
    Bug(
        "key not scoped",
        {"ledger/sql.py": [("WHERE scope = :scope AND key = :key", "WHERE key = :key")]},
        LEDGER,
    ),
    Bug(
        "fingerprint ignored",
        {
            "duplication/service.py": [
                (
                    (
                        "    if recorded.intent.fingerprint != intent.fingerprint:\n"
                        "        raise Refused(KEY_REUSED)\n"
                    ),
                    "",
                )
            ]
        },
        SPINE,
    ),
    Bug(
        "send in the request's task",
        {
            "duplication/service.py": [
                (
                    (
                        "await asyncio.wait(\n            [running.task, self._end], "
                        "timeout=self._deadline, return_when=asyncio.FIRST_COMPLETED\n        )\n"
                    ),
                    "await asyncio.wait_for(running.task, self._deadline)\n",
                )
            ]
        },
        SPINE,
    ),
    Bug(
        "attempt_id ignored",
        {
            "ledger/ledger.py": [
                ("is_ours = holder.intent.attempt_id == intent.attempt_id", "is_ours = True"),
            ],
        },
        LEDGER,
    ),
    Bug(
        "retry after bytes left",
        {
            "transport/client.py": [
                (
                    "except (httpx.ConnectError, httpx.ConnectTimeout) as error:",
                    "except httpx.HTTPError as error:",
                ),
                (
                    "if pause is None or exchange.crossed or _tls_failure(error):",
                    "if pause is None:",
                ),
            ]
        },
        ("test_transport.py",),
    ),
    Bug(
        "no second look before a refusal",
        {
            "duplication/service.py": [
                (
                    (
                        "                recorded = await self._find_if_possible(intent)\n"
                        "                if recorded is None:\n                    raise\n"
                    ),
                    "                raise\n",
                )
            ]
        },
        (
            "spine/test_duplication.py::test_refusal_is_replaced_by_the_record_another_gateway_made_meanwhile",
        ),
    ),
    Bug(
        "a new key after a refusal without a record",
        {
            "model.py": [
                (
                    "RETRY_WITHOUT_RECORD.get(self.code, Retry.SAME_KEY)",
                    "RETRY_WITHOUT_RECORD.get(self.code, Retry.NEW_KEY)",
                )
            ]
        },
        SPINE,
    ),
    Bug(
        "two owners of one campaign",
        {
            "ledger/sql.py": [
                ('AND {_FREE} RETURNING *"\n)\nOWNER', 'RETURNING *"\n)\nOWNER'),
            ],
            "ledger/migrations/sqlite/0004_owners.sql": [("CREATE UNIQUE INDEX", "CREATE INDEX")],
            "ledger/migrations/postgres/0003_owners.sql": [("CREATE UNIQUE INDEX", "CREATE INDEX")],
        },
        LEDGER,
    ),
    Bug(
        "order by ids",
        {
            "ledger/sql.py": [
                ('_NEWEST = "ORDER BY requested_at DESC, id DESC"', '_NEWEST = "ORDER BY id DESC"')
            ]
        },
        LEDGER,
    ),
    Bug(
        "the machine's clock",
        {
            "duplication/copy_search.py": [
                ("        asked_at = now()\n", "        asked_at = datetime.now(UTC)\n"),
                ("import datetime, timedelta\n", "import UTC, datetime, timedelta\n"),
            ]
        },
        reading("test_times_are_the_ledger_s_and_not_this_machine_s"),
    ),
    Bug(
        "a provider's clock that is read after its answer",
        {
            "duplication/copy_search.py": [
                (
                    "        ahead = _ahead(response, asked_at)\n",
                    "        ahead = _ahead(response, now())\n",
                )
            ]
        },
        reading("test_slow_list_makes_no_older_campaign_look_newer"),
    ),
    Bug(
        "one host under two spellings",
        {
            "connectors/account_settings.py": [
                ('    host = (parts.hostname or "").rstrip(".")\n', "    return parts.netloc\n")
            ]
        },
        reading("test_one_host_has_one_spelling"),
    ),
    Bug(
        "checks without shares",
        {
            "duplication/reconciliation.py": [
                ("CHECKS_AT_ONCE - under_way[name]", "CHECKS_AT_ONCE - under_way.total()")
            ]
        },
        reading("test_provider_that_hangs_holds_up_no_other_account_s_checks"),
    ),
]


def run_tests(source: Path, tests: Sequence[str]) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(source)}
    for name in [name for name in environment if name.startswith("COVERAGE")]:
        del environment[name]
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
    return subprocess.run(
        [*command, *(str(TESTS / each) for each in tests)],
        cwd=TESTS.parent,
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder with a copy of the package that may be broken."""
    package = Path(campaign_gateway.__file__).parent
    shutil.copytree(
        package, tmp_path / "campaign_gateway", ignore=shutil.ignore_patterns("web", "__pycache__")
    )
    return tmp_path


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_broken_protocol_fails_the_suite(bug: Bug, source: Path, figures: Figures) -> None:
    for name, edits in bug.edits.items():
        file = source / "campaign_gateway" / name
        text = file.read_text("utf-8")
        for old, new in edits:
            assert text.count(old) == 1, f"{name} no longer has {old!r} once"
            text = text.replace(old, new)
        file.write_text(text, "utf-8")
    done = run_tests(source, bug.noticed_by)
    # 1 is pytest's word for tests that failed; anything else would be a run that did not happen.
    assert done.returncode == 1, done.stdout + done.stderr
    assert " failed" in done.stdout
    figures.count("seeded protocol bugs caught")


def test_the_same_tests_pass_without_a_bug(source: Path) -> None:
    every = sorted({test for bug in BUGS for test in bug.noticed_by})
    done = run_tests(source, every)
    assert done.returncode == 0, done.stdout + done.stderr
