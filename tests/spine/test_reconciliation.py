"""The search for a copy: which results it may and may not conclude."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any, ClassVar

import pytest

from campaign_gateway.accounts.account import Account
from campaign_gateway.accounts.transport.errors import NoResponse
from campaign_gateway.accounts.transport.permits import CHECKS_AT_ONCE
from campaign_gateway.accounts.transport.rate_limit import Permit, RateLimiter
from campaign_gateway.connectors.account_settings import CALLS_AT_ONCE
from campaign_gateway.connectors.addresses import canonical_address
from campaign_gateway.connectors.contract import ProviderRequest, ProviderResponse, SearchPage
from campaign_gateway.duplication import reconciliation
from campaign_gateway.duplication.copy_search import PAGES_A_SEARCH, PAGES_UNTIL_THE_CALL
from campaign_gateway.duplication.reconciliation import reconcile
from campaign_gateway.ledger.ids import new_id
from campaign_gateway.model import (
    Accepted,
    Campaign,
    Created,
    Duplication,
    DuplicationStatus,
    ErrorCode,
    Evidence,
    Intent,
    Timing,
    Unknown,
    UserError,
)
from campaign_gateway.observe.events import ProviderCall
from campaign_gateway.sandbox.contract_suite.calling import free_permit
from support.stub_provider import StubInput

NOW = datetime.now(UTC)
UNKNOWN = Unknown(UserError(ErrorCode.OUTCOME_UNKNOWN, "no response"))
OFTEN = Timing(reconcile_interval=0.01)


@dataclass
class Listing:
    """A connector and a transport whose provider lists these campaigns, two on a page."""

    campaigns: Sequence[Campaign]
    title: str = "Listing"
    provider: str = "sonarly"
    reports_creation_time: bool = True
    reports_source: bool = False
    list_has_all_fields: bool = False
    is_newest_first: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)
    asked: int = 0
    error: Exception | None = None
    takes: float = 0

    Input: ClassVar[type[StubInput]] = StubInput

    def build_search(self, campaign: Any, cursor: str | None) -> ProviderRequest:
        return ProviderRequest("GET", "http://localhost/list", {})

    def parse_search(self, response: ProviderResponse, cursor: str | None) -> SearchPage:
        start = int(cursor or 0)
        more = start + 2 < len(self.campaigns)
        page = self.campaigns[start : start + 2]
        return SearchPage(page, str(start + 2) if more else None)

    async def send_idempotent(
        self, request: ProviderRequest, permit: Permit, call: ProviderCall
    ) -> ProviderResponse:
        self.asked += 1
        # Like a server, it writes the header when the request arrives.
        headers = {"date": format_datetime(datetime.now(UTC))} | dict(self.headers)
        await asyncio.sleep(self.takes)
        if self.error:
            raise self.error
        return ProviderResponse(200, headers, b"")


async def find_copy(account: Account, ledger: Any, duplication: Duplication) -> Campaign | None:
    result = await reconciliation.search(account, free_permit(), ledger, duplication)
    return result.copy


def copy(campaign_id: str, age: timedelta = timedelta(0), name: str = "Copy") -> Campaign:
    return Campaign(campaign_id, name=name, created_at=NOW + age)


def undated(campaign_id: str) -> Campaign:
    return replace(copy(campaign_id), created_at=None)


def listing_account(account: Account, listing: Listing) -> Account:
    stub: Any = listing
    limiter = RateLimiter(CALLS_AT_ONCE, None)
    return replace(account, connector=stub, transport=stub, rate_limiter=limiter)


INTENT = Intent(
    id="",
    attempt_id="",
    scope="everyone",
    key="",
    fingerprint="f",
    provider="sonarly",
    account="sonarly",
    source_campaign_id="source",
    requested_name="Copy",
    input="{}",
)


async def unsettled(
    ledger: Any,
    outcome: Any = UNKNOWN,
    requested_at: datetime = NOW,
    preexisting_ids: tuple[str, ...] | None = None,
    **changes: Any,
) -> Duplication:
    # In another scope, no UNKNOWN duplication blocks this copy.
    intent = replace(INTENT, id=new_id(), attempt_id=new_id(), scope=new_id(), key=new_id())
    intent = replace(intent, **changes)
    await ledger.begin(intent, requested_at, preexisting_ids)
    record: Duplication = await ledger.settle(intent, outcome, requested_at, requested_at)
    return record


async def test_candidates_are_kept_for_an_operator_when_several_match(
    account: Account, ledger: Any, caplog: pytest.LogCaptureFixture
) -> None:
    lost = await unsettled(ledger)
    listing = Listing([copy("c1"), copy("c2")])
    await reconciliation.check_one({"sonarly": listing_account(account, listing)}, ledger, lost)
    record = await ledger.get(None, lost.intent.id)
    assert record.status is DuplicationStatus.UNKNOWN
    assert [candidate.id for candidate in record.candidates] == ["c1", "c2"]
    assert "may be one of the campaigns c1, c2" in caplog.text
    listing.error = NoResponse("no response in time")
    await reconciliation.check_one({"sonarly": listing_account(account, listing)}, ledger, record)
    assert (await ledger.get(None, lost.intent.id)).candidates == record.candidates


async def test_account_that_has_another_provider_now_is_not_searched(
    account: Account, ledger: Any, caplog: pytest.LogCaptureFixture
) -> None:
    lost = await unsettled(ledger)
    listing = Listing([copy("c1")], provider="other")
    await reconciliation.check_one({"sonarly": listing_account(account, listing)}, ledger, lost)
    assert listing.asked == 0
    assert (await ledger.get(None, lost.intent.id)).status is DuplicationStatus.UNKNOWN
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("preexisting_ids", "campaigns", "expected"),
    [
        ((), [undated("5")], "5"),
        (("4",), [undated("4"), undated("5")], "5"),
        (("5",), [undated("5")], None),
        ((), [undated("5"), undated("6")], None),
        (None, [undated("5")], None),
    ],
)
async def test_copy_without_creation_times_is_the_one_that_did_not_exist_before(
    account: Account,
    ledger: Any,
    preexisting_ids: tuple[str, ...] | None,
    campaigns: Sequence[Campaign],
    expected: str | None,
) -> None:
    lost = await unsettled(ledger, preexisting_ids=preexisting_ids)
    listing = Listing(campaigns, reports_creation_time=False)
    campaign = await find_copy(listing_account(account, listing), ledger, lost)
    assert (campaign.id if campaign else None) == expected


@dataclass
class Naming(Listing):
    """Its provider names a copy after its source, whose name is "Source"."""

    reports_creation_time: bool = False
    source_name: str = "Source"

    def is_name_of_copy(self, name: str, source_name: str) -> bool:
        return name in (f"Copy of {source_name}", f"{source_name} (copy)")

    def build_lookup(self, campaign_id: str, related_input: object) -> ProviderRequest:
        return ProviderRequest("GET", "http://localhost/source", {})

    def parse_lookup(self, response: ProviderResponse, campaign_id: str) -> Campaign:
        return Campaign(campaign_id, name=self.source_name)


@pytest.mark.parametrize(("minutes", "expected"), [(9, "5"), (11, None)])
async def test_copy_with_the_name_of_its_provider_must_be_seen_soon_without_creation_times(
    account: Account, ledger: Any, minutes: int, expected: str | None
) -> None:
    """Later, it may be a copy of the same source that a person has made."""
    requested_at = datetime.now(UTC) - timedelta(minutes=minutes)
    lost = await unsettled(
        ledger, requested_at=requested_at, preexisting_ids=("4",), requested_name=None
    )
    listing = Naming([replace(undated(number), name="Copy of Source") for number in "45"])
    campaign = await find_copy(listing_account(account, listing), ledger, lost)
    assert (campaign.id if campaign else None) == expected


@pytest.mark.parametrize(
    "name",
    ["Copy of Source", "Copy of  Source", "Copy of  Source ", "Source (copy)", "Source  (copy)"],
)
async def test_blanks_around_the_name_of_a_source_do_not_hide_its_copy(
    account: Account, ledger: Any, name: str
) -> None:
    # Not NOW, which may be minutes ago: only a copy that is found soon is taken by such a name.
    lost = await unsettled(
        ledger, requested_at=datetime.now(UTC), preexisting_ids=(), requested_name=None
    )
    listing = Naming([replace(undated("5"), name=name)], source_name=" Source ")
    campaign = await find_copy(listing_account(account, listing), ledger, lost)
    assert campaign is not None
    assert campaign.id == "5"


async def test_identical_intents_get_copies_without_creation_times_by_id(
    account: Account, ledger: Any
) -> None:
    first = await unsettled(ledger, Accepted(), preexisting_ids=())
    second = await unsettled(ledger, Accepted(), preexisting_ids=())
    listing = Listing([undated("10"), undated("9")], reports_creation_time=False)
    both = listing_account(account, listing)
    copies = [await find_copy(both, ledger, duplication) for duplication in (first, second)]
    assert [campaign.id for campaign in copies if campaign] == ["9", "10"]


@pytest.mark.parametrize(
    ("campaigns", "expected"),
    [
        ([copy("c1")], "c1"),
        ([copy("c1", timedelta(seconds=-4))], "c1"),
        ([copy("c1", timedelta(hours=23))], "c1"),
        ([copy("c1"), copy("other", name="Copy of Copy")], "c1"),
        # A campaign that is made between two pages moves the copy to the next one.
        ([copy("x", name="y"), copy("c1"), copy("c1")], "c1"),
        ([copy("c1", name=" Copy ")], "c1"),
        ([copy("x", name="y")] * 2 * (PAGES_A_SEARCH - 1) + [copy("c1")], "c1"),
        ([], None),
        ([copy("source")], None),
        ([copy("c1", timedelta(seconds=-6))], None),
        ([copy("c1", timedelta(hours=25))], None),
        ([replace(copy("c1"), created_at=None)], None),
        ([copy("c1", name="copy")], None),
        ([copy("Source")], None),
        ([copy("c1"), copy("c2")], None),
        ([copy("x", name="y")] * 2 * PAGES_A_SEARCH + [copy("c1")], None),
    ],
)
async def test_only_the_one_possible_copy_is_found(
    account: Account, ledger: Any, campaigns: Sequence[Campaign], expected: str | None
) -> None:
    duplication = await unsettled(ledger)
    campaign = await find_copy(listing_account(account, Listing(campaigns)), ledger, duplication)
    assert (campaign.id if campaign else None) == expected


async def test_list_with_the_newest_first_is_read_until_the_time_of_the_call(
    account: Account, ledger: Any
) -> None:
    duplication = await unsettled(ledger)
    newer = [copy(str(number), timedelta(seconds=1), name="y") for number in range(12)]
    older = [copy(f"old {number}", timedelta(hours=-2), name="y") for number in range(12)]
    listing = Listing([*newer, copy("c1"), *older], is_newest_first=True)
    campaign = await find_copy(listing_account(account, listing), ledger, duplication)
    assert campaign is not None
    assert campaign.id == "c1"
    # Two on a page, and the seventh has the copy and the first that is too old.
    assert listing.asked == 7


async def test_list_with_the_newest_first_is_not_read_without_end(
    account: Account, ledger: Any
) -> None:
    duplication = await unsettled(ledger)
    newer = [copy(str(number), timedelta(seconds=1), name="y") for number in range(100)]
    listing = Listing([*newer, copy("c1")], is_newest_first=True)
    assert await find_copy(listing_account(account, listing), ledger, duplication) is None
    assert listing.asked == PAGES_UNTIL_THE_CALL


async def test_copy_without_a_requested_name_is_not_found_by_name(
    account: Account, ledger: Any
) -> None:
    duplication = await unsettled(ledger, requested_name=None)
    listing = Listing([replace(copy("c1"), name=None)])
    assert await find_copy(listing_account(account, listing), ledger, duplication) is None
    assert listing.asked == 0


async def test_copy_of_another_duplication_is_no_candidate(account: Account, ledger: Any) -> None:
    await unsettled(ledger, Created(copy("c1")))
    duplication = await unsettled(ledger)
    one = listing_account(account, Listing([copy("c1")]))
    assert await find_copy(one, ledger, duplication) is None
    two = listing_account(account, Listing([copy("c1"), copy("c2")]))
    campaign = await find_copy(two, ledger, duplication)
    assert campaign is not None
    assert campaign.id == "c2"


async def test_identical_intents_get_copies_only_when_the_counts_are_equal(
    account: Account, ledger: Any
) -> None:
    first, second = await unsettled(ledger, Accepted()), await unsettled(ledger, Accepted())
    later = copy("late", timedelta(seconds=5))
    one = listing_account(account, Listing([copy("early")]))
    assert await find_copy(one, ledger, first) is None
    assert await find_copy(one, ledger, second) is None
    both = listing_account(account, Listing([later, copy("early")]))
    copies = [await find_copy(both, ledger, duplication) for duplication in (first, second)]
    assert [campaign.id for campaign in copies if campaign] == ["early", "late"]


async def test_intents_with_one_name_and_different_sources_compete(
    account: Account, ledger: Any
) -> None:
    lost = await unsettled(ledger)
    await unsettled(ledger, Accepted(), source_campaign_id="other", fingerprint="g")
    for campaigns in ([copy("c1")], [copy("c1"), copy("c2", timedelta(seconds=1))]):
        listing = listing_account(account, Listing(campaigns))
        assert await find_copy(listing, ledger, lost) is None


async def test_accepted_duplication_gets_the_copy_before_an_identical_unknown_one(
    account: Account, ledger: Any
) -> None:
    lost = await unsettled(ledger)
    promised = await unsettled(ledger, Accepted())
    listing = listing_account(account, Listing([copy("c1", timedelta(seconds=2))]))
    assert await find_copy(listing, ledger, lost) is None
    campaign = await find_copy(listing, ledger, promised)
    assert campaign is not None
    await unsettled(ledger, Accepted())
    assert await find_copy(listing, ledger, promised) is None


async def test_accepted_duplication_competes_with_a_different_one_of_the_same_name(
    account: Account, ledger: Any
) -> None:
    """The copy of the UNKNOWN one may still be made, even before the promised copy."""
    await unsettled(ledger, source_campaign_id="other", fingerprint="g")
    promised = await unsettled(ledger, Accepted())
    listing = listing_account(account, Listing([copy("c1", timedelta(seconds=2))]))
    assert await find_copy(listing, ledger, promised) is None


async def test_names_that_differ_in_spaces_compete(account: Account, ledger: Any) -> None:
    lost = await unsettled(ledger)
    await unsettled(
        ledger, source_campaign_id="other", fingerprint="g", requested_name="Copy\u2003"
    )
    listing = listing_account(account, Listing([copy("c1")]))
    assert await find_copy(listing, ledger, lost) is None


async def test_accounts_that_share_campaigns_do_not_claim_each_other_s_copies(
    account: Account, ledger: Any
) -> None:
    lost = await unsettled(ledger, id_namespace="api.example.com")
    await unsettled(ledger, Created(copy("c1")), account="second", id_namespace="api.example.com")
    await unsettled(ledger, Created(copy("c2")), account="third", id_namespace="cdp.example.com")
    listing = Listing([copy("c1"), copy("c2")])
    campaign = await find_copy(listing_account(account, listing), ledger, lost)
    assert campaign is not None
    assert campaign.id == "c2"


@pytest.mark.parametrize(
    "url",
    [
        "https://api.example.com",
        "https://API.Example.Com:443",
        "https://api.example.com.",
        "http://api.example.com:80/",
    ],
)
def test_one_host_has_one_spelling(url: str) -> None:
    assert canonical_address(url) == "api.example.com"


def test_other_ports_and_addresses_are_different_places() -> None:
    urls = ["https://h:8443", "http://h:443", "https://h", "http://[::1]:8000", "http://h/One/"]
    hosts = ["h:8443", "h:443", "h", "[::1]:8000", "h/One"]
    assert [canonical_address(url) for url in urls] == hosts
    assert canonical_address("http://[0:0:0:0:0:0:0:1]:8000") == "[::1]:8000"


@pytest.mark.parametrize(
    ("clock_offset", "made", "is_ours"),
    [
        (timedelta(minutes=10), timedelta(minutes=10), True),
        (timedelta(minutes=10), timedelta(seconds=-4), False),
        (timedelta(minutes=-10), timedelta(minutes=-10), True),
        (timedelta(hours=2), timedelta(hours=2), True),
        (timedelta(hours=2), timedelta(hours=2, minutes=-1), False),
        (timedelta(days=-9), timedelta(days=-9), True),
        # One of the two clocks is wrong, and the gateway cannot know which.
        (timedelta(days=-9), timedelta(0), False),
        (None, timedelta(0), True),
    ],
)
async def test_copy_is_found_although_the_provider_s_clock_is_wrong(
    account: Account,
    ledger: Any,
    clock_offset: timedelta | None,
    made: timedelta,
    *,
    is_ours: bool,
) -> None:
    lost = await unsettled(ledger)
    date = (
        "yesterday" if clock_offset is None else format_datetime(datetime.now(UTC) + clock_offset)
    )
    listing = Listing([copy("c1", made)], headers={"date": date})
    assert (await find_copy(listing_account(account, listing), ledger, lost) is not None) is is_ours


@pytest.mark.parametrize("shift", [timedelta(minutes=-5), timedelta(minutes=5)])
async def test_times_are_the_ledger_s_and_not_this_machine_s(
    account: Account, ledger: Any, shift: timedelta, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ledger's clock differs from the machine's by `shift`. The provider's clock is right."""
    monkeypatch.setattr(ledger.ledger.engine, "now", lambda: datetime.now(UTC) + shift)
    now = ledger.now()
    intent = replace(INTENT, id=new_id(), attempt_id=new_id(), key="k")
    await ledger.begin(intent, now, None)
    lost = await ledger.settle(intent, UNKNOWN, now, now)
    older, ours = [
        Campaign(campaign_id, "Copy", created_at=datetime.now(UTC))
        for campaign_id in ("old", "new")
    ]
    older = replace(older, created_at=datetime.now(UTC) - timedelta(seconds=90))
    assert await find_copy(listing_account(account, Listing([older])), ledger, lost) is None
    listing = listing_account(account, Listing([older, ours]))
    assert await find_copy(listing, ledger, lost) == ours


