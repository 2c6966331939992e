"""Lets graphql-core call the resolvers and build the inputs itself, without Strawberry between.

Strawberry converts the arguments of each call with many look-ups. They take longer than the rest of
the execution, and always find the same.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

from graphql import GraphQLField, GraphQLInputObjectType, GraphQLObjectType, GraphQLSchema
from strawberry.schema.schema_converter import GraphQLCoreConverter

from campaign_gateway.web.graphql_http.writers import Attribute

DEFINITION = GraphQLCoreConverter.DEFINITION_BACKREF


def call_directly(schema: GraphQLSchema) -> None:
    """Replace Strawberry's resolvers, except those of federation.

    The resolvers of a `strawberry.Info` then get any value with the attribute `context`.
    """
    for type_ in schema.type_map.values():
        definition = type_.extensions.get(DEFINITION)
        if definition is None:
            continue
        if isinstance(type_, GraphQLInputObjectType):
            for field in type_.fields.values():
                field.out_name = field.extensions[DEFINITION].python_name
            # The constructor of graphql-core assigns it in the same way.
            type_.out_type = partial(_build, definition.origin)  # type: ignore[method-assign]
        elif isinstance(type_, GraphQLObjectType):
            for field in type_.fields.values():
                _resolve_directly(definition.origin, field)


def _build(input_type: type, values: Mapping[str, Any]) -> object:
    return input_type(**values)


def _resolve_directly(owner: type, field: GraphQLField) -> None:
    definition = field.extensions[DEFINITION]
    resolver = definition.base_resolver
    if resolver is None:
        field.resolve = Attribute(owner, definition.python_name)
    elif resolver.self_parameter and resolver.info_parameter:
        for argument in field.args.values():
            argument.out_name = argument.extensions[DEFINITION].python_name
        field.resolve = resolver.wrapped_func
