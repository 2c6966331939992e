"""Resolves the `_entities` of a federation router, all of a request together."""

from collections.abc import Mapping, Sequence

from graphql import GraphQLError

from campaign_gateway.api import queries
from campaign_gateway.api.context import ENTITY_LIMIT, Context
from campaign_gateway.api.types import Campaign, Duplication
from campaign_gateway.model import Duplication as Recorded
from campaign_gateway.web.graphql_http.endpoint import Outage

KEYS = {"Campaign": ("account", "id"), "Duplication": ("id",)}

Entity = Campaign | Duplication | GraphQLError | None


async def resolve(context: Context, representations: Sequence[object]) -> list[Entity]:
    """Return one entity per representation, in their order.

    It is None if there is no such entity, and an error if it cannot be read. Raises `GraphQLError`
    for a malformed representation, which no router sends.
    """
    context.entities_left -= len(representations)
    if context.entities_left < 0:
        raise GraphQLError(f"One request can resolve up to {ENTITY_LIMIT} representations.")
    references = [
        _parse_reference(place, representation)
        for place, representation in enumerate(representations)
    ]
    ids = {key["id"] for name, key in references if name == "Duplication"}
    duplications: Mapping[str, Recorded] | Outage
    try:
        duplications = await queries.duplications_by_id(context, ids)
    except Outage as failure:
        # Each duplication gets the error, so that the other references are still resolved.
        duplications = failure
    campaigns = await queries.campaigns(
        context, {(key["account"], key["id"]) for name, key in references if name == "Campaign"}
    )

    def entity(name: str, key: dict[str, str]) -> Entity:
        if name == "Duplication":
            if isinstance(duplications, Outage):
                return duplications
            recorded = duplications.get(key["id"])
            return None if recorded is None else Duplication.from_model(recorded)
        return Campaign.from_result(context, key["account"], campaigns[key["account"], key["id"]])

    return [entity(name, key) for name, key in references]


def _parse_reference(place: int, representation: object) -> tuple[str, dict[str, str]]:
    """Return the type's name and its key. A router may add other fields."""
    if not isinstance(representation, dict):
        raise GraphQLError(f"representations[{place}] must be an object.")
    name = representation.get("__typename")
    if not isinstance(name, str) or name not in KEYS:
        raise GraphQLError(f"representations[{place}].__typename must be the name of an entity.")
    key = {}
    for field in KEYS[name]:
        value = representation.get(field)
        # GraphQL accepts whole numbers for an ID.
        is_id = field == "id" and isinstance(value, int) and not isinstance(value, bool)
        if not isinstance(value, str) and not is_id:
            raise GraphQLError(f"representations[{place}].{field} must be a string.")
        key[field] = str(value)
    return name, key
