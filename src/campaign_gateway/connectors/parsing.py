"""Writing requests that stay where they belong, and reading answers without trusting them."""

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs

from campaign_gateway.connectors.contract import ProviderResponse, UnexpectedResponse
from campaign_gateway.model import Campaign


def read_body(response: ProviderResponse) -> str | None:
    """The body as text, or None when it is not whole or not UTF-8.

    No other encoding is read, because secrets are redacted in UTF-8 alone.
    """
    try:
        return response.body.decode("utf-8-sig") if response.complete else None
    except UnicodeDecodeError:
        return None


def _itself(value: dict[str, Any]) -> dict[str, Any]:
    return value


# The hook changes nothing. But a decoder that runs no Python code holds Python's lock to the end of
# a long body, and the event loop would wait for it although it runs in another thread.
_DECODER = json.JSONDecoder(object_hook=_itself)


def read_json_object(response: ProviderResponse) -> dict[str, Any] | None:
    """The body as a JSON object, or None when it is not one."""
    try:
        value = _DECODER.decode(read_body(response) or "")
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def read_text(value: object, *names: str) -> str | None:
    """Non-empty text below the names, or None for anything else."""
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return _sound(value) if isinstance(value, str) and value.strip() else None


def read_texts(value: object, name: str) -> tuple[str, ...] | None:
    items = value.get(name) if isinstance(value, dict) else None
    if not isinstance(items, list):
        return None
    return tuple(_sound(item) for item in items if isinstance(item, str))


def read_number_as_id(value: object, *names: str) -> str | None:
    """The id of a provider that counts its campaigns, or None."""
    found = read_int(value, *names)
    return str(found) if found and found > 0 else None


def read_list(value: object, *names: str) -> list[Any] | None:
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, list) else None


def read_remarks(value: object, name: str) -> list[str]:
    """The messages of a list of errors or warnings, each with the `field` that it is about."""
    return [
        f"{field}: {message}" if (field := read_text(each, "field")) else message
        for each in read_list(value, name) or ()
        if (message := read_text(each, "message"))
    ]


def read_link_parameter(link: str | None, name: str) -> str | None:
    """A parameter of the link to the next page; to follow the link itself could lead anywhere."""
    found = parse_qs((link or "").partition("?")[2]).get(name)
    return found[0] if found else None


def _sound(value: str) -> str:
    # JSON can spell lone surrogates and NUL, which not every ledger or answer can carry.
    return value.replace("\0", "?").encode("utf-8", "replace").decode()


def read_id(value: object, *names: str) -> str | None:
    """An id the gateway could use again in a request, or None."""
    found = read_text(value, *names)
    return found if found and re.fullmatch(r"[A-Za-z0-9_-]{1,128}", found) else None


def read_int(value: object, *names: str) -> int | None:
    """A whole number of up to 18 digits, also one written as text, as XML and loose JSON do."""
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    if isinstance(value, str) and re.fullmatch(r'\s*"?[0-9]{1,18}"?\s*', value):
        return int(value.strip().strip('"'))
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return value if abs(value) < 10**18 else None


def read_instant(value: object, *names: str) -> datetime | None:
    """An ISO 8601 instant with its zone, in UTC; None rather than a guess."""
    found = read_text(value, *names)
    try:
        instant = datetime.fromisoformat(found) if found else None
        return instant.astimezone(UTC) if instant and instant.tzinfo else None
    except (ValueError, OverflowError):
        return None


def expect_success(response: ProviderResponse) -> None:
    """Raises `UnexpectedResponse` when a read was not answered well."""
    if not response.is_success or not response.complete:
        raise UnexpectedResponse(f"status {response.status}")


def read_listed(
    response: ProviderResponse, read: Callable[[Any], Campaign | None], *names: str
) -> list[Campaign]:
    """The campaigns of a list in JSON that stands below the names. Raises `UnexpectedResponse`."""
    expect_success(response)
    items = read_list(read_json_object(response), *names)
    if items is None:
        raise UnexpectedResponse("no list of campaigns")
    return [campaign for item in items if (campaign := read(item))]


def read_found(
    response: ProviderResponse,
    campaign_id: str,
    read: Callable[[Any], Campaign | None],
    *names: str,
) -> Campaign | None:
    """The campaign that stands below the names in JSON; None for a 404 of the provider's own.

    Raises `UnexpectedResponse`.
    """
    described: Any = read_json_object(response)
    if response.status == 404 and described is not None:
        return None
    expect_success(response)
    for name in names:
        described = described.get(name) if isinstance(described, dict) else None
    campaign = read(described)
    if campaign is None or campaign.id != campaign_id:
        raise UnexpectedResponse("no campaign")
    return campaign
