"""The GraphQL object types, and how they are built from the model."""

from datetime import datetime
from typing import Self
from urllib.parse import urlsplit

import strawberry
from graphql import GraphQLError

from campaign_gateway import model
from campaign_gateway.accounts.account import Account as ConfiguredAccount
from campaign_gateway.api import queries
from campaign_gateway.api.context import Context
from campaign_gateway.api.enums import Capability, DuplicateCampaignStatus, Provider, provider_named
from campaign_gateway.connectors.contract import ReadsCampaigns, copy_search_key
from campaign_gateway.duplication.dry_run import Preview
from campaign_gateway.duplication.service import DuplicationResult
from campaign_gateway.model import (
    CampaignStatus,
    DuplicationStatus,
    ErrorCode,
    Evidence,
    Refused,
    Retry,
    WarningCode,
)
from campaign_gateway.model import Duplication as Recorded


@strawberry.type(description="One configured access to a provider.")
class Account:
    name: str = strawberry.field(
        description="The account's name in the configuration. Inputs and arguments use it."
    )
    provider: Provider = strawberry.field(description="The provider that the account belongs to.")
    capabilities: list[Capability] = strawberry.field(
        description="What the gateway can do with the account in addition to copying campaigns."
    )

    @classmethod
    def from_model(cls, account: ConfiguredAccount) -> Self:
        return cls(
            name=account.name,
            provider=provider_named(account.connector.provider),
            capabilities=_capabilities(account.connector),
        )


def _capabilities(connector: object) -> list[Capability]:
    capabilities = []
    if copy_search_key(connector):
        capabilities.append(Capability.FIND_COPY)
    if isinstance(connector, ReadsCampaigns):
        capabilities.append(Capability.READ_CAMPAIGN)
    return capabilities


@strawberry.federation.type(
    keys=["account id"],
    description="A campaign at a provider. A field is null if the provider did not report it.",
)
class Campaign:
    account: str = strawberry.field(
        description="The account through which the gateway read the campaign."
    )
    id: strawberry.ID = strawberry.field(description="The provider's id of the campaign.")
    provider: Provider = strawberry.field(description="The provider that has the campaign.")
    name: str | None = strawberry.field(description="The campaign's name.")
    description: str | None = strawberry.field(description="The campaign's description.")
    status: CampaignStatus = strawberry.field(
        description="The campaign's status, in terms that are the same for every provider."
    )
    provider_status: str | None = strawberry.field(
        description="The campaign's status, in the provider's own term."
    )
    tags: list[str] | None = strawberry.field(description="The campaign's tags or labels.")
    created_at: datetime | None = strawberry.field(description="When the campaign was created.")
    updated_at: datetime | None = strawberry.field(
        description="When the campaign was last changed."
    )
    url: str | None = strawberry.field(
        description="The campaign's address in the provider's own interface. Null if the provider "
        "documents none."
    )

    @classmethod
    def from_model(cls, campaign: model.Campaign, account: str, provider: str) -> Self:
        return cls(
            account=account,
            id=strawberry.ID(campaign.id),
            provider=provider_named(provider),
            name=campaign.name,
            description=campaign.description,
            status=campaign.status,
            provider_status=campaign.provider_status,
            tags=None if campaign.tags is None else list(campaign.tags),
            created_at=campaign.created_at,
            updated_at=campaign.updated_at,
            url=campaign.url,
        )

    @classmethod
    def from_result(
        cls, context: Context, account: str, result: model.Campaign | GraphQLError | None
    ) -> Self | GraphQLError | None:
        """Return the campaign that `queries.campaigns` read, or its error, or None."""
        if not isinstance(result, model.Campaign):
            return result
        return cls.from_model(result, account, context.accounts[account].connector.provider)


@strawberry.type(description="An object that was copied together with its campaign.")
class CopiedObject:
    type: str = strawberry.field(
        description='What it is, in the provider\'s own term, such as "ad_set".'
    )
    source_id: strawberry.ID = strawberry.field(
        description="The provider's id of the object that was copied."
    )
    copy_id: strawberry.ID = strawberry.field(description="The provider's id of the copy.")

    @classmethod
    def from_model(cls, copied: model.CopiedObject) -> Self:
        return cls(
            type=copied.type,
            source_id=strawberry.ID(copied.source_id),
            copy_id=strawberry.ID(copied.copy_id),
        )


