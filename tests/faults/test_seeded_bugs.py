"""The suite is itself tested: each way to break the protocol makes some test of it fail."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

import campaign_gateway
from support.figures import Figures
from support.preloaded_pytest import run_pytest
from support.seeding import Code, Edit, Misplaced, Sql, Text, seed

TESTS = Path(__file__).parent.parent

ATTEMPT = "duplication/attempt.py"
COPY_SEARCH = "duplication/copy_search.py"
SERVICE = "duplication/service.py"
SQL = "ledger/sql.py"

DUPLICATION = "spine/test_duplication.py"
RECONCILIATION = "spine/test_reconciliation.py"
LEDGER = "ledger/test_contract.py"
KEPT = "transport/test_kept_connections.py"


@dataclass(frozen=True)
class Bug:
    """One mistake, as edits of the sources, and a test that must fail with it.

    Each run costs the start of a pytest, so it is one test and the quickest of those that fail.
    """

    name: str
    edits: Sequence[Edit]
    noticed_by: str


BUGS = [
    Bug(
        "send before commit",
        [Code(ATTEMPT, "_Recording.begin", "await asyncio.shield(self.task)", "Begun()")],
        f"{DUPLICATION}::test_intent_that_cannot_be_recorded_is_not_sent",
    ),
    Bug(
        "resend on takeover",
        [
            Code(
                SERVICE,
                "Duplicator._run",
                "record = await self._ledger.find(call.intent.scope, call.intent.key)",
                "record = await self._ledger.find(call.intent.scope, call.intent.key)\n"
                "if record and record.status is DuplicationStatus.UNKNOWN:\n"
                "    record = None",
            ),
            Sql(
                SQL,
                "ON CONFLICT DO NOTHING",
                "ON CONFLICT (scope, key) DO UPDATE SET attempt_id = excluded.attempt_id,"
                " status = 'IN_PROGRESS' WHERE duplication.status = 'UNKNOWN'",
            ),
            Sql(
                SQL,
                "= coalesce(:override_of, '')",
                "IN (coalesce(:override_of, ''), (SELECT id FROM duplication WHERE key = :key))",
            ),
        ],
        f"{DUPLICATION}::test_unknown_attempt_is_replayed_and_not_sent_again",
    ),
    Bug(
        "503 taken as certain",
        [Code("connectors/errors.py", "REFUSALS", "429", "503")],
        "connectors/braze/test_contract.py::TestContract::TestResponses"
        "::test_recorded_response_gives_the_outcome_in_its_name[unknown.service-unavailable]",
    ),
    Bug(
        "respond before COMMIT",
        [
            Code(
                "ledger/writer.py",
                "Writer._commit",
                'execute("COMMIT")',
                "_deliver(batch)\nexecute('COMMIT')",
            )
        ],
        "ledger/test_sqlite.py::test_write_is_confirmed_only_after_its_commit",
    ),
    Bug(
        "unguarded settle",
        [Sql(SQL, "({row}.status IN ('IN_PROGRESS', 'UNKNOWN')", "(1 = 1")],
        f"{LEDGER}::test_settled_record_keeps_its_status[sqlite]",
    ),
    Bug(
        "key not scoped",
        [Sql(SQL, "scope = :scope AND key = :key", "key = :key")],
        f"{LEDGER}::test_records_are_visible_in_their_scope_only[sqlite]",
    ),
    Bug(
        "fingerprint ignored",
        [
            Code(
                SERVICE,
                "_require_same_intent",
                "record.intent.fingerprint != fingerprint",
                "False",
            )
        ],
        f"{DUPLICATION}::test_key_that_another_gateway_begins_with_another_input_is_reused",
    ),
    Bug(
        "send in the request's task",
        [
            Code(
                SERVICE,
                "Duplicator._join_or_start",
                "await self._wait_for(running.task)",
                "await asyncio.wait_for(running.task, self._deadline)",
            )
        ],
        f"{DUPLICATION}::test_caller_gets_in_progress_at_the_deadline_and_the_call_continues",
    ),
    Bug(
        "attempt_id ignored",
        [
            Code(
                "ledger/ledger.py",
                "Ledger.begin",
                "holder.intent.attempt_id == intent.attempt_id",
                "True",
            )
        ],
        f"{LEDGER}::test_second_attempt_with_a_key_conflicts[sqlite]",
    ),
    Bug(
        "retry after bytes left",
        [
            Code(
                "accounts/transport/client.py",
                "Transport._send_once",
                "return await self._exchange(origin, connection, message, exchange,"
                " COPY_RESPONSE_LIMIT)",
                "try:\n"
                "    return await self._exchange(origin, connection, message, exchange, 1000)\n"
                "except ResponseLost:\n"
                "    connection = await self._connect(origin)\n"
                "    return await self._exchange(origin, connection, message, exchange, 1000)",
            ),
        ],
        f"{KEPT}::test_copy_is_not_sent_again_if_its_kept_connection_ends[asyncio]",
    ),
    Bug(
        "a kept connection that has ended meanwhile",
        [
            Code(
                "accounts/transport/client.py",
                "Transport._send_once",
                "not self._kept.may_carry_copy(origin, connection)",
                "False",
            ),
        ],
        f"{KEPT}::test_connection_that_ends_while_the_record_is_written_is_replaced[asyncio]",
    ),
    Bug(
        "a response without a request",
        [
            Code(
                "accounts/transport/http1.py",
                "Connection.is_quiet",
                "not arrivals.poll(0)",
                "True",
            ),
            Code(
                "accounts/transport/http1.py",
                "Connection.data_received",
                "self.is_new and len(self._early) < HEAD_LIMIT",
                "True",
            ),
        ],
        f"{KEPT}::test_response_without_a_request_is_not_taken_for_the_next_one[asyncio]",
    ),
    Bug(
        "no second look before a refusal",
        [
            Code(
                SERVICE,
                "Duplicator._attempt",
                "await self._try_find(intent.scope, intent.key)",
                "None",
            )
        ],
        f"{DUPLICATION}::test_refusal_is_replaced_by_the_record_another_gateway_made_meanwhile",
    ),
    Bug(
        "a new key after a refusal without a record",
        [Code("model.py", "UserError.retry", "Retry.SAME_KEY", "Retry.NEW_KEY")],
        f"{DUPLICATION}::test_intent_that_cannot_be_recorded_is_not_sent",
    ),
    Bug(
        "two owners of one campaign",
        [
            Sql(SQL, "owner.id <> :id", "owner.id <> :id AND 1 = 0"),
            *(
                Text(f"ledger/migrations/{file}", "CREATE UNIQUE INDEX", "CREATE INDEX")
                for file in ("sqlite/0004_owners.sql", "postgres/0003_owners.sql")
            ),
        ],
        f"{LEDGER}::test_response_takes_its_campaign_from_a_searched_duplication[sqlite]",
    ),
    Bug(
        "order by ids",
        [Sql(SQL, "ORDER BY requested_at DESC, id DESC", "ORDER BY id DESC")],
        f"{LEDGER}::test_order_is_by_the_ledger_s_clock_instead_of_ids[sqlite]",
    ),
    Bug(
        "the machine's clock",
        [
            Code(
                COPY_SEARCH,
                "search_copies",
                "now()",
                "__import__('datetime').datetime.now(__import__('datetime').UTC)",
            )
        ],
        f"{RECONCILIATION}::test_times_are_the_ledger_s_and_not_this_machine_s",
    ),
    Bug(
        "a provider's clock that is read after its response",
        [
            Code(
                COPY_SEARCH,
                "search_copies",
                "_clock_offset(response, asked_at)",
                "_clock_offset(response, now())",
            )
        ],
        f"{RECONCILIATION}::test_slow_list_makes_no_older_campaign_look_newer",
    ),
    Bug(
        "one host under two spellings",
        [
            Code(
                "connectors/addresses.py",
                "canonical_address",
                'host = (parts.hostname or "").rstrip(".")',
                "return parts.netloc",
            )
        ],
        f"{RECONCILIATION}::test_one_host_has_one_spelling",
    ),
    Bug(
        "checks without shares",
        [
            Code(
                "duplication/reconciliation.py",
                "reconcile",
                "limiter.free_checks(timing.check_timeout, CALLS_A_CHECK)",
                "max(0, 8 - len(checks))",
            )
        ],
        f"{RECONCILIATION}::test_providers_that_hang_do_not_delay_checks_of_other_accounts[1]",
    ),
    Bug(
        "reads without limits",
        [
            Code(
                "accounts/transport/client.py",
                "Transport.send_idempotent",
                "await permit.wait_for_turn()",
                "",
            ),
            Code("accounts/transport/client.py", "_Exchange.send", "self.permit.mark_sent()", ""),
        ],
        "spine/test_call_limits.py::test_every_call_of_an_account_counts",
    ),
]


def run_tests(source: Path, tests: Sequence[str]) -> tuple[int, str]:
    """Run the tests with the package in the folder. Return the exit code and the output."""
    output = source / "output"
    options = ["-x", "-q", "-p", "no:cacheprovider", f"--rootdir={TESTS.parent}"]
    paths = [str(TESTS / test) for test in tests]
    code = run_pytest([*options, *paths], source=source, output=output, timeout=900)
    return code, output.read_text("utf-8")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder with a copy of the package that may be broken."""
    package = Path(campaign_gateway.__file__).parent
    # With the compiled modules. Only those whose source is edited are compiled again.
    shutil.copytree(package, tmp_path / "campaign_gateway", ignore=shutil.ignore_patterns("page"))
    return tmp_path


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_seeded_bug_makes_a_test_fail(bug: Bug, source: Path, figures: Figures) -> None:
    for edit in bug.edits:
        seed(source / "campaign_gateway", edit)
    code, output = run_tests(source, [bug.noticed_by])
    # Pytest exits with 1 if tests failed. Other codes mean that it did not run them.
    assert code == 1, output
    assert " failed" in output
    figures.count("seeded protocol bugs caught")


