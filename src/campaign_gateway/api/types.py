"""The contract's object types, and how they are made from the records of the inner rooms."""

from datetime import datetime
from typing import Self

import strawberry
from graphql import GraphQLError
from strawberry.relay import PageInfo

from campaign_gateway import model
from campaign_gateway.accounts import Account as ConfiguredAccount
from campaign_gateway.api import queries
from campaign_gateway.api.context import Context
from campaign_gateway.api.enums import Capability, DuplicateCampaignStatus, Provider
from campaign_gateway.connectors.contract import ReadsCampaigns, copy_search_key
from campaign_gateway.duplication.service import DuplicationResult
from campaign_gateway.model import (
    CampaignStatus,
    DuplicationStatus,
    ErrorCode,
    Evidence,
    Retry,
    WarningCode,
)
from campaign_gateway.model import Duplication as Recorded


@strawberry.type(description="A configured access to a provider.")
class Account:
    name: str = strawberry.field(description="What inputs and arguments call it.")
    provider: Provider = strawberry.field(description="Which provider it is an access to.")
    capabilities: list[Capability] = strawberry.field(
        description="What the gateway can do with it beside copying campaigns."
    )

    @classmethod
    def from_model(cls, account: ConfiguredAccount) -> Self:
        return cls(
            name=account.name,
            provider=Provider(account.connector.provider),
            capabilities=_capabilities(account.connector),
        )


def _capabilities(connector: object) -> list[Capability]:
    found = []
    if copy_search_key(connector):
        found.append(Capability.FIND_COPY)
    if isinstance(connector, ReadsCampaigns):
        found.append(Capability.READ_CAMPAIGN)
    return found


@strawberry.federation.type(
    keys=["account id"],
    description="A campaign at a provider. A field is null where the provider has not said.",
)
class Campaign:
    account: str = strawberry.field(description="The account through which it was seen.")
    id: strawberry.ID = strawberry.field(description="The provider's own id.")
    provider: Provider = strawberry.field(description="The provider it lives at.")
    name: str | None = strawberry.field(description="Its name.")
    description: str | None = strawberry.field(description="Its description.")
    status: CampaignStatus = strawberry.field(description="What it does, in common words.")
    provider_status: str | None = strawberry.field(
        description="What it does, in the provider's own word."
    )
    tags: list[str] | None = strawberry.field(description="Its tags or labels.")
    created_at: datetime | None = strawberry.field(description="When it was made.")
    updated_at: datetime | None = strawberry.field(description="When it was last changed.")

    @classmethod
    def from_model(cls, campaign: model.Campaign, account: str, provider: str) -> Self:
        return cls(
            account=account,
            id=strawberry.ID(campaign.id),
            provider=Provider(provider),
            name=campaign.name,
            description=campaign.description,
            status=campaign.status,
            provider_status=campaign.provider_status,
            tags=None if campaign.tags is None else list(campaign.tags),
            created_at=campaign.created_at,
            updated_at=campaign.updated_at,
        )

    @classmethod
    def found(
        cls, context: Context, account: str, read: model.Campaign | GraphQLError | None
    ) -> Self | GraphQLError | None:
        """What reading it has come to."""
        if not isinstance(read, model.Campaign):
            return read
        return cls.from_model(read, account, context.accounts[account].connector.provider)


