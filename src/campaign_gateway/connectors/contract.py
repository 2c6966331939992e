"""What a connector promises, in which values, and what every account may be configured with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol, TypeVar, runtime_checkable

from campaign_gateway.connectors.account_settings import AccountSettings
from campaign_gateway.model import Accepted, Campaign, Created, Outcome, Rejected, Unknown

CampaignInput = TypeVar("CampaignInput", contravariant=True)  # noqa: PLC0105 - reads better plain


class CopyInput(Protocol):
    """What the gateway itself reads of a provider's input, which is a dataclass."""

    @property
    def account(self) -> str | None: ...

    @property
    def campaign_id(self) -> str | int: ...

    @property
    def name(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class ProviderRequest:
    """One HTTP request. Its repr is without what may carry a secret, the URL's query too."""

    method: str
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class ProviderResponse:
    """One answer, secrets already redacted.

    Header names are lower case. `complete` is False when the body was cut off, too big or
    encoded: what is there must then not be trusted.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    complete: bool = True

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300


@dataclass(frozen=True, slots=True)
class SearchPage:
    """Candidates for a copy, and where to read on."""

    campaigns: Sequence[Campaign]
    next_cursor: str | None = None


class UnexpectedResponse(Exception):
    """A read at the provider gave nothing that can be relied on."""


class Connector(Protocol[CampaignInput]):
    """Our code for one provider: pure translation, no I/O.

    `build_request` raises `Refused` for an input that cannot be expressed at the provider.
    `parse_response` never raises, whatever the provider may have sent.
    `example` is the input of GraphiQL's example, as GraphQL fields, one a line.
    """

    provider: ClassVar[str]
    title: ClassVar[str]
    Account: ClassVar[type["AccountSettings"]]
    Input: ClassVar[type[Any]]
    example: ClassVar[str]

    def __init__(self, account: Any, /) -> None: ...

    def build_request(self, campaign: CampaignInput, /) -> ProviderRequest: ...

    def parse_response(self, campaign: CampaignInput, response: ProviderResponse, /) -> Outcome: ...


@runtime_checkable
class ListsCampaigns(Protocol[CampaignInput]):
    """A connector whose provider lists campaigns, newest or nearest to the copy first.

    `reports_creation_time` says whether the list, or a lookup, has the time a campaign was made at; if
    not, the list is read before each send too, because only that tells a copy from what was there.
    `reports_source` says whether it has what a campaign was copied from; if not, only a copy that was
    given a name is found.
    `list_has_all_fields` says whether the list tells of each campaign all that a lookup does.
    `cursor` is None for the first page. `parse_search` raises `UnexpectedResponse`.
    """

    reports_creation_time: ClassVar[bool]
    reports_source: ClassVar[bool]
    list_has_all_fields: ClassVar[bool]

    def build_search(self, campaign: CampaignInput, cursor: str | None, /) -> ProviderRequest: ...

    def parse_search(self, response: ProviderResponse, cursor: str | None, /) -> SearchPage: ...


@runtime_checkable
class ReadsCampaigns(Protocol[CampaignInput]):
    """A connector whose provider reads one campaign by its id.

    `near` is the input of a duplication that the campaign was the source or the copy of, if the
    ledger has one: some providers want more than an id. `build_lookup` raises `Refused`.
    `parse_lookup` answers None for a campaign that does not exist and raises `UnexpectedResponse`
    when the answer tells neither.
    """

    def build_lookup(
        self, campaign_id: str, related_input: CampaignInput | None, /
    ) -> ProviderRequest: ...

    def parse_lookup(self, response: ProviderResponse, campaign_id: str, /) -> Campaign | None: ...


@runtime_checkable
class RenamesCopies(Protocol[CampaignInput]):
    """A connector whose provider names the copy itself, so that its name takes a call of its own.

    The call comes when the copy is on record, and may be sent twice without harm. `described` is
    the answer to a lookup of the copy, for a call that has to repeat what else the copy is like;
    None where there was none. `build_rename` raises `Refused`. `parse_rename` answers None when the
    copy has its name, and never raises.
    """

    def build_rename(
        self, campaign: CampaignInput, copy_id: str, lookup_response: ProviderResponse | None, /
    ) -> ProviderRequest: ...

    def parse_rename(self, response: ProviderResponse, /) -> Rejected | Unknown | None: ...


@runtime_checkable
class ReportsProgress(Protocol[CampaignInput]):
    """A connector whose provider tells the copy's id before it is done, and then how far it is.

    `parse_progress` answers `Accepted` for a copy that is still being made, and `Rejected` only for
    one that the provider says it has failed to make. It raises `UnexpectedResponse` when the answer
    tells nothing, as when the provider refuses to tell.
    """

    def build_progress(self, campaign: CampaignInput, copy_id: str, /) -> ProviderRequest: ...

    def parse_progress(
        self, campaign: CampaignInput, copy_id: str, response: ProviderResponse, /
    ) -> Created | Accepted | Rejected: ...


@runtime_checkable
class HasIdNamespaces(Protocol[CampaignInput]):
    """A connector whose provider numbers each kind of campaign separately.

    `id_namespace` is the name of the numbering that the copy's id will belong to. Ledgers contain
    it, so it must not change.
    """

    def id_namespace(self, copy_input: CampaignInput, /) -> str: ...


def copy_search_key(connector: object) -> Literal["source", "name"] | None:
    """By what a copy is found whose answer was lost, if it is.

    Where the provider names a copy itself, it does not have the requested name then.
    """
    if not isinstance(connector, ListsCampaigns):
        return None
    if connector.reports_source:
        return "source"
    return None if isinstance(connector, RenamesCopies) else "name"


@dataclass(frozen=True, slots=True)
class Token:
    """What a provider gives for an account's secrets, and for how many seconds it is good."""

    value: str = field(repr=False)
    lifetime: float


@runtime_checkable
class UsesAccessTokens(Protocol):
    """A connector whose provider wants a token in each request, and gives it for the secrets.

    `parse_token` raises `UnexpectedResponse` when the answer tells nothing. `rejects_token` says
    that the provider did nothing, for no other reason than that the token is no longer good.
    """

    def build_token_request(self) -> ProviderRequest: ...

    def parse_token(self, response: ProviderResponse, /) -> Token | Rejected: ...

    def authorize(self, request: ProviderRequest, token: str, /) -> ProviderRequest: ...

    def rejects_token(self, response: ProviderResponse, /) -> bool: ...
