"""Checks the values of variables, and rewrites graphql-core's messages about them."""

from collections.abc import Mapping

from graphql import GraphQLError, GraphQLSchema, OperationDefinitionNode

from campaign_gateway.web.graphql_http.documents import InvalidRequest
from campaign_gateway.web.graphql_http.limits import ERROR_LIMIT
from campaign_gateway.web.graphql_http.one_of import one_of_errors

VARIABLE_VALUE_LIMIT = 5000


def check_number(variables: Mapping[str, object]) -> None:
    """Raise `InvalidRequest` if the variables have too many values."""
    if _has_too_many_values(variables):
        message = f"The variables contain more than {VARIABLE_VALUE_LIMIT} values."
        raise InvalidRequest([{"message": message}])


def check_one_of(
    schema: GraphQLSchema,
    operation: OperationDefinitionNode,
    variables: Mapping[str, object],
    *,
    introspection_disabled: bool,
) -> None:
    """Raise `InvalidRequest` for errors that graphql-core misses or reports less clearly."""
    errors = one_of_errors(
        schema, operation, variables, introspection_disabled=introspection_disabled
    )
    if errors:
        raise InvalidRequest({"message": message} for message in errors[:ERROR_LIMIT])


def _has_too_many_values(variables: Mapping[str, object]) -> bool:
    count, pending = 0, list(variables.values())
    while pending and count <= VARIABLE_VALUE_LIMIT:
        count, value = count + 1, pending.pop()
        if isinstance(value, dict):
            pending.extend(value.values())
        elif isinstance(value, list):
            pending.extend(value)
    return count > VARIABLE_VALUE_LIMIT


def without_value(error: GraphQLError) -> str:
    """Return the message without the value, because graphql-core prints values as Python does."""
    # No regular expression: the text is the caller's, and some of them take quadratic time.
    message = error.message
    for mark in (", found: ", ". Found: "):
        before, found, _ = message.partition(mark)
        message = f"{before}." if found else message
    represented = message.find("cannot represent ")
    end = message.find(": ", represented) if represented >= 0 else -1
    return f"{message[:end]}." if end >= 0 else message
