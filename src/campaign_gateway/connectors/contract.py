"""What a connector does, and the values that it and the gateway exchange.

A connector lists its capabilities in its class line. `Connector` is required, the others are
optional:

    @final
    class AcmeConnector(contract.Connector[AcmeInput], contract.ListsCampaigns[AcmeInput]): ...

The protocols hold no behaviour, only defaults of flags. mypy rejects a `@final` class that lacks a
method of a protocol in its class line. Connectors give the type `object` to a parameter that they
ignore.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar, Literal, Protocol, TypeVar, runtime_checkable

from campaign_gateway.connectors.account_settings import AccountSettings
from campaign_gateway.connectors.capability import Capability
from campaign_gateway.model import (
    Accepted,
    Campaign,
    Created,
    Failure,
    Outcome,
    Rejected,
    UserError,
)

# The version of this file. It increases with each change after which a connector of another package
# may not work, and that package's connector must then name the new version.
CONNECTOR_API = 1


class CopyInput(Protocol):
    """What the input of every provider has. `campaign_id` is the source's id.

    If no document of the provider says how a copy gets a requested name, callers cannot set `name`:
    it is a property of the class that returns None.
    """

    @property
    def account(self) -> str | None: ...

    @property
    def campaign_id(self) -> str | int: ...

    @property
    def name(self) -> str | None: ...


AnyInput = TypeVar("AnyInput", bound=CopyInput, contravariant=True)  # noqa: PLC0105 - reads better plain


@dataclass(frozen=True, slots=True)
class ProviderRequest:
    """One HTTP request. Its repr omits every part that can hold a secret, the URL's query too."""

    method: str
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class ProviderResponse:
    """One HTTP response in which secrets are already redacted.

    Header names are lower case. `complete` is False if the body was cut off, too large or encoded.
    A connector must not trust such a body.
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
    """Candidates for a copy, and the cursor of the next page; None on the last page."""

    campaigns: Sequence[Campaign]
    next_cursor: str | None = None


@dataclass(frozen=True, slots=True)
class LostCopy:
    """What a search knows of the copy: a part of its name, and a time when it did not exist yet.

    `name_part` is the requested name, or the source's name if the provider names copies after it.
    `since` is in UTC, early enough for clocks that differ.
    """

    name_part: str | None
    since: datetime


class UnexpectedResponse(Exception):
    """The response to a read is not what the provider documents, so nothing follows from it."""


class Connector(Protocol[AnyInput]):
    """The code for one provider: pure translation without I/O.

    `build_request` raises `Refused` if the provider cannot express the input.
    `parse_response` never raises, even for a response that no document describes.
    `example` is the input of GraphiQL's example: GraphQL fields, one per line.
    `is_well_known`: GraphiQL shows the example before those of other providers.
    The connector of another package has the attribute `connector_api` too: the `CONNECTOR_API` that
    it was written for, as a number.
    """

    provider: ClassVar[str]
    title: ClassVar[str]
    Account: ClassVar[type[AccountSettings]]
    Input: ClassVar[type[Any]]
    example: ClassVar[str]
    is_well_known: ClassVar[bool] = False

    def __init__(self, account: Any, /) -> None: ...

    def build_request(self, copy_input: AnyInput, /) -> ProviderRequest: ...

    def parse_response(self, copy_input: AnyInput, response: ProviderResponse, /) -> Outcome: ...


@runtime_checkable
class ListsCampaigns(Protocol[AnyInput], metaclass=Capability):
    """The provider lists campaigns. The newest, or the most similar to the copy, come first.

    `reports_creation_time`: the list or the lookup contains the creation time. If False, the
    gateway lists the campaigns before each call, to know which ones existed already.
    `reports_source`: the list contains the id of the campaign that a copy was made from. If False,
    the gateway finds only copies that have a name.
    `list_has_all_fields`: the list contains every field that the lookup contains.
    `is_newest_first`: the provider documents that the list has the creation times and is sorted by
    them. The gateway then reads a long list until it comes to campaigns from before the call.

    `cursor` is None for the first page. `parse_search` raises `UnexpectedResponse`.
    """

    reports_creation_time: ClassVar[bool] = True
    reports_source: ClassVar[bool] = False
    list_has_all_fields: ClassVar[bool] = True
    is_newest_first: ClassVar[bool] = False

    def build_search(self, copy_input: AnyInput, cursor: str | None, /) -> ProviderRequest: ...

    def parse_search(self, response: ProviderResponse, cursor: str | None, /) -> SearchPage: ...


@runtime_checkable
class NarrowsSearches(Protocol[AnyInput], metaclass=Capability):
    """The provider's list can be filtered by time or by name, so a copy in a long list is found.

    `build_copy_search` is `build_search` with those filters. A filter must never hide the copy.
    """

    def build_copy_search(
        self, copy_input: AnyInput, cursor: str | None, lost: LostCopy, /
    ) -> ProviderRequest: ...


@runtime_checkable
class NamesCopies(Protocol, metaclass=Capability):
    """The provider names a copy after its source, if the copying call has no name for it.

    `is_name_of_copy` returns whether the provider itself gives this name to a copy of a campaign
    with the source's name.
    """

    def is_name_of_copy(self, name: str, source_name: str, /) -> bool: ...


@runtime_checkable
class ReadsCampaigns(Protocol[AnyInput], metaclass=Capability):
    """The provider returns one campaign for its id.

    `related_input` is the input of a duplication whose source or copy the campaign is, if the
    ledger has one. Some providers need more than the id. `build_lookup` raises `Refused`.
    `parse_lookup` returns None for a campaign that does not exist. It raises `UnexpectedResponse`
    if the response shows neither the campaign nor that it does not exist.
    """

    def build_lookup(
        self, campaign_id: str, related_input: AnyInput | None, /
    ) -> ProviderRequest: ...

    def parse_lookup(self, response: ProviderResponse, campaign_id: str, /) -> Campaign | None: ...


@runtime_checkable
class RenamesCopies(Protocol[AnyInput], metaclass=Capability):
    """The provider chooses the copy's name, so the requested name needs a second call.

    The gateway renames after it has recorded the copy, and may send the rename twice.
    `lookup_response` is the response to the lookup, for providers that require unchanged fields
    too; None if there was no lookup. `build_rename` raises `Refused`. `parse_rename` returns None
    if the copy has its name, and never raises.

    `build_request` must reject a name that `build_rename` would reject, because after the copy
    exists it is too late. Both call `building.name_for_rename`.
    """

    def build_rename(
        self, copy_input: AnyInput, copy_id: str, lookup_response: ProviderResponse | None, /
    ) -> ProviderRequest: ...

    def parse_rename(self, response: ProviderResponse, /) -> Failure | None: ...


@runtime_checkable
class ChangesCopies(Protocol[AnyInput], metaclass=Capability):
    """Some options of the input are set by one more call, when the copy exists.

    `late_fields` returns the GraphQL names of those options that the input has. If there is one,
    the gateway sends `build_change` after it has recorded the copy, and may send it twice. The call
    sets the copy's name too, if the connector `RenamesCopies`; there is no rename then. The rest is
    as with `RenamesCopies`: `build_request` must reject what `build_change` would reject.
    """

    def late_fields(self, copy_input: AnyInput, /) -> Sequence[str]: ...

    def build_change(
        self, copy_input: AnyInput, copy_id: str, lookup_response: ProviderResponse | None, /
    ) -> ProviderRequest: ...

    def parse_change(self, response: ProviderResponse, /) -> Failure | None: ...


@runtime_checkable
class ReportsProgress(Protocol[AnyInput], metaclass=Capability):
    """The provider returns the copy's id before the copy is complete, and then its progress.

    `parse_progress` returns `Accepted` while the provider still makes the copy, and `Rejected` only
    if the provider reports that it failed. It raises `UnexpectedResponse` if the response shows no
    progress, for example because the provider rejects the read.
    """

    def build_progress(self, copy_input: AnyInput, copy_id: str, /) -> ProviderRequest: ...

    def parse_progress(
        self, copy_input: AnyInput, copy_id: str, response: ProviderResponse, /
    ) -> Created | Accepted | Rejected: ...


@runtime_checkable
class HasIdNamespaces(Protocol[AnyInput], metaclass=Capability):
    """A connector whose provider numbers each kind of campaign separately.

    `id_namespace` is the name of the numbering that the copy's id will belong to. Ledgers contain
    it, so it must not change.
    """

    def id_namespace(self, copy_input: AnyInput, /) -> str: ...


@runtime_checkable
class ActivatesCopies(Protocol[AnyInput], metaclass=Capability):
    """Some inputs make a copy that is active, or may be, as soon as it exists.

    `activates` returns True for each input with which that is possible, a default included.
    """

    def activates(self, copy_input: AnyInput, /) -> bool: ...


@runtime_checkable
class ListsAssetTypes(Protocol, metaclass=Capability):
    """The provider lists the types of assets that it can copy together with a campaign.

    `parse_asset_types` raises `UnexpectedResponse`.
    """

    def build_asset_types(self) -> ProviderRequest: ...

    def parse_asset_types(self, response: ProviderResponse, /) -> Sequence[str]: ...


# A check of an account takes this many reads at most.
CHECK_READS = 3


class Grant(StrEnum):
    """Whether a permission is granted. `NEEDS_COPY`: no read shows it."""

    GRANTED = "GRANTED"
    MISSING = "MISSING"
    NOT_CHECKED = "NOT_CHECKED"
    NEEDS_COPY = "NEEDS_COPY"


@dataclass(frozen=True, slots=True)
class Permission:
    """What the secret of an account must allow, in the words of the provider.

    `only_for` names the inputs that need the permission, if not every input needs it.
    """

    name: str
    grant: Grant = Grant.NEEDS_COPY
    only_for: str | None = None


@dataclass(frozen=True, slots=True)
class Access:
    """What the reads of a check show.

    `error` is the first failure that is not a missing permission. `is_accepted`: the provider has
    accepted the secret in one of the reads.
    """

    permissions: tuple[Permission, ...]
    error: UserError | None
    is_accepted: bool


@runtime_checkable
class ShowsAccess(Protocol, metaclass=Capability):
    """Reads show whether the provider accepts the secret, and what the secret allows.

    `build_check` returns the next read, given the responses to the reads before it, and None after
    the last one. There are `CHECK_READS` at most. The provider documents each of them, and none
    changes anything. `parse_check` never raises. It gets the responses so far, but at least one.
    `api_version` is the version of the API that the account uses; None if the API has no versions.
    """

    @property
    def api_version(self) -> str | None: ...

    def build_check(self, responses: Sequence[ProviderResponse], /) -> ProviderRequest | None: ...

    def parse_check(self, responses: Sequence[ProviderResponse], /) -> Access: ...


def copy_search_key(connector: object) -> Literal["source", "name"] | None:
    """Return how a lost copy can be found: by source id, by name, or not at all.

    If the provider chooses the copy's name, a lost copy does not have the requested name yet.
    """
    if not isinstance(connector, ListsCampaigns):
        return None
    if connector.reports_source:
        return "source"
    is_named_later = isinstance(connector, RenamesCopies) and not isinstance(connector, NamesCopies)
    return None if is_named_later else "name"


def is_named_by_provider(connector: object, requested_name: str | None) -> bool:
    """Return whether a lost copy has the name that the provider chooses, in a known form."""
    return isinstance(connector, NamesCopies) and (
        requested_name is None or isinstance(connector, RenamesCopies)
    )


@dataclass(frozen=True, slots=True)
class Token:
    """An access token and its lifetime in seconds."""

    value: str = field(repr=False)
    lifetime: float


@runtime_checkable
class UsesAccessTokens(Protocol, metaclass=Capability):
    """The provider requires an access token in each request, and issues it for the secrets.

    `parse_token` raises `UnexpectedResponse` if the response holds neither a token nor an error.
    `rejects_token` returns True only if the provider did nothing, and only because the token is no
    longer valid: the gateway then sends the same request again with a new token.
    """

    def build_token_request(self) -> ProviderRequest: ...

    def parse_token(self, response: ProviderResponse, /) -> Token | Rejected: ...

    def authorize(self, request: ProviderRequest, token: str, /) -> ProviderRequest: ...

    def rejects_token(self, response: ProviderResponse, /) -> bool: ...
