"""The GraphQL schema: one mutation, the queries around it, and how it is printed."""

from datetime import datetime
from typing import Annotated, Any, Literal, TypeVar, cast

import graphql
import strawberry
from graphql import GraphQLError
from strawberry import argument
from strawberry.federation.schema import FederationAny

from campaign_gateway.api import entities, queries
from campaign_gateway.api.context import Info
from campaign_gateway.api.enums import Provider
from campaign_gateway.api.inputs import DuplicateCampaignInput
from campaign_gateway.api.scalars import DATE_TIME
from campaign_gateway.api.types import (
    Account,
    Campaign,
    DuplicateCampaignPayload,
    Duplication,
    DuplicationConnection,
)
from campaign_gateway.duplication.errors import OVERRIDE_NOT_APPLICABLE
from campaign_gateway.duplication.service import DuplicationResult
from campaign_gateway.model import DuplicationStatus, Selection

# The newest federation version that Apollo's, The Guild's and Cosmo's composers all know.
FEDERATION_VERSION: Literal["2.9"] = "2.9"


@strawberry.input(description="Which duplications to list. What is left out does not narrow.")
class DuplicationFilter:
    status: DuplicationStatus | None = strawberry.field(
        default=strawberry.UNSET, description="Only those of this status."
    )
    provider: Provider | None = strawberry.field(
        default=strawberry.UNSET, description="Only those at this provider."
    )
    account: str | None = strawberry.field(
        default=strawberry.UNSET, description="Only those through this account."
    )
    requested_since: datetime | None = strawberry.field(
        default=strawberry.UNSET, description="Only those requested then or later."
    )
    requested_before: datetime | None = strawberry.field(
        default=strawberry.UNSET, description="Only those requested earlier than then."
    )

    def selection(self) -> Selection:
        status, account = given(self.status), given(self.account)
        return Selection(
            statuses=None if status is None else (status,),
            provider=given(self.provider),
            # Names are ASCII; anything else matches none of them.
            account=account and account.encode("ascii", "replace").decode().replace("\0", "?"),
            since=given(self.requested_since),
            until=given(self.requested_before),
        )


Value = TypeVar("Value")


def given(value: Value | None) -> Value | None:
    """None for what was left out, which narrows no more than null does."""
    return None if value is strawberry.UNSET else value


@strawberry.type(description="What can be read.")
class Query:
    @strawberry.field(description="The configured accounts.")
    def accounts(self, info: Info) -> list[Account]:
        return [Account.from_model(account) for account in info.context.accounts.values()]

    @strawberry.field(description="A duplication by the gateway's id for it.")
    async def duplication(
        self,
        info: Info,
        id: Annotated[strawberry.ID, argument(description="`Duplication.id`.")],
        wait_seconds: Annotated[
            int,
            argument(
                description="Answer as soon as it is CREATED or REJECTED, and as it is after so "
                f"many seconds at the latest, up to {queries.WAIT_LIMIT}. Ask again to wait longer."
            ),
        ] = 0,
    ) -> Duplication | None:
        recorded = await queries.settled(info.context, id, wait_seconds)
        return None if recorded is None else Duplication.from_model(recorded)

    @strawberry.field(description="The duplication that an idempotency key stands for.")
    async def duplication_by_key(
        self,
        info: Info,
        idempotency_key: Annotated[str, argument(description="The key the mutation was given.")],
    ) -> Duplication | None:
        recorded = await queries.duplication_by_key(info.context, idempotency_key)
        return None if recorded is None else Duplication.from_model(recorded)

    @strawberry.field(description="Duplications, newest first.")
    async def duplications(
        self,
        info: Info,
        first: Annotated[
            int, argument(description=f"How many, from 1 to {queries.PAGE_LIMIT}.")
        ] = queries.PAGE_SIZE,
        after: Annotated[
            str | None, argument(description="Go on behind this cursor of an earlier page.")
        ] = strawberry.UNSET,
        filter: Annotated[
            DuplicationFilter | None, argument(description="Which to list; all by default.")
        ] = strawberry.UNSET,
    ) -> DuplicationConnection:
        selection = filter.selection() if filter else Selection()
        page = await queries.duplications(info.context, first, given(after), selection)
        return DuplicationConnection.from_model(page)

    @strawberry.field(
        description="A campaign as its provider describes it now, where the provider has a call "
        "for that; null when there is no such campaign."
    )
    async def campaign(
        self,
        info: Info,
        account: Annotated[str, argument(description="The account to read it through.")],
        id: Annotated[strawberry.ID, argument(description="The provider's id of it.")],
    ) -> Campaign | None:
        found = await queries.campaigns(info.context, [(account, id)])
        campaign = Campaign.found(info.context, account, found[account, id])
        if isinstance(campaign, GraphQLError):
            raise campaign
        return campaign


