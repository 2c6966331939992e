"""Limits a response while it is made, before there is any JSON of it."""

from json.encoder import encode_basestring
from typing import Any

from graphql import ExecutionResult, GraphQLError
from graphql.execution import Executor

# Bytes and values of a response. graphql-core takes about 12 microseconds for each value.
ANSWER_LIMIT = 2 * 1024 * 1024
ANSWER_VALUES = 6000

# What JSON adds to a name and its value: quotes, a colon, a comma, and the brackets of an object. A
# number, a Boolean or null takes the rest.
PUNCTUATION = 24

RESPONSE_TOO_LARGE = "RESPONSE_TOO_LARGE"


class BudgetedExecutor(Executor[Any]):
    """Executes an operation as long as its response is within the limits.

    Beyond them, the response has one error and no data, and the remaining fields are skipped.
    """

    _bytes_left = ANSWER_LIMIT
    _values_left = ANSWER_VALUES
    _error: GraphQLError | None = None

    def execute_field(
        self, parent_type: Any, source: Any, field_details_list: Any, path: Any, context: Any
    ) -> Any:
        if self._error is not None:
            return None
        completed = super().execute_field(parent_type, source, field_details_list, path, context)
        self._charge(path, completed)
        return completed

    def build_response(self, data: dict[str, Any] | None) -> Any:
        if self._error is not None:
            return ExecutionResult(None, [self._error])
        return super().build_response(data)

    def _charge(self, path: Any, completed: object) -> None:
        # The fields of objects were charged when they were completed.
        values, size = 1, len(path.key) + PUNCTUATION
        if isinstance(completed, str):
            size += _length(completed)
        elif isinstance(completed, list):
            lengths = [_length(text) for text in completed if isinstance(text, str)]
            values, size = len(lengths) or 1, size + sum(lengths)
        self._values_left -= values
        self._bytes_left -= size
        if self._error is None and (self._bytes_left < 0 or self._values_left < 0):
            self._error = _too_large(path.as_list())


def _length(text: str) -> int:
    """Return how many bytes a text takes in JSON."""
    quoted = encode_basestring(text)
    return len(quoted) if quoted.isascii() else len(quoted.encode("utf-8", "replace"))


def _too_large(path: list[str | int]) -> GraphQLError:
    return GraphQLError(
        f"The response would have more than {ANSWER_LIMIT // 1024**2} MiB or {ANSWER_VALUES} "
        "values. Ask for a smaller page, for fewer entities or for fewer fields. If this was a "
        "mutation, send it again with the same key to get its result.",
        path=path,
        extensions={"code": RESPONSE_TOO_LARGE},
    )
