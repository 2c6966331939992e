"""GraphQL documents: each is parsed, checked and validated once, then cached by its text."""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from graphql import (
    ASTValidationRule,
    DocumentNode,
    FieldNode,
    GraphQLError,
    GraphQLFormattedError,
    GraphQLSchema,
    OperationDefinitionNode,
    TokenKind,
    ValidationRule,
    parse,
    specified_rules,
    validate,
)

from campaign_gateway.web.graphql_http.garbage import one_search_for_garbage
from campaign_gateway.web.graphql_http.limits import (
    COMMENT_LIMIT,
    ERROR_LIMIT,
    TOKEN_LIMIT,
    ListLengths,
    check_limits,
    check_lines,
)
from campaign_gateway.web.graphql_http.one_of import (
    NAMES_SHOWN,
    OneOfLiterals,
    OneOfMemberVariables,
    shorten,
)
from campaign_gateway.web.graphql_http.plans import Plan, make_plan

# How many characters the cached documents may have together, and each of them. Clients of one
# gateway send the same few dozen documents again and again. In memory, a character of a document
# takes up to 100 bytes.
CACHED_LENGTH = 100_000
CACHED_DOCUMENT_LENGTH = 10_000

DIGIT_LIMIT = 100


class InvalidRequest(Exception):
    """The request is invalid and nothing of it was executed. `errors` are for the caller."""

    def __init__(self, errors: Iterable[GraphQLFormattedError]) -> None:
        super().__init__()
        self.errors = list(errors)


class HiddenSchema(ValidationRule):
    def enter_field(self, node: FieldNode, *_: Any) -> None:
        if node.name.value in {"__schema", "__type", "_service"}:
            self.report_error(GraphQLError("Introspection is disabled on this gateway.", node))


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed document. If it has `errors`, it must not be executed.

    `cost` is how many values its longest possible response counts.

    The cached `ast` has no locations, because they would keep every token and comment in memory.
    Each error would also scan the whole text for its location, and one response may have a hundred.
    """

    ast: DocumentNode
    operations: tuple[OperationDefinitionNode, ...]
    errors: tuple[GraphQLFormattedError, ...]
    cost: int
    # By the name of the operation.
    _plans: dict[str | None, Plan | None] = field(default_factory=dict)

    def operation(self, name: str | None) -> OperationDefinitionNode:
        """Return the operation to run. Raises `InvalidRequest` if it is ambiguous or missing."""
        if name is None and len(self.operations) == 1:
            return self.operations[0]
        for operation in self.operations:
            if operation.name and operation.name.value == name:
                return operation
        names = [shorten(operation.name.value) for operation in self.operations if operation.name]
        if self.errors and not names:
            raise InvalidRequest(self.errors)
        if names:
            choices = " or ".join(names[:NAMES_SHOWN])
            message = f"Set 'operationName' to the name of the operation to run: {choices}."
        else:
            message = "Omit 'operationName': the document has no operation with a name."
        raise InvalidRequest([GraphQLError(message).formatted])

    def plan(self, schema: GraphQLSchema, operation: OperationDefinitionNode) -> Plan | None:
        """Return the plan of one of its operations, or None if there is none."""
        name = operation.name.value if operation.name else None
        if name not in self._plans:
            self._plans[name] = make_plan(schema, self.ast, operation)
        return self._plans[name]


class Documents:
    """The cached documents of one schema.

    With `introspection_disabled`, documents cannot query the schema, and errors suggest no names.
    """

    def __init__(
        self, schema: GraphQLSchema, list_lengths: ListLengths, *, introspection_disabled: bool
    ) -> None:
        self._schema = schema
        self._list_lengths = list_lengths
        self._introspection_disabled = introspection_disabled
        # The document that was used last is at the end.
        self._cached: OrderedDict[str, Document | GraphQLFormattedError] = OrderedDict()
        self._cached_length = 0

    def parse(self, text: str) -> Document:
        """Return the document of this text. Raises `InvalidRequest` if it has a syntax error."""
        result = self._cached.get(text)
        if result is None:
            with one_search_for_garbage():
                result = self._parse(text)
            self._cache(text, result)
        else:
            self._cached.move_to_end(text)
        if isinstance(result, Document):
            return result
        raise InvalidRequest([result])

    def _cache(self, text: str, result: Document | GraphQLFormattedError) -> None:
        if len(text) > CACHED_DOCUMENT_LENGTH:
            return
        self._cached[text] = result
        self._cached_length += len(text)
        while self._cached_length > CACHED_LENGTH:
            oldest, _ = self._cached.popitem(last=False)
            self._cached_length -= len(oldest)

    def _parse(self, text: str) -> Document | GraphQLFormattedError:
        try:
            check_lines(text)
            located, ast = _parse_text(text), _parse_text(text, no_location=True)
        except GraphQLError as error:
            return error.formatted
        operations = [node for node in ast.definitions if isinstance(node, OperationDefinitionNode)]
        try:
            cost = check_limits(located, self._list_lengths)
            _check_numbers(located)
        except GraphQLError as error:
            return Document(ast, tuple(operations), (error.formatted,), 0)
        errors = [error.formatted for error in self._check(located)]
        return Document(ast, tuple(operations), tuple(errors), cost)

    def _check(self, ast: DocumentNode) -> list[GraphQLError]:
        # The @oneOf rules come first: the other rules report the same error less clearly.
        return self._validate(ast, (OneOfLiterals, OneOfMemberVariables)) or self._validate(
            ast, (*specified_rules, *([HiddenSchema] if self._introspection_disabled else []))
        )

    def _validate(
        self, ast: DocumentNode, rules: Iterable[type[ASTValidationRule]]
    ) -> list[GraphQLError]:
        errors = validate(
            self._schema,
            ast,
            tuple(rules),
            max_errors=ERROR_LIMIT,
            hide_suggestions=self._introspection_disabled,
            allow_empty_selection_sets=False,
        )
        return (
            [_without_suggestion(error) for error in errors]
            if self._introspection_disabled
            else errors
        )


def _parse_text(text: str, *, no_location: bool = False) -> DocumentNode:
    return parse(
        text,
        no_location=no_location,
        max_lexical_tokens=TOKEN_LIMIT,
        max_comments=COMMENT_LIMIT,
        allow_empty_selection_sets=False,
    )


def _without_suggestion(error: GraphQLError) -> GraphQLError:
    """Remove the suggestions that some rules of graphql-core add despite `hide_suggestions`."""
    return GraphQLError(error.message.partition(" Did you mean")[0], error.nodes)


def _check_numbers(ast: DocumentNode) -> None:
    """Raises `GraphQLError` for a number with more digits than Python converts."""
    token = ast.loc and ast.loc.start_token
    while token:
        if token.kind in {TokenKind.INT, TokenKind.FLOAT} and len(token.value or "") > DIGIT_LIMIT:
            raise GraphQLError("The document contains a number with too many digits.")
        token = token.next