@strawberry.type(description="What can be changed.")
class Mutation:
    @strawberry.mutation(
        description="Copy a campaign at its provider. One idempotency key makes at most one copy: "
        "after a lost answer, send the same input with the same key again and learn what became "
        "of it. Expected failures are in `userErrors`."
    )
    async def duplicate_campaign(
        self,
        info: Info,
        input: Annotated[
            DuplicateCampaignInput,
            argument(description="The campaign to copy, at exactly one provider."),
        ],
        idempotency_key: Annotated[
            str,
            argument(
                description="Names the intent: 1 to 128 visible ASCII characters, a new UUID for "
                "each intent and the same one for each retry of it."
            ),
        ],
        override_duplication_id: Annotated[
            strawberry.ID | None,
            argument(
                description="Leave it out. After UNRESOLVED_DUPLICATION, a person who has looked "
                "at the provider and wants one more copy, even if there are two then, gives the id "
                "of the very duplication that stands in the way. It serves this one time: no "
                "program can know it beforehand."
            ),
        ] = strawberry.UNSET,
    ) -> DuplicateCampaignPayload:
        context = info.context
        provider, copy_input = input.chosen()
        override_of = None
        if isinstance(override_duplication_id, str):
            override_of = queries.canonical_id(override_duplication_id)
            if override_of is None:
                return DuplicateCampaignPayload.from_model(
                    DuplicationResult(error=OVERRIDE_NOT_APPLICABLE)
                )
        result = await context.duplicator.duplicate(
            context.scope, idempotency_key, provider, copy_input, override_of
        )
        return DuplicateCampaignPayload.from_model(result)


class FederatedSchema(strawberry.federation.Schema):
    """Resolves a router's references together; Strawberry would do it one by one."""

    async def entities_resolver(  # type: ignore[override]  # It may be awaited.
        self, info: Info, representations: list[FederationAny]
    ) -> list[FederationAny]:
        return cast("list[FederationAny]", await entities.resolve(info.context, representations))


def _written() -> FederatedSchema:
    return FederatedSchema(
        Query,
        Mutation,
        federation_version=FEDERATION_VERSION,
        scalar_overrides={datetime: DATE_TIME},
    )


def build_schema() -> graphql.GraphQLSchema:
    """What is executed."""
    schema: graphql.GraphQLSchema = _written()._schema  # noqa: SLF001 - no public way
    # Strawberry enforces @oneOf by its own means, and leaves graphql-core's mark unset.
    cast("Any", schema.type_map["DuplicateCampaignInput"]).is_one_of = True
    # Its own resolver has no answer for lists and non-null types.
    cast("Any", schema.type_map["__Type"]).fields["isOneOf"].resolve = _resolve_is_one_of
    return schema


def _resolve_is_one_of(type_: object, _info: object) -> bool | None:
    return type_.is_one_of if isinstance(type_, graphql.GraphQLInputObjectType) else None


def client_sdl() -> str:
    """The schema for clients and code generators, without federation's parts."""
    served = build_schema()
    query = served.query_type
    assert query is not None
    fields = {name: field for name, field in query.fields.items() if not name.startswith("_")}
    client = graphql.GraphQLSchema(
        graphql.GraphQLObjectType(query.name, fields, description=query.description),
        served.mutation_type,
    )
    return graphql.print_schema(client) + "\n"


def federation_sdl() -> str:
    """The subgraph's schema, for a composer."""
    return _written().as_str() + "\n"
