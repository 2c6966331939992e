"""GraphQL documents: parsed, held to the limits and validated once, then kept by their text."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
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

from campaign_gateway.graphql_http.limits import (
    COMMENT_LIMIT,
    ERROR_LIMIT,
    TOKEN_LIMIT,
    ListLengths,
    check_limits,
)
from campaign_gateway.graphql_http.one_of import (
    NAMES_SHOWN,
    OneOfLiterals,
    OneOfMemberVariables,
    shortened,
)

# What a gateway's clients send are a few dozen documents, over and over.
DOCUMENTS_KEPT = 128

DIGIT_LIMIT = 100


class InvalidRequest(Exception):
    """Nothing of the request was executed. `errors` are for the caller."""

    def __init__(self, errors: Iterable[GraphQLFormattedError]) -> None:
        super().__init__()
        self.errors = list(errors)


class HiddenSchema(ValidationRule):
    def enter_field(self, node: FieldNode, *_: Any) -> None:
        if node.name.value in {"__schema", "__type", "_service"}:
            self.report_error(GraphQLError("This gateway does not show its schema.", node))


@dataclass(frozen=True, slots=True)
class Document:
    """With `errors` it must not be executed. What is kept of it knows no locations.

    They would hold on to each token and comment; and an error looks its location up by reading the
    whole text, which a hundred of them do for a hundred entities that cannot be read.
    """

    ast: DocumentNode
    operations: tuple[OperationDefinitionNode, ...]
    errors: tuple[GraphQLFormattedError, ...]

    def operation(self, name: str | None) -> OperationDefinitionNode:
        """The operation to run. Raises `InvalidRequest` when that is not clear."""
        if name is None and len(self.operations) == 1:
            return self.operations[0]
        for each in self.operations:
            if each.name and each.name.value == name:
                return each
        names = [shortened(each.name.value) for each in self.operations if each.name]
        if self.errors and not names:
            raise InvalidRequest(self.errors)
        must = f"be {' or '.join(names[:NAMES_SHOWN])}" if names else "be left out"
        message = f"'operationName' must {must}, to say which operation of the document to run."
        raise InvalidRequest([GraphQLError(message).formatted])


class Documents:
    """Those that a schema can execute; with `introspection_disabled` they cannot ask for it or guess it."""

    def __init__(
        self, schema: GraphQLSchema, list_lengths: ListLengths, *, introspection_disabled: bool
    ) -> None:
        self._schema = schema
        self._list_lengths = list_lengths
        self._introspection_disabled = introspection_disabled
        self._read_once = lru_cache(DOCUMENTS_KEPT)(self._read)

    def read(self, text: str) -> Document:
        """Raises `InvalidRequest` for what cannot be parsed."""
        found = self._read_once(text)
        if isinstance(found, Document):
            return found
        raise InvalidRequest([found])

    def _read(self, text: str) -> Document | GraphQLFormattedError:
        try:
            located, ast = _parsed(text), _parsed(text, no_location=True)
        except GraphQLError as mistake:
            return mistake.formatted
        operations = [each for each in ast.definitions if isinstance(each, OperationDefinitionNode)]
        errors = [each.formatted for each in self._mistakes(located)]
        return Document(ast, tuple(operations), tuple(errors))

    def _mistakes(self, ast: DocumentNode) -> list[GraphQLError]:
        try:
            check_limits(ast, self._list_lengths)
            _check_numbers(ast)
        except GraphQLError as excess:
            return [excess]
        # What is wrong with a @oneOf would be told again, and less clearly, by the other rules.
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
            [_without_suggestion(each) for each in errors]
            if self._introspection_disabled
            else errors
        )


def _parsed(text: str, *, no_location: bool = False) -> DocumentNode:
    return parse(
        text,
        no_location=no_location,
        max_lexical_tokens=TOKEN_LIMIT,
        max_comments=COMMENT_LIMIT,
        allow_empty_selection_sets=False,
    )


def _without_suggestion(mistake: GraphQLError) -> GraphQLError:
    """Without the suggestions that some of graphql-core's rules make all the same."""
    return GraphQLError(mistake.message.partition(" Did you mean")[0], mistake.nodes)


def _check_numbers(ast: DocumentNode) -> None:
    """Raises `GraphQLError` for a number that is longer than Python reads."""
    token = ast.loc and ast.loc.start_token
    while token:
        if token.kind in {TokenKind.INT, TokenKind.FLOAT} and len(token.value or "") > DIGIT_LIMIT:
            raise GraphQLError("The document holds a number of too many digits.")
        token = token.next