@strawberry.type(description="An expected failure, and what to do about it.")
class DuplicateCampaignError:
    code: ErrorCode = strawberry.field(description="What to do next; see each value.")
    message: str = strawberry.field(description="For people, in English. It may change.")
    field: list[str] | None = strawberry.field(
        description="The path of the culprit among the mutation's arguments, such as "
        '["input", PROVIDER, "campaignId"], where it is known.'
    )
    retry: Retry = strawberry.field(
        description="What to do next. A client that follows it never makes two copies for one "
        "intent."
    )
    retry_after_seconds: int | None = strawberry.field(
        description="How many seconds to wait first, where that is known."
    )
    provider_code: str | None = strawberry.field(
        description="The provider's own code or HTTP status, for support. Not a contract."
    )
    provider_message: str | None = strawberry.field(
        description="The provider's own words, at most 200 characters, for support."
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
    code: WarningCode = strawberry.field(description="What it is; see each value.")
    message: str = strawberry.field(description="For people, in English. It may change.")
    provider_message: str | None = strawberry.field(
        description="The provider's own words, at most 200 characters."
    )

    @classmethod
    def from_model(cls, warning: model.CopyWarning) -> Self:
        return cls(
            code=warning.code,
            message=warning.message,
            provider_message=warning.provider_message,
        )


@strawberry.federation.type(
    keys=["id"], description="One intent to copy a campaign, with its durable record."
)
class Duplication:
    id: strawberry.ID = strawberry.field(description="The gateway's own id.")
    provider: Provider = strawberry.field(description="The provider that was asked.")
    account: str = strawberry.field(description="The account that was used.")
    source_campaign_id: strawberry.ID = strawberry.field(
        description="The campaign to copy, by the provider's id."
    )
    requested_name: str | None = strawberry.field(
        description="The name asked for, or null when the provider was to choose."
    )
    status: DuplicationStatus = strawberry.field(description="What has become of it.")
    evidence: Evidence | None = strawberry.field(
        description="How that is known; null while it is not."
    )
    campaign: Campaign | None = strawberry.field(
        description="The copy as it was when first seen; null until its id is known. Of an "
        "ACCEPTED duplication, the copy to be."
    )
    warnings: list[DuplicationWarning] = strawberry.field(
        description="What to know about the copy; empty until there is one."
    )
    error: DuplicateCampaignError | None = strawberry.field(
        description="Why there is no copy, or none for certain."
    )
    provider_trace_id: str | None = strawberry.field(
        description="The provider's id of the call, for its support."
    )
    requested_at: datetime = strawberry.field(description="When the call was recorded.")
    settled_at: datetime | None = strawberry.field(
        description="When it became CREATED or REJECTED."
    )

    @classmethod
    def from_model(cls, recorded: Recorded) -> Self:
        intent = recorded.intent
        return cls(
            id=strawberry.ID(intent.id),
            provider=Provider(intent.provider),
            account=intent.account,
            source_campaign_id=strawberry.ID(intent.source_campaign_id),
            requested_name=intent.requested_name,
            status=recorded.status,
            evidence=recorded.evidence,
            campaign=Campaign.from_model(recorded.campaign, intent.account, intent.provider)
            if recorded.campaign
            else None,
            warnings=[DuplicationWarning.from_model(each) for each in recorded.warnings],
            error=DuplicateCampaignError.from_model(recorded.error, is_recorded=True)
            if recorded.error
            else None,
            provider_trace_id=recorded.provider_trace_id,
            requested_at=recorded.requested_at,
            settled_at=recorded.settled_at,
        )


@strawberry.type(description="A duplication in a list.")
class DuplicationEdge:
    cursor: str = strawberry.field(description="Where to go on from.")
    node: Duplication = strawberry.field(description="The duplication.")


@strawberry.type(description="A page of duplications, newest first.")
class DuplicationConnection:
    edges: list[DuplicationEdge] = strawberry.field(description="The page's entries.")
    page_info: PageInfo = strawberry.field(description="Whether there are more, and from where.")

    @classmethod
    def from_model(cls, page: queries.Page) -> Self:
        edges = [
            DuplicationEdge(cursor=queries.cursor_of(each), node=Duplication.from_model(each))
            for each in page.duplications
        ]
        return cls(
            edges=edges,
            page_info=PageInfo(
                has_next_page=page.has_next,
                has_previous_page=page.has_previous,
                start_cursor=edges[0].cursor if edges else None,
                end_cursor=edges[-1].cursor if edges else None,
            ),
        )


@strawberry.type(description="What became of the request for a copy.")
class DuplicateCampaignPayload:
    status: DuplicateCampaignStatus = strawberry.field(
        description="What has become of the intent. CREATED means that `campaign` is there."
    )
    campaign: Campaign | None = strawberry.field(
        description="The copy; null until the provider has told its id. With ACCEPTED, the copy to "
        "be."
    )
    warnings: list[DuplicationWarning] = strawberry.field(
        description="What to know about the copy, such as that it could not be given its name."
    )
    duplication: Duplication | None = strawberry.field(
        description="The durable record; null when the request was refused before anything was "
        "recorded, or is under way without one yet. With UNRESOLVED_DUPLICATION it is the earlier "
        "one."
    )
    replayed: bool = strawberry.field(
        description="True: this idempotency key was used before, and this is what became of it."
    )
    user_errors: list[DuplicateCampaignError] = strawberry.field(
        description="Why there is no copy, or none for certain, and in `retry` what to do next. "
        "Empty for CREATED, ACCEPTED and IN_PROGRESS."
    )

    @classmethod
    def from_model(cls, answer: DuplicationResult) -> Self:
        duplication = Duplication.from_model(answer.duplication) if answer.duplication else None
        if duplication is None or answer.error is not None:
            return cls(
                status=DuplicateCampaignStatus.NOT_SENT
                if answer.error
                else DuplicateCampaignStatus.IN_PROGRESS,
                campaign=None,
                warnings=[],
                duplication=duplication,
                replayed=answer.replayed,
                user_errors=[DuplicateCampaignError.from_model(answer.error, is_recorded=False)]
                if answer.error
                else [],
            )
        return cls(
            status=DuplicateCampaignStatus(duplication.status),
            campaign=duplication.campaign,
            warnings=duplication.warnings,
            duplication=duplication,
            replayed=answer.replayed,
            user_errors=[duplication.error] if duplication.error else [],
        )
