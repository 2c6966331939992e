"""The GraphQL schema: one mutation, the queries, and the printed SDL."""

from copy import copy
from datetime import datetime
from typing import Annotated, Any, Literal, TypeVar, cast

import graphql
import strawberry
from graphql import GraphQLError
from strawberry import argument
from strawberry.annotation import StrawberryAnnotation
from strawberry.federation.schema import FederationAny
from strawberry.tools import create_type
from strawberry.types import get_object_definition

from campaign_gateway.api import entities, queries
from campaign_gateway.api.context import Info
from campaign_gateway.api.direct import call_directly
from campaign_gateway.api.enums import Provider
from campaign_gateway.api.inputs import DuplicateCampaignInput, input_type
from campaign_gateway.api.rights import require_rights
from campaign_gateway.api.scalars import DATE_TIME
from campaign_gateway.api.types import (
    Account,
    Campaign,
    DuplicateCampaignPayload,
    Duplication,
    DuplicationConnection,
)
from campaign_gateway.connectors.registry import CONNECTORS, Connectors
from campaign_gateway.duplication.errors import OVERRIDE_NOT_APPLICABLE
from campaign_gateway.duplication.service import DuplicationResult
from campaign_gateway.model import DuplicationStatus, Selection
from campaign_gateway.observe.events import refused

# The newest federation version that the composers of Apollo, The Guild and Cosmo all support.
FEDERATION_VERSION: Literal["2.9"] = "2.9"


@strawberry.input(description="Which duplications to list. Omitted fields do not filter.")
class DuplicationFilter:
    status: DuplicationStatus | None = strawberry.field(
        default=strawberry.UNSET, description="Only duplications with this status."
    )
    provider: Provider | None = strawberry.field(
        default=strawberry.UNSET, description="Only duplications at this provider."
    )
    account: str | None = strawberry.field(
        default=strawberry.UNSET, description="Only duplications with this account."
    )
    requested_since: datetime | None = strawberry.field(
        default=strawberry.UNSET, description="Only duplications requested at this time or later."
    )
    requested_before: datetime | None = strawberry.field(
        default=strawberry.UNSET, description="Only duplications requested before this time."
    )

    def selection(self) -> Selection:
        status, account = unset_to_none(self.status), unset_to_none(self.account)
        return Selection(
            statuses=None if status is None else (status,),
            provider=unset_to_none(self.provider),
            # Account names are ASCII, so a name with a replaced character matches no account.
            account=account and account.encode("ascii", "replace").decode().replace("\0", "?"),
            since=unset_to_none(self.requested_since),
            until=unset_to_none(self.requested_before),
        )


Value = TypeVar("Value")


def unset_to_none(value: Value | None) -> Value | None:
    """Return None for an omitted argument, which means the same as null."""
    return None if value is strawberry.UNSET else value


@strawberry.type(description="All queries. None of them changes anything.")
class Query:
    @strawberry.field(description="All accounts that the caller may use.")
    def accounts(self, info: Info) -> list[Account]:
        return [Account.from_model(account) for account in info.context.accounts.values()]

    @strawberry.field(
        description="A duplication by its id. Null if there is none, or if its details are no "
        "longer stored."
    )
    async def duplication(
        self,
        info: Info,
        id: Annotated[
            strawberry.ID, argument(description="The duplication's id: `Duplication.id`.")
        ],
        wait_seconds: Annotated[
            int,
            argument(
                description="How many seconds to wait until the duplication is CREATED or "
                f"REJECTED, from 0 to {queries.WAIT_LIMIT}. After that, the duplication is "
                "returned as it is. To wait longer, send the query again."
            ),
        ] = 0,
    ) -> Duplication | None:
        recorded = await queries.settled(info.context, id, wait_seconds)
        return None if recorded is None else Duplication.from_model(recorded)

    @strawberry.field(
        description="A duplication by its idempotency key. Null if there is none, or if its "
        "details are no longer stored. So null does not prove that the key is unused."
    )
    async def duplication_by_key(
        self,
        info: Info,
        idempotency_key: Annotated[
            str, argument(description="The `idempotencyKey` of the mutation.")
        ],
    ) -> Duplication | None:
        recorded = await queries.duplication_by_key(info.context, idempotency_key)
        return None if recorded is None else Duplication.from_model(recorded)

    @strawberry.field(
        description="All duplications, newest first, in pages. A page of a filtered list may have "
        "fewer entries than requested, or none, while `hasNextPage` is true: continue from "
        "`endCursor`."
    )
    async def duplications(
        self,
        info: Info,
        first: Annotated[
            int, argument(description=f"The size of the page, from 1 to {queries.PAGE_LIMIT}.")
        ] = queries.PAGE_SIZE,
        after: Annotated[
            str | None, argument(description="Start after this cursor of an earlier page.")
        ] = strawberry.UNSET,
        filter: Annotated[
            DuplicationFilter | None,
            argument(description="Which duplications to list. By default, all."),
        ] = strawberry.UNSET,
    ) -> DuplicationConnection:
        selection = filter.selection() if filter else Selection()
        page = await queries.duplications(info.context, first, unset_to_none(after), selection)
        return DuplicationConnection.from_model(page)

    @strawberry.field(
        description="The types of assets that the account's provider can copy together with a "
        "campaign, read from the provider now. Empty if the provider does not list them."
    )
    async def cloneable_asset_types(
        self,
        info: Info,
        account: Annotated[str, argument(description="The account to read the types with.")],
    ) -> list[str]:
        return list(await queries.cloneable_asset_types(info.context, account))

    @strawberry.field(
        description="A campaign, read from its provider now. Null if there is no such campaign. "
        "The result is an error if the account lacks the capability READ_CAMPAIGN. If an "
        "error has `extensions.retryAfterSeconds`, try again after that time."
    )
    async def campaign(
        self,
        info: Info,
        account: Annotated[str, argument(description="The account to read the campaign with.")],
        id: Annotated[strawberry.ID, argument(description="The provider's id of the campaign.")],
    ) -> Campaign | None:
        results = await queries.campaigns(info.context, [(account, id)])
        campaign = Campaign.from_result(info.context, account, results[account, id])
        if isinstance(campaign, GraphQLError):
            raise campaign
        return campaign