@strawberry.type(description="An expected failure, and what to do about it.")
class DuplicateCampaignError:
    code: ErrorCode = strawberry.field(
        description="What went wrong. Each value says what to do next."
    )
    message: str = strawberry.field(description="For people, in English. It may change.")
    field: list[str] | None = strawberry.field(
        description="The path of the wrong field in the mutation's arguments: `input`, the "
        "provider's member and the field, such as `campaignId`. Null if it is not known."
    )
    retry: Retry = strawberry.field(
        description="What to do next. A client that follows it never makes two copies for one "
        "intent."
    )
    retry_after_seconds: int | None = strawberry.field(
        description="How many seconds to wait before the next try. Null if it is not known."
    )
    provider_code: str | None = strawberry.field(
        description="The provider's own code or HTTP status, for support. It may change."
    )
    provider_message: str | None = strawberry.field(
        description="The provider's own message, at most 200 characters, for support."
    )

    @classmethod
    def from_model(cls, error: model.UserError, *, is_recorded: bool) -> Self:
        return cls(
            code=error.code,
            message=error.message,
            field=None if error.field is None else list(error.field),
            retry=error.retry(is_recorded=is_recorded),
            retry_after_seconds=error.retry_after,
            provider_code=error.provider_code,
            provider_message=error.provider_message,
        )


@strawberry.type(description="Something to know about a copy that exists.")
class DuplicationWarning:
    code: WarningCode = strawberry.field(
        description="What the warning is about. Each value says what to do."
    )
    message: str = strawberry.field(description="For people, in English. It may change.")
    field: list[str] | None = strawberry.field(
        description="The path in the mutation's arguments of the option that the copy does not "
        "have. Only with NOT_APPLIED."
    )
    provider_message: str | None = strawberry.field(
        description="The provider's own message, at most 200 characters."
    )

    @classmethod
    def from_model(cls, warning: model.CopyWarning) -> Self:
        return cls(
            code=warning.code,
            message=warning.message,
            field=None if warning.field is None else list(warning.field),
            provider_message=warning.provider_message,
        )


@strawberry.type(description="Who requested a copy.")
class Requester:
    caller: str = strawberry.field(
        description="The caller's name in the configuration of the gateway."
    )
    person: str | None = strawberry.field(
        description="The person for whom the caller sent the request. Null if the caller did not "
        "name one."
    )

    @classmethod
    def from_model(cls, intent: model.Intent) -> Self | None:
        return None if intent.caller is None else cls(caller=intent.caller, person=intent.person)