async def test_slow_list_makes_no_older_campaign_look_newer(account: Account, ledger: Any) -> None:
    lost = await unsettled(ledger, requested_at=datetime.now(UTC))
    older = replace(copy("c1"), created_at=datetime.now(UTC) - timedelta(seconds=6.5))
    listing = listing_account(account, Listing([older], takes=3))
    assert await find_copy(listing, ledger, lost) is None


@pytest.mark.parametrize("providers", [1, 12])
async def test_providers_that_hang_do_not_delay_checks_of_other_accounts(
    account: Account, ledger: Any, providers: int
) -> None:
    hanging = {f"hanging-{number}": Listing([], takes=60) for number in range(providers)}
    for name in hanging:
        for number in range(CHECKS_AT_ONCE + 4):
            called = f"{name} {number}"
            await unsettled(ledger, account=name, requested_name=called, id_namespace=name)
    working = {"sonarly": Listing([copy("c1")])}
    accounts = {
        name: listing_account(account, listing) for name, listing in (hanging | working).items()
    }
    reading = asyncio.create_task(reconcile(accounts, ledger, OFTEN))
    async with asyncio.timeout(40):
        while any(listing.asked < CHECKS_AT_ONCE for listing in hanging.values()):
            await asyncio.sleep(0.01)
    waiting = await unsettled(ledger, requested_name="Copy")
    # Shorter than the checks that hang.
    async with asyncio.timeout(20):
        while (await ledger.get(None, waiting.intent.id)).status is not DuplicationStatus.CREATED:
            await asyncio.sleep(0.01)
    assert {listing.asked for listing in hanging.values()} == {CHECKS_AT_ONCE}
    reading.cancel()