@strawberry.type(description="All mutations.")
class Mutation:
    @strawberry.mutation(
        description="Copy a campaign at its provider. One idempotency key makes at most one copy. "
        "If the response is lost, send the same input with the same key again to get the result. "
        "Expected failures are in `userErrors`."
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
                description="Identifies the intent: 1 to 128 visible ASCII characters. Use a new "
                "UUID for each intent, and the same one for each retry of it."
            ),
        ],
        override_duplication_id: Annotated[
            strawberry.ID | None,
            argument(
                description="Normally omitted. It requests another copy after the error "
                "UNRESOLVED_DUPLICATION, so there may be two copies then. A person must first "
                "check at the provider and decide. Then pass the id of `duplication` from the "
                "payload with that error. Each id works once. A program must not set it without a "
                "person's decision."
            ),
        ] = strawberry.UNSET,
        *,
        dry_run: Annotated[
            bool,
            argument(
                description="True to see the copy in `preview` before it is made. The gateway "
                "checks the input and reads the source at the provider. It requests no copy, "
                "records nothing, and ignores the idempotency key."
            ),
        ] = False,
    ) -> DuplicateCampaignPayload:
        context = info.context
        provider, copy_input = input.chosen()
        if dry_run:
            found = await queries.preview(context, provider, copy_input)
            return DuplicateCampaignPayload.from_preview(found)
        override_of = None
        if isinstance(override_duplication_id, str):
            override_of = queries.canonical_id(override_duplication_id)
            if override_of is None:
                refused(
                    OVERRIDE_NOT_APPLICABLE,
                    caller=context.caller.name,
                    person=context.caller.person,
                    provider=provider,
                    requested_account=copy_input.account,
                    source=str(copy_input.campaign_id),
                )
                return DuplicateCampaignPayload.from_model(
                    DuplicationResult(error=OVERRIDE_NOT_APPLICABLE)
                )
        result = await context.duplicator.duplicate(
            context.caller,
            context.accounts,
            idempotency_key,
            provider,
            copy_input,
            override_of=override_of,
        )
        return DuplicateCampaignPayload.from_model(result)


def _mutation(connectors: Connectors) -> type:
    """Return `Mutation`, whose input has one member for each of the connectors."""
    definition = get_object_definition(Mutation, strict=True)
    (field,) = (copy(field) for field in definition.fields)
    campaign, *others = field.arguments
    campaign = copy(campaign)
    campaign.type_annotation = StrawberryAnnotation(input_type(connectors))
    field.arguments = [campaign, *others]
    return create_type(definition.name, [field], description=definition.description)


class FederatedSchema(strawberry.federation.Schema):
    """Resolves all references of a router together. Strawberry would resolve them one by one."""

    async def entities_resolver(  # type: ignore[override]  # strawberry awaits the result
        self, info: Info, representations: list[FederationAny]
    ) -> list[FederationAny]:
        return cast("list[FederationAny]", await entities.resolve(info.context, representations))


def _strawberry_schema(connectors: Connectors) -> FederatedSchema:
    schema = FederatedSchema(
        Query,
        _mutation(connectors),
        federation_version=FEDERATION_VERSION,
        scalar_overrides={datetime: DATE_TIME},
    )
    # Strawberry sets a resolver of this field, for all schemas of the process, that fails for lists
    # and non-null types.
    cast("Any", graphql.introspection_types["__Type"]).fields[
        "isOneOf"
    ].resolve = _resolve_is_one_of
    return schema


def build_schema(connectors: Connectors = CONNECTORS) -> graphql.GraphQLSchema:
    """Return the schema that the gateway executes."""
    built = _strawberry_schema(connectors)
    schema: graphql.GraphQLSchema = built._schema  # noqa: SLF001 - there is no public attribute
    # The default resolver prints the schema again for each field, which takes 4 ms.
    sdl = built.as_str()
    call_directly(schema)
    require_rights(schema)
    cast("Any", schema.type_map["_Service"]).fields["sdl"].resolve = lambda *_: sdl
    # Strawberry enforces @oneOf itself and does not set the flag that graphql-core reads.
    cast("Any", schema.type_map["DuplicateCampaignInput"]).is_one_of = True
    return schema


def _resolve_is_one_of(type_: object, _info: object) -> bool | None:
    return type_.is_one_of if isinstance(type_, graphql.GraphQLInputObjectType) else None


def client_sdl(connectors: Connectors = CONNECTORS) -> str:
    """Return the SDL for clients and code generators, without the fields of federation."""
    served = build_schema(connectors)
    query = served.query_type
    assert query is not None
    fields = {name: field for name, field in query.fields.items() if not name.startswith("_")}
    client = graphql.GraphQLSchema(
        graphql.GraphQLObjectType(query.name, fields, description=query.description),
        served.mutation_type,
    )
    return graphql.print_schema(client) + "\n"


def federation_sdl(connectors: Connectors = CONNECTORS) -> str:
    """Return the SDL of the subgraph, for a federation composer."""
    return _strawberry_schema(connectors).as_str() + "\n"