@strawberry.federation.type(
    keys=["id"], description="One intent to copy a campaign, and its durable record."
)
class Duplication:
    id: strawberry.ID = strawberry.field(description="The gateway's id of the duplication.")
    provider: Provider = strawberry.field(description="The provider that makes the copy.")
    account: str = strawberry.field(description="The account that makes the copy.")
    source_campaign_id: strawberry.ID = strawberry.field(
        description="The provider's id of the campaign to copy."
    )
    requested_name: str | None = strawberry.field(
        description="The requested name of the copy. Null if the provider chooses it."
    )
    status: DuplicationStatus = strawberry.field(description="The current status.")
    evidence: Evidence | None = strawberry.field(
        description="How the gateway knows the result. Null while the result is not known."
    )
    campaign: Campaign | None = strawberry.field(
        description="The copy, as it was when it was made or found. `Query.campaign` reads it as "
        "it is now. Null until its id is known. If the status is ACCEPTED, the provider is still "
        "making this copy."
    )
    copied_objects: list[CopiedObject] = strawberry.field(
        description="What was copied together with the campaign, such as ad sets and ads. "
        "Empty if the provider does not report it, or if the copy was found by a search."
    )
    warnings: list[DuplicationWarning] = strawberry.field(
        description="What to know about the copy. Empty until there is one."
    )
    error: DuplicateCampaignError | None = strawberry.field(
        description="Why there is no copy, or why it is not certain that there is one."
    )
    provider_trace_id: str | None = strawberry.field(
        description="The provider's id of the call, for questions to the provider's support. Null "
        "if the provider returned none."
    )
    requested_at: datetime = strawberry.field(description="When the gateway recorded the request.")
    requested_by: Requester | None = strawberry.field(
        description="Who requested the copy. Null if the gateway had no configured callers then."
    )
    settled_at: datetime | None = strawberry.field(
        description="When the status became CREATED or REJECTED. Null until then."
    )

    @classmethod
    def from_model(cls, recorded: Recorded) -> Self:
        intent = recorded.intent
        return cls(
            id=strawberry.ID(intent.id),
            provider=provider_named(intent.provider),
            account=intent.account,
            source_campaign_id=strawberry.ID(intent.source_campaign_id),
            requested_name=intent.requested_name,
            status=recorded.status,
            evidence=recorded.evidence,
            campaign=Campaign.from_model(recorded.campaign, intent.account, intent.provider)
            if recorded.campaign
            else None,
            copied_objects=[
                CopiedObject.from_model(copied)
                for copied in (recorded.campaign.copied_objects if recorded.campaign else ())
            ],
            warnings=[DuplicationWarning.from_model(warning) for warning in recorded.warnings],
            error=DuplicateCampaignError.from_model(recorded.error, is_recorded=True)
            if recorded.error
            else None,
            provider_trace_id=recorded.provider_trace_id,
            requested_at=recorded.requested_at,
            requested_by=Requester.from_model(intent),
            settled_at=recorded.settled_at,
        )


@strawberry.type(description="One entry in a page of duplications.")
class DuplicationEdge:
    cursor: str = strawberry.field(
        description="The position of the entry. Pass it as `after` to get the next entries."
    )
    node: Duplication = strawberry.field(description="The duplication.")


# Shareable, because every subgraph with pages has this type.
@strawberry.federation.type(shareable=True, description="The place of a page in the whole list.")
class PageInfo:
    has_next_page: bool = strawberry.field(description="True if there are entries after this page.")
    has_previous_page: bool = strawberry.field(
        description="True if there are entries before this page."
    )
    start_cursor: str | None = strawberry.field(
        description="The cursor of the first entry. Null if the page is empty."
    )
    end_cursor: str | None = strawberry.field(
        description="The cursor of the page's end. Pass it as `after` to get the next page. Null "
        "if the page is empty and there is no next page."
    )


@strawberry.type(description="A page of duplications, newest first.")
class DuplicationConnection:
    edges: list[DuplicationEdge] = strawberry.field(description="The entries of the page.")
    page_info: PageInfo = strawberry.field(
        description="Whether there are more entries, and the cursor to continue from."
    )

    @classmethod
    def from_model(cls, page: queries.Page) -> Self:
        edges = [
            DuplicationEdge(
                cursor=queries.cursor_of(duplication), node=Duplication.from_model(duplication)
            )
            for duplication in page.duplications
        ]
        return cls(
            edges=edges,
            page_info=PageInfo(
                has_next_page=page.has_next,
                has_previous_page=page.has_previous,
                start_cursor=edges[0].cursor if edges else None,
                end_cursor=page.end,
            ),
        )


@strawberry.type(description="The call that would request a copy.")
class PlannedRequest:
    method: str = strawberry.field(description="The HTTP method.")
    host: str = strawberry.field(description="The provider's host, with its port if it has one.")
    path: str = strawberry.field(description="The path of the URL, without its query.")


@strawberry.type(description="What a copy would be, as a dry run found it. No copy was requested.")
class DuplicationPreview:
    account: str = strawberry.field(description="The account that would make the copy.")
    provider: Provider = strawberry.field(description="The provider that would make the copy.")
    source: Campaign | None = strawberry.field(
        description="The campaign to copy, as the provider describes it now. Null if it could not "
        "be read, if the account lacks the capability READ_CAMPAIGN, or if the caller may not read."
    )
    name: str | None = strawberry.field(
        description="The name of the copy. Null if the provider chooses it."
    )
    may_start_active: bool = strawberry.field(
        description="True if the copy may be active as soon as it exists. Then it may send "
        "messages or spend money immediately."
    )
    request: PlannedRequest = strawberry.field(
        description="The call that would request the copy. Its body and its headers are not shown."
    )

    @classmethod
    def from_model(cls, preview: Preview) -> Self:
        provider, url = preview.account.connector.provider, urlsplit(preview.request.url)
        source = preview.source
        return cls(
            account=preview.account.name,
            provider=provider_named(provider),
            source=Campaign.from_model(source, preview.account.name, provider) if source else None,
            name=preview.name,
            may_start_active=preview.may_start_active,
            request=PlannedRequest(
                method=preview.request.method, host=url.netloc, path=url.path or "/"
            ),
        )


