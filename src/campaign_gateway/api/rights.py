"""Enforces a caller's rights at the fields at the top of a request.

All other fields return parts of what these fields have read. So this is the only place that has to
check a right to read, for one campaign as for a list or a router's references.
"""

from collections.abc import Callable, Mapping
from typing import Any

from graphql import GraphQLError, GraphQLSchema

from campaign_gateway.web.callers.caller import Right
from campaign_gateway.web.callers.refusals import FORBIDDEN

# Each field, and the right that it needs. A field that is missing here fails the start.
QUERY_RIGHTS: Mapping[str, Right | None] = {
    "accounts": None,
    "campaign": Right.READ,
    "cloneableAssetTypes": Right.READ,
    "duplication": Right.READ,
    "duplicationByKey": Right.READ,
    "duplications": Right.READ,
    "_entities": Right.READ,
    # As introspection: the endpoint refuses the document.
    "_service": None,
}

Resolver = Callable[..., Any]


def require_rights(schema: GraphQLSchema) -> None:
    """Let the queries of the schema check the caller's rights before they resolve anything.

    The mutation is not among them, because its refusals are data: the duplicator checks its rights.
    """
    assert schema.query_type is not None
    for name, field in schema.query_type.fields.items():
        right = QUERY_RIGHTS[name]
        if right is not None:
            assert field.resolve is not None
            field.resolve = _requiring(right, field.resolve)


def _requiring(right: Right, resolve: Resolver) -> Resolver:
    def resolve_if_allowed(source: Any, info: Any, **arguments: Any) -> Any:
        if right not in info.context.caller.rights:
            raise GraphQLError(
                "This caller may not read campaigns and duplications. The operator of the gateway "
                f'can add "{right}" to the setting `may` of the caller.',
                extensions={"code": FORBIDDEN},
            )
        return resolve(source, info, **arguments)

    return resolve_if_allowed
