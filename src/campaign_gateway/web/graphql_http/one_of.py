"""Rules for @oneOf, after the GraphQL specification of September 2025, sections 3.10.1 and 5.6.5.

The gateway enforces @oneOf itself, because some routers drop the directive. Its messages name the
members, because some routers drop the location of an error.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from graphql import (
    GraphQLError,
    GraphQLInputObjectType,
    GraphQLSchema,
    NonNullTypeNode,
    NullValueNode,
    ObjectValueNode,
    OperationDefinitionNode,
    ValidationRule,
    get_named_type,
    get_nullable_type,
    type_from_ast,
)

# How many names of the caller's request a message repeats, and how many characters of each.
NAMES_SHOWN = 5
NAME_LENGTH = 40


class OneOfLiterals(ValidationRule):
    """Rejects a literal unless it has exactly one member and that member is not null."""

    def enter_object_value(self, node: ObjectValueNode, *_: Any) -> None:
        members = [
            (field.name.value, isinstance(field.value, NullValueNode)) for field in node.fields
        ]
        type_ = _one_of(get_named_type(self.context.get_input_type()))
        if type_ and not _is_valid(type_, members):
            message = _message(type_, members, introspection_disabled=self.context.hide_suggestions)
            self.report_error(GraphQLError(message, node))


class OneOfMemberVariables(ValidationRule):
    """Rejects a variable as a member if it could be null.

    graphql-core 3.3.2 has such a rule too, but it misses the members of a non-null argument.
    """

    def leave_operation_definition(self, node: OperationDefinitionNode, *_: Any) -> None:
        definitions = {
            definition.variable.name.value: definition
            for definition in node.variable_definitions or ()
        }
        for usage in self.context.get_recursive_variable_usages(node):
            name = usage.node.name.value
            type_ = _one_of(get_nullable_type(usage.parent_type))
            definition = definitions.get(name)
            if type_ and definition and not isinstance(definition.type, NonNullTypeNode):
                message = (
                    f"Variable '${name}' is used as a member of {type_}. A member cannot be null. "
                    f"Declare it as '{usage.type}!'."
                )
                self.report_error(GraphQLError(message, [definition, usage.node]))


def one_of_errors(
    schema: GraphQLSchema,
    operation: OperationDefinitionNode,
    variables: Mapping[str, object],
    *,
    introspection_disabled: bool,
) -> list[str]:
    """Return a message for each invalid value among the variables of a @oneOf type."""
    errors = []
    for definition in operation.variable_definitions or ():
        name = definition.variable.name.value
        type_ = _one_of(get_named_type(type_from_ast(schema, definition.type)))
        value = variables.get(name)
        if type_ is None or not isinstance(value, dict):
            continue
        members = [(member, part is None) for member, part in value.items()]
        if not _is_valid(type_, members):
            message = _message(type_, members, introspection_disabled=introspection_disabled)
            errors.append(f"Variable '${name}': {message}")
    return errors


def _one_of(type_: object) -> GraphQLInputObjectType | None:
    return type_ if isinstance(type_, GraphQLInputObjectType) and type_.is_one_of else None


def _is_valid(type_: GraphQLInputObjectType, members: Sequence[tuple[str, bool]]) -> bool:
    """`members` has the name of each member, and whether it is null."""
    if len(members) != 1:
        return False
    ((name, is_null),) = members
    return name in type_.fields and not is_null


def _message(
    type_: GraphQLInputObjectType,
    members: Sequence[tuple[str, bool]],
    *,
    introspection_disabled: bool,
) -> str:
    choices = "its members" if introspection_disabled else ", ".join(type_.fields)
    shown = [
        (shorten(name) or '""') + (" as null" if is_null else "")
        for name, is_null in members[:NAMES_SHOWN]
    ]
    more = ["and more"] if len(members) > NAMES_SHOWN else []
    advice = " Omit members that are null." if any(is_null for _, is_null in members) else ""
    return (
        f"{type_} takes exactly one of {choices}. "
        f"Received: {', '.join([*shown, *more]) or 'none'}.{advice}"
    )


def shorten(name: str) -> str:
    return name if len(name) <= NAME_LENGTH else f"{name[:NAME_LENGTH]}..."
