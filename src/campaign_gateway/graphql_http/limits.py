"""What one document may ask for. Everything is measured in time linear to its length."""

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
)

from campaign_gateway.graphql_http.one_of import shortened

TOKEN_LIMIT = 1000
COMMENT_LIMIT = 1000
OPERATION_LIMIT = 20
FRAGMENT_LIMIT = 30
SPREAD_LIMIT = 100
DIRECTIVE_LIMIT = 30
ALIAS_LIMIT = 30
ROOT_FIELD_LIMIT = 10
DEPTH_LIMIT = 10
# Fields of one name are compared with each other, to see whether they can be merged.
SAME_FIELD_LIMIT = 50
# Values of the answer, if all of its lists are as long as they may be.
VALUE_LIMIT = 10_000
ERROR_LIMIT = 5

# How long the lists of an introspection are on average.
INTROSPECTION_LENGTHS: Mapping[str, float] = {
    "types": 50,
    "fields": 5,
    "args": 1,
    "inputFields": 2,
    "enumValues": 2,
    "interfaces": 0.1,
    "possibleTypes": 0.1,
    "ofType": 0.5,
    "directives": 10,
    "locations": 3,
}


@dataclass(frozen=True, slots=True)
class Page:
    """The length of a list that has an argument `first`."""

    default: int
    limit: int


# By the name of a field, how long its list can be at most, or is on average.
ListLengths = Mapping[str, float | Page]

Definition = FragmentDefinitionNode | OperationDefinitionNode


def check_limits(document: DocumentNode, list_lengths: ListLengths) -> None:
    """Raises `GraphQLError` for the first limit that the document exceeds."""
    fragments = [each for each in document.definitions if isinstance(each, FragmentDefinitionNode)]
    operations = [
        each for each in document.definitions if isinstance(each, OperationDefinitionNode)
    ]
    definitions: list[Definition] = [*fragments, *operations]
    selections = [each for definition in definitions for each in _selections(definition)]
    fields = [each for each in selections if isinstance(each, FieldNode)]
    variables = [each for operation in operations for each in operation.variable_definitions or ()]
    directives = [
        directive
        for each in (*definitions, *selections, *variables)
        for directive in each.directives or ()
    ]
    spreads = [each for each in selections if isinstance(each, FragmentSpreadNode)]
    aliases = [each for each in fields if each.alias]
    _check(len(operations), OPERATION_LIMIT, "operations")
    _check(len(fragments), FRAGMENT_LIMIT, "fragments")
    _check(len(spreads), SPREAD_LIMIT, "fragment spreads")
    _check(len(directives), DIRECTIVE_LIMIT, "directives")
    _check(len(aliases), ALIAS_LIMIT, "aliases")
    for name, count in Counter(_response_name(each) for each in fields).items():
        _check(count, SAME_FIELD_LIMIT, f"fields called '{shortened(name)}'")
    measure = _Measure({each.name.value: each for each in fragments}, list_lengths)
    for operation in operations:
        _check_operation(operation, measure)


def _check_operation(operation: OperationDefinitionNode, measure: "_Measure") -> None:
    roots = list(measure.roots(operation.selection_set, set()))
    copies = {_response_name(each) for each in roots if each.name.value != "__typename"}
    if operation.operation is OperationType.MUTATION and len(copies) > 1:
        raise GraphQLError(
            "One request makes one copy. Send a request of its own for each.", operation
        )
    _check(len(roots), ROOT_FIELD_LIMIT, "fields at the top")
    depth, values = measure.of(operation.selection_set)
    _check(depth, DEPTH_LIMIT, "levels of fields")
    _check(round(values), VALUE_LIMIT, "values in its answer")


def _check(count: int, limit: int, what: str) -> None:
    if count > limit:
        raise GraphQLError(f"The document asks for {count} {what}; up to {limit} are allowed.")


def _selections(
    definition: Definition,
) -> Iterator[FieldNode | FragmentSpreadNode | InlineFragmentNode]:
    """All that is written in the definition, without what its spreads stand for."""
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
    """Measures selections with what their spreads stand for, each fragment only once.

    A fragment that spreads itself adds nothing to itself here: validation refuses it.
    """

    def __init__(
        self, fragments: Mapping[str, FragmentDefinitionNode], list_lengths: ListLengths
    ) -> None:
        self._fragments = fragments
        self._list_lengths = {**INTROSPECTION_LENGTHS, **list_lengths}
        self._measured: dict[str, tuple[int, float]] = {}

    def of(self, selection_set: SelectionSetNode) -> tuple[int, float]:
        """Levels of fields, and values of the answer."""
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
        # The introspection that every tool sends is deeper than anything else, and harmless.
        is_introspection = selection.name.value.startswith("__")
        return 1 if is_introspection else 1 + depth, 1 + self._length(selection) * values

    def _length(self, field: FieldNode) -> float:
        length = self._list_lengths.get(field.name.value, 1)
        return _page_length(field, length) if isinstance(length, Page) else length

    def _of_fragment(self, name: str) -> tuple[int, float]:
        if name not in self._fragments:
            return 0, 0.0
        if name not in self._measured:
            self._measured[name] = 0, 0.0
            self._measured[name] = self.of(self._fragments[name].selection_set)
        return self._measured[name]

    def roots(self, selection_set: SelectionSetNode, spread: set[str]) -> Iterator[FieldNode]:
        """The fields at the top."""
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


def _page_length(field: FieldNode, page: Page) -> int:
    given = [each.value for each in field.arguments or () if each.name.value == "first"]
    if not given:
        return page.default
    first = given[0]
    # A variable may turn out to be anything, and many digits would take long to read.
    if not isinstance(first, IntValueNode) or len(first.value) > len(str(page.limit)):
        return page.limit
    return min(int(first.value), page.limit)
