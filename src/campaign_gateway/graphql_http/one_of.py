"""@oneOf as the GraphQL specification of September 2025 has it (sections 3.10.1 and 5.6.5).

The gateway enforces it by itself, since some routers drop the directive, and with messages that
name the members, since some drop the location.
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

# How many of a caller's own words a message repeats, and how much of each.
NAMES_SHOWN = 5
NAME_LENGTH = 40


class OneOfLiterals(ValidationRule):
    """Refuses a literal that does not have exactly one member, or has it as null."""

    def enter_object_value(self, node: ObjectValueNode, *_: Any) -> None:
        given = [(each.name.value, isinstance(each.value, NullValueNode)) for each in node.fields]
        type_ = _one_of(get_named_type(self.context.get_input_type()))
        if type_ and _is_wrong(type_, given):
            message = _message(type_, given, introspection_disabled=self.context.hide_suggestions)
            self.report_error(GraphQLError(message, node))


class OneOfMemberVariables(ValidationRule):
    """Refuses a variable as a member if it could be null.

    graphql-core 3.3.2 has such a rule too, which misses the members of a non-null argument.
    """

    def leave_operation_definition(self, node: OperationDefinitionNode, *_: Any) -> None:
        definitions = {each.variable.name.value: each for each in node.variable_definitions or ()}
        for usage in self.context.get_recursive_variable_usages(node):
            name = usage.node.name.value
            type_ = _one_of(get_nullable_type(usage.parent_type))
            definition = definitions.get(name)
            if type_ and definition and not isinstance(definition.type, NonNullTypeNode):
                message = (
                    f"Variable '${name}' stands for a member of {type_}, which cannot be null. "
                    f"Declare it as '{usage.type}!'."
                )
                self.report_error(GraphQLError(message, [definition, usage.node]))


def one_of_mistakes(
    schema: GraphQLSchema,
    operation: OperationDefinitionNode,
    variables: Mapping[str, object],
    *,
    introspection_disabled: bool,
) -> list[str]:
    """What is wrong with the values of variables that are of a @oneOf type."""
    errors = []
    for definition in operation.variable_definitions or ():
        name = definition.variable.name.value
        type_ = _one_of(get_named_type(type_from_ast(schema, definition.type)))
        value = variables.get(name)
        if type_ is None or not isinstance(value, dict):
            continue
        given = [(member, part is None) for member, part in value.items()]
        if _is_wrong(type_, given):
            message = _message(type_, given, introspection_disabled=introspection_disabled)
            errors.append(f"Variable '${name}': {message}")
    return errors


def _one_of(type_: object) -> GraphQLInputObjectType | None:
    return type_ if isinstance(type_, GraphQLInputObjectType) and type_.is_one_of else None


def _is_wrong(type_: GraphQLInputObjectType, given: Sequence[tuple[str, bool]]) -> bool:
    """`given` has the members' names, and whether each is null."""
    return len(given) != 1 or given[0][0] not in type_.fields or given[0][1]


def _message(
    type_: GraphQLInputObjectType,
    given: Sequence[tuple[str, bool]],
    *,
    introspection_disabled: bool,
) -> str:
    members = "its members" if introspection_disabled else ", ".join(type_.fields)
    shown = [
        (shortened(name) or '""') + (" as null" if is_null else "")
        for name, is_null in given[:NAMES_SHOWN]
    ]
    more = ["and more"] if len(given) > NAMES_SHOWN else []
    advice = " Leave out what is null." if any(is_null for _, is_null in given) else ""
    return (
        f"{type_} takes exactly one of {members}. "
        f"Given: {', '.join([*shown, *more]) or 'none'}.{advice}"
    )


def shortened(name: str) -> str:
    return name if len(name) <= NAME_LENGTH else f"{name[:NAME_LENGTH]}..."
