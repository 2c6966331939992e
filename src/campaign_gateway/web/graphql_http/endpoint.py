"""The GraphQL endpoint, after the draft of github.com/graphql/graphql-over-http of 2025.

A request that cannot be executed gets status 400 with `application/graphql-response+json`, and 200
with the older `application/json`. A client without an Accept header gets the older type.
"""

import json
import logging
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from inspect import isawaitable

from graphql import (
    ExecutionResult,
    GraphQLError,
    GraphQLFormattedError,
    GraphQLSchema,
    OperationType,
    execute,
)
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from campaign_gateway.observe.correlation import response_members
from campaign_gateway.observe.registry import CALLER_REFUSALS
from campaign_gateway.observe.traces import mark_failed, operation_span
from campaign_gateway.web.graphql_http.answer_budget import BudgetedExecutor
from campaign_gateway.web.graphql_http.documents import Documents, InvalidRequest
from campaign_gateway.web.graphql_http.garbage import one_search_for_garbage
from campaign_gateway.web.graphql_http.limits import ERROR_LIMIT, ListLengths, request_cost
from campaign_gateway.web.graphql_http.load import LARGE_COST, Load
from campaign_gateway.web.graphql_http.request import (
    INVALID_REQUEST,
    JSON,
    Parameters,
    RequestError,
    negotiate,
    read_parameters,
)
from campaign_gateway.web.graphql_http.variables import check_number, check_one_of, without_value

log = logging.getLogger(__name__)

# A value of `extensions.code`: something may have been executed.
INTERNAL_ERROR = "INTERNAL_ERROR"

MASKED = "Internal error."
MESSAGE_LENGTH = 500
LOCATIONS_SHOWN = 10

_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


class Outage(GraphQLError):
    """The error of a field whose data is not available now. Only the log contains `cause`."""

    def __init__(self, message: str, code: str, cause: str) -> None:
        super().__init__(message, extensions={"code": code})
        self.cause = cause


@dataclass(frozen=True, slots=True)
class Client:
    """Who sends a request. The schema is hidden from a client that may not introspect it."""

    name: str
    may_introspect: bool