def test_same_tests_pass_without_a_bug(source: Path) -> None:
    code, output = run_tests(source, sorted({bug.noticed_by for bug in BUGS}))
    assert code == 0, output


SOURCE = """
LIMIT = {429: "late"}
QUERY = f"SELECT *   FROM t WHERE {FREE} AND a = '{{}}'"

class Engine:
    def run(self):
        if (self.is_ready and
                not self.is_full):
            self.write('a')
        return self.is_ready
"""


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (Code("f.py", "LIMIT", "429", "503"), "LIMIT = {503: 'late'}"),
        (Code("f.py", "Engine.run", "self.is_ready and not self.is_full", "True"), "if True:"),
        (Code("f.py", "Engine.run", 'self.write("a")', ""), "            pass"),
        (Code("f.py", "Engine.run", "return self.is_ready", "return 1"), "        return 1"),
        (Sql("f.py", "* FROM t", "a FROM t"), "SELECT a FROM t WHERE {FREE} AND"),
        (Sql("f.py", "WHERE {FREE} AND a = '{{}}'", "{ANY}"), "FROM t {ANY}"),
        (Text("f.txt", "if (self.is_ready and not", "while ("), "while ( self.is_full)"),
    ],
)
def test_edit_finds_its_code_in_any_layout(edit: Edit, expected: str) -> None:
    assert expected in edit.apply(SOURCE)


@pytest.mark.parametrize(
    "edit",
    [
        Code("f.py", "Engine.walk", "self.is_ready", "True"),
        Code("f.py", "Engine.run", "self.is_empty", "True"),
        Code("f.py", "Engine.run", "self.is_ready", "True"),
        Sql("f.py", "WHERE b", ""),
        Text("f.txt", "self", ""),
    ],
    ids=["no such place", "no such code", "the code is there twice", "no such SQL", "text twice"],
)
def test_edit_without_one_place_fails(edit: Edit) -> None:
    with pytest.raises(Misplaced, match=r"expected"):
        edit.apply(SOURCE)
