"""Limits of one document. All checks take time that is linear in its length."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    InlineFragmentNode,
    IntValueNode,
    OperationDefinitionNode,
    OperationType,
    SelectionNode,
    SelectionSetNode,
    VariableNode,
)

from campaign_gateway.web.graphql_http.one_of import shorten

# To find the line of an error, graphql-core goes through all lines before it, for each error.
LINE_LIMIT = 5000
TOKEN_LIMIT = 1000
COMMENT_LIMIT = 1000
OPERATION_LIMIT = 20
FRAGMENT_LIMIT = 30
SPREAD_LIMIT = 100
DIRECTIVE_LIMIT = 30
ALIAS_LIMIT = 30
# Characters of an alias. A response repeats it for each item of a list, and in the paths of errors.
ALIAS_LENGTH = 128
ROOT_FIELD_LIMIT = 10
DEPTH_LIMIT = 10
# Validation compares all fields of one name with each other, to see whether they can be merged.
SAME_FIELD_LIMIT = 50
# Values in the response, if all of its lists have their maximum length. What it takes to load their
# items counts as values too.
VALUE_LIMIT = 10_000
ERROR_LIMIT = 5

# The average lengths of the lists in an introspection.
INTROSPECTION_LENGTHS: Mapping[str, float] = {
    "types": 50,
    "fields": 5,
    "args": 1,
    "inputFields": 3,
    "enumValues": 2,
    "interfaces": 0.1,
    "possibleTypes": 0.1,
    "ofType": 0.5,
    "directives": 10,
    "locations": 3,
}


@dataclass(frozen=True, slots=True)
class Page:
    """The length of a list that an argument limits: it is a number, or it has a value per item.

    To load an item takes as long as `item_cost` values of a response.
    """

    default: int
    limit: int
    argument: str = "first"
    item_cost: int = 0


# Field name -> the maximum or average length of its list.
ListLengths = Mapping[str, float | Page]

Definition = FragmentDefinitionNode | OperationDefinitionNode


def check_lines(text: str) -> None:
    """Raises `GraphQLError` if the text of a document has too many lines."""
    _check(1 + text.count("\n") + text.count("\r") - text.count("\r\n"), LINE_LIMIT, "lines")


def check_limits(document: DocumentNode, list_lengths: ListLengths) -> int:
    """Return how many values the longest possible response of one operation counts.

    Raises `GraphQLError` for the first limit that the document exceeds.
    """
    fragments = [node for node in document.definitions if isinstance(node, FragmentDefinitionNode)]
    operations = [
        node for node in document.definitions if isinstance(node, OperationDefinitionNode)
    ]
    definitions: list[Definition] = [*fragments, *operations]
    selections = [node for definition in definitions for node in _selections(definition)]
    fields = [node for node in selections if isinstance(node, FieldNode)]
    variables = [node for operation in operations for node in operation.variable_definitions or ()]
    directives = [
        directive
        for node in (*definitions, *selections, *variables)
        for directive in node.directives or ()
    ]
    spreads = [node for node in selections if isinstance(node, FragmentSpreadNode)]
    aliases = [field for field in fields if field.alias]
    _check(len(operations), OPERATION_LIMIT, "operations")
    _check(len(fragments), FRAGMENT_LIMIT, "fragments")
    _check(len(spreads), SPREAD_LIMIT, "fragment spreads")
    _check(len(directives), DIRECTIVE_LIMIT, "directives")
    _check(len(aliases), ALIAS_LIMIT, "aliases")
    longest = max((len(_response_name(field)) for field in aliases), default=0)
    _check(longest, ALIAS_LENGTH, "characters in one alias")
    for name, count in Counter(_response_name(field) for field in fields).items():
        _check(count, SAME_FIELD_LIMIT, f"fields named '{shorten(name)}'")
    measure = _Measure(_fragments(document), list_lengths, {})
    return max((_check_operation(operation, measure) for operation in operations), default=0)


def request_cost(
    document: DocumentNode,
    operation: OperationDefinitionNode,
    list_lengths: ListLengths,
    variables: Mapping[str, object],
) -> int:
    """Return how many values the longest possible response with these variables counts."""
    fragments = _fragments(document)
    _, values = _Measure(fragments, list_lengths, variables).of(operation.selection_set)
    return round(values)


def _fragments(document: DocumentNode) -> Mapping[str, FragmentDefinitionNode]:
    return {
        node.name.value: node
        for node in document.definitions
        if isinstance(node, FragmentDefinitionNode)
    }


def _check_operation(operation: OperationDefinitionNode, measure: "_Measure") -> int:
    roots = list(measure.roots(operation.selection_set, set()))
    copies = {_response_name(field) for field in roots if field.name.value != "__typename"}
    if operation.operation is OperationType.MUTATION and len(copies) > 1:
        raise GraphQLError(
            "One request makes one copy. Send a separate request for each copy.", operation
        )
    _check(len(roots), ROOT_FIELD_LIMIT, "top-level fields")
    depth, values = measure.of(operation.selection_set)
    _check(depth, DEPTH_LIMIT, "levels of fields")
    _check(round(values), VALUE_LIMIT, "values in its longest possible response")
    return round(values)


def _check(count: int, limit: int, what: str) -> None:
    if count > limit:
        raise GraphQLError(f"The document has {count} {what}. The limit is {limit}.")


def _selections(
    definition: Definition,
) -> Iterator[FieldNode | FragmentSpreadNode | InlineFragmentNode]:
    """Yield the selections of the definition, without following fragment spreads."""
    pending: list[SelectionSetNode] = [definition.selection_set]
    while pending:
        for selection in pending.pop().selections:
            assert isinstance(selection, FieldNode | FragmentSpreadNode | InlineFragmentNode)
            yield selection
            if not isinstance(selection, FragmentSpreadNode) and selection.selection_set:
                pending.append(selection.selection_set)


def _response_name(field: FieldNode) -> str:
    return (field.alias or field.name).value


class _Measure:
    """Measures selections including their fragments. Each fragment is measured only once.

    A fragment that spreads itself counts as empty there: validation rejects it later.
    """

    def __init__(
        self,
        fragments: Mapping[str, FragmentDefinitionNode],
        list_lengths: ListLengths,
        variables: Mapping[str, object],
    ) -> None:
        self._fragments = fragments
        self._variables = variables
        self._list_lengths = {**INTROSPECTION_LENGTHS, **list_lengths}
        self._measured: dict[str, tuple[int, float]] = {}

    def of(self, selection_set: SelectionSetNode) -> tuple[int, float]:
        """Return the levels of fields, and the maximum number of values in the response."""
        depth, values = 0, 0.0
        for selection in selection_set.selections:
            more_depth, more_values = self._of_selection(selection)
            depth, values = max(depth, more_depth), values + more_values
        return depth, values

    def _of_selection(self, selection: SelectionNode) -> tuple[int, float]:
        if isinstance(selection, FragmentSpreadNode):
            return self._of_fragment(selection.name.value)
        assert isinstance(selection, FieldNode | InlineFragmentNode)
        inner = selection.selection_set
        depth, values = self.of(inner) if inner else (0, 0.0)
        if isinstance(selection, InlineFragmentNode):
            return depth, values
        # Every tool sends an introspection that is deeper than the limit, and it is harmless.
        is_introspection = selection.name.value.startswith("__")
        return 1 if is_introspection else 1 + depth, 1 + self._of_items(selection, values)

    def _of_items(self, field: FieldNode, values: float) -> float:
        length = self._list_lengths.get(field.name.value, 1)
        if isinstance(length, Page):
            return _page_length(field, length, self._variables) * (values + length.item_cost)
        return length * values

    def _of_fragment(self, name: str) -> tuple[int, float]:
        if name not in self._fragments:
            return 0, 0.0
        if name not in self._measured:
            self._measured[name] = 0, 0.0
            self._measured[name] = self.of(self._fragments[name].selection_set)
        return self._measured[name]

    def roots(self, selection_set: SelectionSetNode, spread: set[str]) -> Iterator[FieldNode]:
        """Yield the top-level fields, including those of fragments."""
        for selection in selection_set.selections:
            if isinstance(selection, FieldNode):
                yield selection
            elif isinstance(selection, InlineFragmentNode):
                yield from self.roots(selection.selection_set, spread)
            elif isinstance(selection, FragmentSpreadNode):
                name = selection.name.value
                if name in self._fragments and name not in spread:
                    spread.add(name)
                    yield from self.roots(self._fragments[name].selection_set, spread)


def _page_length(field: FieldNode, page: Page, variables: Mapping[str, object]) -> int:
    given = [each.value for each in field.arguments or () if each.name.value == page.argument]
    if not given:
        return page.default
    first = given[0]
    # Many digits would take long to convert.
    if isinstance(first, IntValueNode) and len(first.value) <= len(str(page.limit)):
        return min(int(first.value), page.limit)
    value = variables.get(first.name.value) if isinstance(first, VariableNode) else None
    if isinstance(value, list):
        return min(len(value), page.limit)
    if isinstance(value, int):
        return min(max(value, 0), page.limit)
    # A variable that is not known yet may have any value.
    return page.limit
