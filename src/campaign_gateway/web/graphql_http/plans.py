"""Plans: how to execute an operation without a walk over its document in each request.

A plan covers what succeeds. graphql-core executes everything else, and reports every error. So the
texts of errors, null propagation and the limits of a response are in one place.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from inspect import isawaitable
from operator import attrgetter
from typing import Any, NamedTuple

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLArgument,
    GraphQLField,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLOutputType,
    GraphQLSchema,
    GraphQLUnionType,
    InlineFragmentNode,
    OperationDefinitionNode,
    SelectionNode,
    SelectionSetNode,
    Undefined,
    VariableNode,
    get_argument_values,
    is_leaf_type,
    is_nullable_type,
    is_required_argument,
)
from graphql.execution.get_variable_signature import (
    GraphQLVariableSignature,
    get_variable_signature,
)
from graphql.execution.values import VariableValues
from graphql.utilities.coerce_input_value import coerce_default_value

from campaign_gateway.web.graphql_http.readers import Read, reader
from campaign_gateway.web.graphql_http.writers import (
    Attribute,
    NotPlanned,
    Part,
    Size,
    Write,
    leaf_writer,
    list_writer,
    object_writer,
    owner_of,
    typename_part,
    union_writer,
)

# How many fields a plan may have; the mutation has 105. A plan is kept as long as its document, and
# a short one that spreads fragments under aliases would have thousands.
FIELD_LIMIT = 150


@dataclass(frozen=True, slots=True)
class Info:
    """What the resolver of a top-level field gets from a plan. graphql-core gives it more."""

    context: object


@dataclass(frozen=True, slots=True)
class Resolved:
    """What the resolver of the top-level field returned or raised."""

    value: Any = None
    error: Exception | None = None
    is_awaited: bool = False

    def resolve(self, resolve: Callable[..., Any], source: Any, info: Any, **arguments: Any) -> Any:
        """Stand in for that resolver, as a middleware of graphql-core."""
        if info.path.prev is not None:
            return resolve(source, info, **arguments)
        return self._again() if self.is_awaited else self._result()

    def _result(self) -> Any:
        if self.error is not None:
            raise self.error
        return self.value

    async def _again(self) -> Any:
        # The budget counts a field that is awaited before the fields within it.
        return self._result()


class _Source(NamedTuple):
    """Where an argument of the resolver comes from. `variable` is None for an omitted argument."""

    argument: GraphQLArgument
    name: str
    variable: str | None
    is_required: bool
    is_nullable: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """The plan of an operation with one top-level field."""

    variables: tuple[tuple[GraphQLVariableSignature, Read], ...]
    field: GraphQLField
    node: FieldNode
    # None if some of the arguments are literals.
    sources: tuple[_Source, ...] | None
    write: Write

    def arguments(self, variables: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the arguments of the resolver, or None if graphql-core has to read them."""
        coerced: dict[str, Any] = {}
        try:
            for signature, read in self.variables:
                value = variables.get(signature.name, Undefined)
                if value is not Undefined:
                    coerced[signature.name] = read(value)
                elif signature.default is not None:
                    coerced[signature.name] = coerce_default_value(signature)
                elif not is_nullable_type(signature.type):
                    return None
            if self.sources is None:
                return get_argument_values(self.field, self.node, VariableValues({}, coerced))
            return _from_variables(self.sources, coerced)
        except Exception:  # noqa: BLE001 - graphql-core meets it again, and reports it.
            return None

    async def resolve(self, context: object, arguments: Mapping[str, Any]) -> Resolved:
        assert self.field.resolve is not None
        is_awaited = False
        try:
            value = self.field.resolve(None, Info(context), **arguments)
            is_awaited = isawaitable(value)
            return Resolved(await value if is_awaited else value, is_awaited=is_awaited)
        except Exception as error:  # noqa: BLE001 - graphql-core raises it again, and reports it.
            return Resolved(error=error, is_awaited=is_awaited)

    def data(self, resolved: Resolved) -> dict[str, Any] | None:
        """Return the data of the response, or None if graphql-core has to make the response."""
        if resolved.error is not None:
            return None
        size = Size()
        try:
            data: dict[str, Any] = self.write(resolved, size)
            size.check()
        except Exception:  # noqa: BLE001 - graphql-core meets it again, and reports it.
            return None
        return data


def make_plan(
    schema: GraphQLSchema, document: DocumentNode, operation: OperationDefinitionNode
) -> Plan | None:
    """Return the plan of a valid operation, or None if only graphql-core can execute it."""
    root = schema.get_root_type(operation.operation)
    assert root is not None
    planner = _Planner(document)
    try:
        selected = planner.select([operation.selection_set], {root.name})
        # Several fields would run together, and the error of one could end the others.
        if len(selected) > 1 or operation.directives:
            raise NotPlanned
        ((name, nodes),) = selected.items()
        # Introspection is no field of the type.
        field = root.fields.get(nodes[0].name.value)
        if field is None:
            raise NotPlanned
        write = object_writer(Resolved, [planner.part(name, attrgetter("value"), field, nodes)])
        variables = _variables(schema, operation)
    # An input type that contains itself has no reader.
    except (NotPlanned, RecursionError):
        return None
    return Plan(variables, field, nodes[0], _sources(field, nodes[0]), write)


