"""The messages for what a provider's response leads to, and what a success proves."""

import re
from pathlib import Path

import pytest

import campaign_gateway
from campaign_gateway.connectors import errors
from campaign_gateway.connectors.contract import ProviderResponse
from campaign_gateway.model import Accepted, Campaign, Created, ErrorCode, WarningCode

PACKAGE = Path(campaign_gateway.__file__).parent
# The gateway alone sets these codes: no response of a provider leads to them.
OF_THE_GATEWAY = {
    ErrorCode.OVERLOADED,
    ErrorCode.IDEMPOTENCY_KEY_REUSED,
    ErrorCode.IDEMPOTENCY_KEY_EXPIRED,
    ErrorCode.UNRESOLVED_DUPLICATION,
    ErrorCode.UNKNOWN_ACCOUNT,
    ErrorCode.NOT_ALLOWED,
}


def test_every_code_of_a_response_has_a_message() -> None:
    assert errors.MESSAGES.keys() == set(ErrorCode) - OF_THE_GATEWAY


def test_connectors_use_no_code_without_a_message() -> None:
    files = sorted((PACKAGE / "connectors").rglob("*.py"))
    assert len(files) > 10
    for file in files:
        names = set(re.findall(r"ErrorCode\.([A-Z_]+)", file.read_text("utf-8")))
        assert {ErrorCode(name) for name in names} <= errors.MESSAGES.keys(), file


@pytest.mark.parametrize("code", errors.MESSAGES)
def test_message_names_the_provider(code: ErrorCode) -> None:
    failure = errors.failure("Acme", ProviderResponse(400, {}, b""), code)
    assert "Acme" in failure.error.message
    assert "{" not in failure.error.message


@pytest.mark.parametrize("is_final", [False, True])
@pytest.mark.parametrize("code", WarningCode)
def test_every_warning_has_a_message(code: WarningCode, *, is_final: bool) -> None:
    warning = errors.warning("Acme", code, "because\n", is_final=is_final)
    assert warning.message.startswith("The copy exists")
    assert "Acme" in warning.message
    assert (warning.provider_message, warning.is_final) == ("because ", is_final)


@pytest.mark.parametrize(
    ("status", "copy_id", "outcome"),
    [
        (201, "copy", Created(Campaign("copy"), "T-1")),
        (200, "copy", Created(Campaign("copy"), "T-1")),
        (201, None, Accepted("T-1")),
        (200, None, None),
        (204, None, None),
        (201, "Source", Accepted("T-1")),
        (201, "SOURCE", Accepted("T-1")),
        (200, "source", None),
        (302, "copy", None),
        (404, "copy", None),
        (500, "copy", None),
    ],
)
def test_success_proves_a_copy_by_its_body_or_its_documented_status(
    status: int, copy_id: str | None, outcome: Created | Accepted | None
) -> None:
    copy = Campaign(copy_id) if copy_id else None
    response = ProviderResponse(status, {}, b"")
    assert errors.success(response, copy, "Source", trace_id="T-1") == outcome


def test_success_without_a_documented_status_needs_a_copy() -> None:
    for status in range(200, 300):
        response = ProviderResponse(status, {}, b"")
        assert errors.success(response, None, "source", documented=None) is None
