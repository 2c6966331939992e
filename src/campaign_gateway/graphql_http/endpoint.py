"""GraphQL over HTTP, as github.com/graphql/graphql-over-http had it in 2025.

Requests that cannot be executed get 400 with `application/graphql-response+json`, and 200 with the
older `application/json`, which is also what a client gets that does not say what it accepts.
"""

import json
import logging
from collections.abc import Callable, Iterable, Mapping
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

from campaign_gateway.graphql_http.documents import Documents, InvalidRequest
from campaign_gateway.graphql_http.limits import ERROR_LIMIT, ListLengths
from campaign_gateway.graphql_http.request import (
    JSON,
    Parameters,
    Refusal,
    negotiate,
    read_parameters,
)
from campaign_gateway.graphql_http.variables import check_variables, without_value

log = logging.getLogger(__name__)

# What `extensions.code` says, so that a caller knows whether anything may have been done.
INVALID_REQUEST = "INVALID_REQUEST"
INTERNAL_ERROR = "INTERNAL_ERROR"

MASKED = "Internal error."
MESSAGE_LENGTH = 500
LOCATIONS_SHOWN = 10


class Outage(GraphQLError):
    """The error of a field that needs what is not available now; `cause` is for the log alone."""

    def __init__(self, message: str, code: str, cause: str) -> None:
        super().__init__(message, extensions={"code": code})
        self.cause = cause


class GraphQLOverHTTP:
    """The ASGI application at /graphql. With `introspection_disabled` it does not answer what it is."""

    def __init__(
        self,
        schema: GraphQLSchema,
        list_lengths: ListLengths,
        context: Callable[[], object],
        *,
        introspection_disabled: bool,
    ) -> None:
        self._schema = schema
        self._context = context
        self._introspection_disabled = introspection_disabled
        self._documents = Documents(
            schema, list_lengths, introspection_disabled=introspection_disabled
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            response = await self._respond(Request(scope, receive))
        except ClientDisconnect:
            # Nobody is left to answer, and somebody who hangs up is no fault to log.
            log.debug("a client hung up before its request was read")
            return
        await response(scope, receive, send)

    async def _respond(self, request: Request) -> Response:
        media_type = JSON
        try:
            if request.method not in {"GET", "POST"}:
                raise Refusal(405, "Use POST, or GET for queries.", {"allow": "GET, POST"})
            media_type = negotiate(",".join(request.headers.getlist("accept")))
            parameters = await read_parameters(request)
            result = await self._execute(parameters, may_mutate=request.method == "POST")
        except ClientDisconnect:
            raise
        except Refusal as refusal:
            told = [_told({"message": str(refusal)}, INVALID_REQUEST)]
            return _response(media_type, refusal.status, {"errors": told}, refusal.headers)
        except InvalidRequest as invalid:
            told = [_told(each, INVALID_REQUEST) for each in invalid.errors]
            return _response(media_type, 400 if media_type != JSON else 200, {"errors": told})
        except Exception:
            log.exception("a fault of the gateway's own")
            told = [_told({"message": MASKED}, INTERNAL_ERROR)]
            return _response(media_type, 500, {"errors": told})
        _log_outage(result.errors or ())
        errors = {"errors": [_outcome(each) for each in result.errors]} if result.errors else {}
        return _response(media_type, 200, {**errors, "data": result.data})

    async def _execute(self, parameters: Parameters, *, may_mutate: bool) -> ExecutionResult:
        """Raises `InvalidRequest` and `Refusal` if nothing was executed."""
        document = self._documents.read(parameters.query)
        operation = document.operation(parameters.operation_name)
        if operation.operation is not OperationType.QUERY and not may_mutate:
            raise Refusal(405, "Only queries may be sent with GET. Use POST.", {"allow": "POST"})
        if document.errors:
            raise InvalidRequest(document.errors)
        check_variables(
            self._schema,
            operation,
            parameters.variables,
            introspection_disabled=self._introspection_disabled,
        )
        result = execute(
            self._schema,
            document.ast,
            context_value=self._context(),
            variable_values=dict(parameters.variables),
            operation_name=parameters.operation_name,
            max_coercion_errors=ERROR_LIMIT,
            hide_suggestions=self._introspection_disabled,
        )
        if isawaitable(result):
            result = await result
        if result.data is None and result.errors and not any(each.path for each in result.errors):
            raise InvalidRequest({"message": without_value(each)} for each in result.errors)
        return result


def _response(
    media_type: str,
    status: int,
    content: Mapping[str, object],
    headers: Mapping[str, str] | None = None,
) -> Response:
    return Response(
        json.dumps(content, separators=(",", ":")),
        status,
        {
            "content-type": f"{media_type}; charset=utf-8",
            "cache-control": "no-store",
            **(headers or {}),
        },
    )


def _log_outage(errors: Iterable[GraphQLError]) -> None:
    """Log an outage once for a request, which may have many fields that it fails."""
    for error in errors:
        if isinstance(error.original_error, Outage):
            log.error("%s", error.original_error.cause)
            return


def _outcome(error: GraphQLError) -> GraphQLFormattedError:
    """A caller's mistakes are told to the caller alone, and the gateway's own faults to its log."""
    fault = error.original_error
    if fault is None or isinstance(fault, GraphQLError):
        return _told(error.formatted)
    log.error("a fault of the gateway's own", exc_info=fault)
    return _told({**error.formatted, "message": MASKED}, INTERNAL_ERROR)


def _told(error: GraphQLFormattedError, code: str | None = None) -> GraphQLFormattedError:
    """Without more of what the caller has sent than helps to find the mistake."""
    told: GraphQLFormattedError = {**error}
    if len(told["message"]) > MESSAGE_LENGTH:
        told["message"] = f"{told['message'][:MESSAGE_LENGTH]}..."
    if "locations" in told:
        told["locations"] = told["locations"][:LOCATIONS_SHOWN]
    if code is not None:
        told["extensions"] = {"code": code}
    return told
