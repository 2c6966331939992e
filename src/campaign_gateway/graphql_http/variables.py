"""The values of a request's variables, before and after graphql-core looks at them."""

import re
from collections.abc import Mapping

from graphql import GraphQLError, GraphQLSchema, OperationDefinitionNode

from campaign_gateway.graphql_http.documents import InvalidRequest
from campaign_gateway.graphql_http.limits import ERROR_LIMIT
from campaign_gateway.graphql_http.one_of import one_of_mistakes

VARIABLE_VALUE_LIMIT = 5000


def check_variables(
    schema: GraphQLSchema,
    operation: OperationDefinitionNode,
    variables: Mapping[str, object],
    *,
    introspection_disabled: bool,
) -> None:
    """Raises `InvalidRequest` for what graphql-core would not see, or say less clearly."""
    if _is_long(variables):
        message = f"The variables hold more than {VARIABLE_VALUE_LIMIT} values."
        raise InvalidRequest([{"message": message}])
    errors = one_of_mistakes(
        schema, operation, variables, introspection_disabled=introspection_disabled
    )
    if errors:
        raise InvalidRequest({"message": each} for each in errors[:ERROR_LIMIT])


def _is_long(variables: Mapping[str, object]) -> bool:
    count, pending = 0, list(variables.values())
    while pending and count <= VARIABLE_VALUE_LIMIT:
        count, value = count + 1, pending.pop()
        if isinstance(value, dict):
            pending.extend(value.values())
        elif isinstance(value, list):
            pending.extend(value)
    return count > VARIABLE_VALUE_LIMIT


def without_value(mistake: GraphQLError) -> str:
    """What is wrong with a variable, in GraphQL's words: graphql-core shows values in Python's."""
    message = re.sub(r"(, found|\. Found): .*", ".", mistake.message, flags=re.DOTALL)
    message = re.sub(r"(cannot represent [^:]*): .*", r"\1.", message, flags=re.DOTALL)
    return message.replace(" to be None", " to be null")
