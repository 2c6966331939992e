"""Why a request is refused before anything of it is executed, and the response to it."""

import json
import logging
from collections.abc import Iterable, Mapping
from time import monotonic

from starlette.responses import Response

from campaign_gateway.observe.correlation import response_members
from campaign_gateway.web.graphql_http.request import JSON, RequestError, negotiate

log = logging.getLogger(__name__)

UNAUTHENTICATED = "UNAUTHENTICATED"
FORBIDDEN = "FORBIDDEN"
RATE_LIMITED = "RATE_LIMITED"

# The log has each reason once in this time, in seconds, because anybody can cause refusals.
LOG_SECONDS = 60.0


class CallerRefused(Exception):
    """Nothing of the request is executed. `reason` is for the log and has no credential in it."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        reason: str,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.reason = reason
        self.headers = headers or {}


class Unauthenticated(CallerRefused):
    """The request does not show which caller sends it. The response does not say why."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            401,
            UNAUTHENTICATED,
            "Send a valid key or token of a caller in the header `Authorization: Bearer ...`.",
            reason,
            {"www-authenticate": "Bearer"},
        )


def refusal_response(refusal: CallerRefused, accept: Iterable[str]) -> Response:
    """Return the refusal in the form of a GraphQL error. `accept` has the headers of that name."""
    try:
        media_type = negotiate(",".join(accept))
    except RequestError:
        media_type = JSON
    error = {"message": str(refusal), "extensions": {"code": refusal.code}}
    content = {"errors": [error], **response_members()}
    return Response(
        json.dumps(content, separators=(",", ":")),
        refusal.status,
        {
            "content-type": f"{media_type}; charset=utf-8",
            "cache-control": "no-store",
            **refusal.headers,
        },
    )


class RefusalLog:
    """Logs each reason of refusals at most once a minute, with their number since."""

    def __init__(self) -> None:
        self._silent_until: dict[str, float] = {}
        self._counts: dict[str, int] = {}

    def add(self, reason: str) -> None:
        count = self._counts.get(reason, 0) + 1
        if monotonic() < self._silent_until.get(reason, 0.0):
            self._counts[reason] = count
            return
        self._silent_until[reason] = monotonic() + LOG_SECONDS
        self._counts[reason] = 0
        log.warning("refused %s: %s", "a request" if count == 1 else f"{count} requests", reason)