class GraphQLOverHTTP:
    """The ASGI application at /graphql.

    `context` makes the value that resolvers get. `client` returns who sends a request.
    """

    def __init__(
        self,
        schema: GraphQLSchema,
        list_lengths: ListLengths,
        context: Callable[[Request], object],
        client: Callable[[Request], Client],
    ) -> None:
        self._schema = schema
        self._list_lengths = list_lengths
        self._context = context
        self._client = client
        self._load = Load()
        # With one cache for all clients, the time of a response would show whether another client
        # has sent the same document.
        self._documents: dict[Client, Documents] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            response = await self._respond(Request(scope, receive))
        except ClientDisconnect:
            # There is no client to respond to, and a client that disconnects is not an error.
            log.debug("a client disconnected before its request was read")
            return
        await response(scope, receive, send)

    async def _respond(self, request: Request) -> Response:
        media_type = JSON
        try:
            if request.method not in {"GET", "POST"}:
                raise RequestError(405, "Use POST, or GET for queries.", {"allow": "GET, POST"})
            media_type = negotiate(",".join(request.headers.getlist("accept")))
            parameters = await read_parameters(request)
            result = await self._execute(request, parameters)
        except ClientDisconnect:
            raise
        except RequestError as failure:
            CALLER_REFUSALS.labels(failure.code).inc()
            errors = [_shorten({"message": str(failure)}, failure.code)]
            return _response(media_type, failure.status, {"errors": errors}, failure.headers)
        except InvalidRequest as invalid:
            CALLER_REFUSALS.labels(INVALID_REQUEST).inc()
            errors = [_shorten(error, INVALID_REQUEST) for error in invalid.errors]
            return _response(media_type, 400 if media_type != JSON else 200, {"errors": errors})
        except Exception:
            log.exception("an internal error of the gateway")
            errors = [_shorten({"message": MASKED}, INTERNAL_ERROR)]
            return _response(media_type, 500, {"errors": errors})
        content: dict[str, object] = {"data": result.data}
        if result.errors:
            _log_outage(result.errors)
            content = {"errors": [_mask(error) for error in result.errors], **content}
        return _response(media_type, 200, content)

    def _documents_of(self, client: Client) -> Documents:
        documents = self._documents.get(client)
        if documents is None:
            documents = Documents(
                self._schema, self._list_lengths, introspection_disabled=not client.may_introspect
            )
            self._documents[client] = documents
        return documents

    async def _execute(self, request: Request, parameters: Parameters) -> ExecutionResult:
        """Execute the operation.

        Raises `InvalidRequest` or `RequestError` if nothing was executed.
        """
        client = self._client(request)
        document = self._documents_of(client).parse(parameters.query)
        operation = document.operation(parameters.operation_name)
        if operation.operation is not OperationType.QUERY and request.method != "POST":
            raise RequestError(
                405, "Only queries may be sent with GET. Use POST.", {"allow": "POST"}
            )
        if document.errors:
            raise InvalidRequest(document.errors)
        variables = parameters.variables
        check_number(variables)
        plan = document.plan(self._schema, operation)
        arguments = plan.arguments(variables) if plan else None
        if arguments is None:
            check_one_of(
                self._schema,
                operation,
                variables,
                introspection_disabled=not client.may_introspect,
            )
        cost = document.cost
        if cost > LARGE_COST:
            # The document alone does not say how long its lists are, if variables do.
            cost = request_cost(document.ast, operation, self._list_lengths, variables)
        name = operation.name.value if operation.name else None
        with operation_span(operation.operation.value, name, request.scope["headers"]) as span:
            async with self._load.admit(client.name, cost):
                context = self._context(request)
                resolved = None
                if plan is not None and arguments is not None:
                    resolved = await plan.resolve(context, arguments)
                    data = plan.data(resolved)
                    if data is not None:
                        return ExecutionResult(data)
                with one_search_for_garbage() if cost > LARGE_COST else nullcontext():
                    result = execute(
                        self._schema,
                        document.ast,
                        context_value=context,
                        variable_values=dict(variables),
                        operation_name=parameters.operation_name,
                        max_coercion_errors=ERROR_LIMIT,
                        executor_class=BudgetedExecutor,
                        hide_suggestions=not client.may_introspect,
                        middleware=None if resolved is None else [resolved],
                    )
                if isawaitable(result):
                    result = await result
            if result.errors:
                mark_failed(span, "GraphQLError")
        # Errors without a path come from the variables, before any field was executed.
        if result.data is None and result.errors and not any(error.path for error in result.errors):
            raise InvalidRequest({"message": without_value(error)} for error in result.errors)
        return result


def _response(
    media_type: str,
    status: int,
    content: Mapping[str, object],
    headers: Mapping[str, str] | None = None,
) -> Response:
    content = {**content, **response_members()}
    return Response(
        # A caller can send the escape of a lone surrogate, which is a character in no encoding.
        _encode(content).encode("utf-8", "replace"),
        status,
        {
            "content-type": f"{media_type}; charset=utf-8",
            "cache-control": "no-store",
            **(headers or {}),
        },
    )


def _log_outage(errors: Iterable[GraphQLError]) -> None:
    """Log an outage once per request, because many of its fields may fail for the same reason."""
    for error in errors:
        if isinstance(error.original_error, Outage):
            log.error("%s", error.original_error.cause)
            return


def _mask(error: GraphQLError) -> GraphQLFormattedError:
    """Return the error for the caller. An internal error is logged, and its message is hidden."""
    cause = error.original_error
    if cause is None or isinstance(cause, GraphQLError):
        return _shorten(error.formatted)
    log.error("an internal error of the gateway", exc_info=cause)
    return _shorten({**error.formatted, "message": MASKED}, INTERNAL_ERROR)


def _shorten(error: GraphQLFormattedError, code: str | None = None) -> GraphQLFormattedError:
    """Bound how much of the caller's own text an error repeats, and set its code."""
    # graphql-core prints null as Python does.
    message = error["message"].replace(" to be None", " to be null")
    shortened: GraphQLFormattedError = {**error, "message": message}
    if len(shortened["message"]) > MESSAGE_LENGTH:
        shortened["message"] = f"{shortened['message'][:MESSAGE_LENGTH]}..."
    if "locations" in shortened:
        shortened["locations"] = shortened["locations"][:LOCATIONS_SHOWN]
    if code is not None:
        shortened["extensions"] = {"code": code}
    return shortened