@strawberry.type(description="The result of a request for a copy.")
class DuplicateCampaignPayload:
    status: DuplicateCampaignStatus = strawberry.field(
        description="The status of the duplication. If it is CREATED, `campaign` is set."
    )
    campaign: Campaign | None = strawberry.field(
        description="The copy. Null until its id is known. If the status is ACCEPTED, the provider "
        "is still making this copy."
    )
    campaign_url: str | None = strawberry.field(
        default=None,
        description="The address of the copy in the provider's own interface. Null if the provider "
        "documents none.",
    )
    source: Campaign | None = strawberry.field(
        default=None,
        description="The campaign to copy, as the provider describes it now. Only a dry run reads "
        "it, so it is null unless `dryRun` is true. Otherwise, `duplication { sourceCampaignId }` "
        "has its id.",
    )
    requested_by: Requester | None = strawberry.field(
        default=None,
        description="Who requested the copy. Null if the gateway had no configured callers then, "
        "or if there is no record.",
    )
    copied_objects: list[CopiedObject] = strawberry.field(
        description="What was copied together with the campaign, such as ad sets and ads."
    )
    warnings: list[DuplicationWarning] = strawberry.field(
        description="What to know about the copy, such as that it does not have the requested name."
    )
    duplication: Duplication | None = strawberry.field(
        description="The durable record. Null if the request was refused before anything was "
        "recorded, or if it is in progress and not recorded yet. With UNRESOLVED_DUPLICATION, it "
        "is the record of the earlier request."
    )
    replayed: bool = strawberry.field(
        description="True if this idempotency key was used before. The payload has the result of "
        "that earlier request."
    )
    user_errors: list[DuplicateCampaignError] = strawberry.field(
        description="Why there is no copy, or why it is not certain that there is one. `retry` "
        "says what to do next. Empty for CREATED, ACCEPTED and IN_PROGRESS."
    )
    preview: DuplicationPreview | None = strawberry.field(
        default=None, description="What the copy would be. Null unless `dryRun` is true."
    )

    @classmethod
    def from_preview(cls, preview: Preview | Refused) -> Self:
        error = preview.error
        shown = DuplicationPreview.from_model(preview) if isinstance(preview, Preview) else None
        return cls(
            status=DuplicateCampaignStatus.NOT_SENT,
            campaign=None,
            copied_objects=[],
            warnings=[],
            duplication=None,
            replayed=False,
            user_errors=[DuplicateCampaignError.from_model(error, is_recorded=False)]
            if error
            else [],
            source=shown.source if shown else None,
            preview=shown,
        )

    @classmethod
    def from_model(cls, result: DuplicationResult) -> Self:
        duplication = Duplication.from_model(result.duplication) if result.duplication else None
        if duplication is None or result.error is not None:
            return cls(
                status=DuplicateCampaignStatus.NOT_SENT
                if result.error
                else DuplicateCampaignStatus.IN_PROGRESS,
                campaign=None,
                copied_objects=[],
                warnings=[],
                duplication=duplication,
                replayed=result.replayed,
                user_errors=[DuplicateCampaignError.from_model(result.error, is_recorded=False)]
                if result.error
                else [],
            )
        return cls(
            status=DuplicateCampaignStatus(duplication.status),
            campaign=duplication.campaign,
            campaign_url=duplication.campaign.url if duplication.campaign else None,
            requested_by=duplication.requested_by,
            copied_objects=duplication.copied_objects,
            warnings=duplication.warnings,
            duplication=duplication,
            replayed=result.replayed,
            user_errors=[duplication.error] if duplication.error else [],
        )