def _variables(
    schema: GraphQLSchema, operation: OperationDefinitionNode
) -> tuple[tuple[GraphQLVariableSignature, Read], ...]:
    signatures = [
        get_variable_signature(schema, node) for node in operation.variable_definitions or ()
    ]
    variables = tuple(
        (each, reader(each.type))
        for each in signatures
        if isinstance(each, GraphQLVariableSignature)
    )
    assert len(variables) == len(signatures), "the types of a valid operation's variables are known"
    return variables


def _sources(field: GraphQLField, node: FieldNode) -> tuple[_Source, ...] | None:
    nodes = node.arguments or ()
    variables = {
        each.name.value: each.value.name.value
        for each in nodes
        if isinstance(each.value, VariableNode)
    }
    if len(variables) < len(nodes):
        return None
    return tuple(
        _Source(
            argument,
            argument.out_name or name,
            variables.get(name),
            is_required_argument(argument),
            is_nullable_type(argument.type),
        )
        for name, argument in field.args.items()
    )


def _from_variables(sources: Iterable[_Source], coerced: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments. Raises `NotPlanned` if one is missing or null, and must not be."""
    arguments = {}
    for argument, name, variable, is_required, is_nullable in sources:
        value = Undefined if variable is None else coerced.get(variable, Undefined)
        if value is Undefined:
            if is_required:
                raise NotPlanned
            value = coerce_default_value(argument)
        elif value is None and not is_nullable:
            raise NotPlanned
        if value is not Undefined:
            arguments[name] = value
    return arguments


class _Planner:
    """Plans the selections of one document. Its methods raise `NotPlanned`.

    `nodes` are always the fields of the document that have one name in the response.
    """

    def __init__(self, document: DocumentNode) -> None:
        self._fragments = {
            node.name.value: node
            for node in document.definitions
            if isinstance(node, FragmentDefinitionNode)
        }
        self._fields_left = FIELD_LIMIT

    def part(
        self,
        name: str,
        read: Callable[[Any], Any],
        field: GraphQLField,
        nodes: Sequence[FieldNode],
    ) -> Part:
        return Part(name, read, is_nullable_type(field.type), self._writer(field.type, nodes))

    def _writer(self, type_: GraphQLOutputType, nodes: Sequence[FieldNode]) -> Write:
        if isinstance(type_, GraphQLNonNull):
            return self._writer(type_.of_type, nodes)
        if is_leaf_type(type_):
            return leaf_writer(type_)
        if isinstance(type_, GraphQLList):
            write_item = self._writer(type_.of_type, nodes)
            return list_writer(write_item, is_nullable=is_nullable_type(type_.of_type))
        if isinstance(type_, GraphQLObjectType):
            return self._object_writer(type_, {type_.name}, nodes)
        if isinstance(type_, GraphQLUnionType):
            return union_writer(
                {
                    owner_of(each): self._object_writer(each, {each.name, type_.name}, nodes)
                    for each in type_.types
                }
            )
        raise NotPlanned

    def _object_writer(
        self, type_: GraphQLObjectType, conditions: Collection[str], nodes: Sequence[FieldNode]
    ) -> Write:
        selection_sets = [node.selection_set for node in nodes if node.selection_set]
        parts = []
        for name, inner_nodes in self.select(selection_sets, conditions).items():
            field_name = inner_nodes[0].name.value
            if field_name == "__typename":
                parts.append(typename_part(name, type_.name))
                continue
            field = type_.fields[field_name]
            if not isinstance(field.resolve, Attribute):
                raise NotPlanned
            parts.append(self.part(name, field.resolve.read, field, inner_nodes))
        return object_writer(owner_of(type_), parts)

    def select(
        self, selection_sets: Iterable[SelectionSetNode], conditions: Collection[str]
    ) -> dict[str, list[FieldNode]]:
        """Return the selected fields by their names in the response, in its order.

        `conditions` are the types that a fragment for this object may name.
        """
        selected: dict[str, list[FieldNode]] = {}
        spread: set[str] = set()
        for selection_set in selection_sets:
            for field in self._fields(selection_set, conditions, spread):
                name = (field.alias or field.name).value
                selected.setdefault(name, []).append(field)
        self._fields_left -= len(selected)
        if self._fields_left < 0:
            raise NotPlanned
        return selected

    def _fields(
        self, selection_set: SelectionSetNode, conditions: Collection[str], spread: set[str]
    ) -> Iterator[FieldNode]:
        """Yield the fields, those of fragments too. `spread` are the fragments that were there."""
        for selection in selection_set.selections:
            if selection.directives:
                raise NotPlanned
            if isinstance(selection, FieldNode):
                yield selection
                continue
            fragment: SelectionNode | FragmentDefinitionNode = selection
            if isinstance(selection, FragmentSpreadNode):
                name = selection.name.value
                if name in spread:
                    continue
                spread.add(name)
                fragment = self._fragments[name]
            assert isinstance(fragment, InlineFragmentNode | FragmentDefinitionNode)
            condition = fragment.type_condition
            if condition is None or condition.name.value in conditions:
                yield from self._fields(fragment.selection_set, conditions, spread)