async def test_call_in_progress_competes(account: Account, ledger: Any) -> None:
    lost = await unsettled(ledger)
    under_way = replace(
        lost.intent, id=new_id(), attempt_id=new_id(), key="again", override_of=lost.intent.id
    )
    await ledger.begin(under_way, NOW, None)
    listing = listing_account(account, Listing([copy("c1")]))
    assert await find_copy(listing, ledger, lost) is None
    await ledger.settle(under_way, Created(copy("c1")), NOW, None)
    assert await find_copy(listing, ledger, lost) is None


async def test_failed_checks_are_logged_and_repeated(
    account: Account, ledger: Any, caplog: pytest.LogCaptureFixture
) -> None:
    listing = Listing([], error=NoResponse("no response in time"))
    nobody = await unsettled(
        ledger, account="no longer configured", id_namespace="nowhere.example.com"
    )
    failing = await unsettled(ledger)
    reading = asyncio.create_task(
        reconcile({"sonarly": listing_account(account, listing)}, ledger, OFTEN)
    )
    async with asyncio.timeout(40):
        while listing.asked < 1:
            await asyncio.sleep(0.01)
    listing.error = RuntimeError("a bug in a connector")
    async with asyncio.timeout(40):
        while "a bug in a connector" not in caplog.text:
            await asyncio.sleep(0.01)
    ledger.failures = {"claim_due": 1}
    async with asyncio.timeout(40):
        while "the ledger cannot be used" not in caplog.text:
            await asyncio.sleep(0.01)
    listing.error, listing.campaigns = None, [copy("c1")]
    async with asyncio.timeout(40):
        while (await ledger.get(None, failing.intent.id)).status is not (DuplicationStatus.CREATED):
            await asyncio.sleep(0.05)
    reading.cancel()
    assert "could not be checked: no response in time" in caplog.text
    still = await ledger.get(None, nobody.intent.id)
    assert still.status is DuplicationStatus.UNKNOWN
    assert still.checks == 0, "it is left to gateways that have the account"
    settled = await ledger.get(None, failing.intent.id)
    assert settled.evidence is Evidence.INFERRED
    assert list(OFTEN.check_intervals) == sorted(OFTEN.check_intervals)
