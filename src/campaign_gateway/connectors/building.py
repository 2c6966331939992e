"""Builds requests whose ids cannot change the URL."""

import base64
import json
import re
from collections.abc import Mapping
from urllib.parse import urlencode

from campaign_gateway.connectors.contract import ProviderRequest
from campaign_gateway.model import ErrorCode, Refused, UserError


def invalid_input(field_name: str, message: str) -> Refused:
    return Refused(UserError(ErrorCode.INVALID_INPUT, message, field=(field_name,)))


def identifier(value: str, field_name: str) -> str:
    """An id that cannot leave its place in a URL.

    Quoting is not enough: `..` survives it and HTTP clients then fold the path. Raises `Refused`.
    """
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,128}", value):
        raise invalid_input(
            field_name, f"{field_name} must be 1 to 128 letters, digits, '-' or '_'."
        )
    return value


def line(value: str, field_name: str, longest: int | None = None) -> str:
    """Text without line breaks, which XML would not carry unchanged. Raises `Refused`.

    `longest` is in characters.
    """
    if re.search(r"[\t\r\n\x85\u2028\u2029]", value):
        raise invalid_input(field_name, f"{field_name} must be one line, without tabs.")
    return _short(text(value, field_name), field_name, longest)


def text(value: str, field_name: str) -> str:
    """Text that any provider's JSON or XML can carry. Raises `Refused`."""
    if not value.strip():
        raise invalid_input(field_name, f"{field_name} must not be empty.")
    # XML 1.0 has no way to write these, and lone surrogates cannot be encoded at all.
    if re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]", value):
        raise invalid_input(
            field_name, f"{field_name} must not hold characters that XML cannot carry."
        )
    return value


def optional_line(value: str | None, field_name: str, longest: int | None = None) -> str | None:
    """As `line`, for what may be left out. `longest` is in characters. Raises `Refused`."""
    return None if value is None else line(value, field_name, longest)


def optional_text(value: str | None, field_name: str, longest: int | None = None) -> str | None:
    """As `text`, for what may be left out, or empty as forms have it. Raises `Refused`."""
    return _short(text(value, field_name), field_name, longest) if value else None


def _short(value: str, field_name: str, longest: int | None) -> str:
    if longest is not None and len(value) > longest:
        raise invalid_input(field_name, f"{field_name} must have {longest} characters at most.")
    return value


def positive(number: int, field_name: str) -> int:
    """Raises `Refused`."""
    if number < 1:
        raise invalid_input(field_name, f"{field_name} must be a whole number above 0.")
    return number


def number_as_id(campaign_id: str, title: str) -> int:
    """The number that an id is at providers that count their campaigns. Raises `Refused`."""
    if not re.fullmatch(r"[0-9]{1,18}", campaign_id):
        raise invalid_input("id", f"{title}'s ids are whole numbers.")
    return positive(int(campaign_id), "id")


def json_body(fields: Mapping[str, object | None]) -> bytes:
    """Fields that are None are left out."""
    present = {name: value for name, value in fields.items() if value is not None}
    return json.dumps(present, ensure_ascii=False, separators=(",", ":")).encode()


# The media type of what `form_body` writes.
FORM = "application/x-www-form-urlencoded"


def form_body(fields: Mapping[str, object | None]) -> bytes:
    """A form in which whatever is no text is JSON. Fields that are None are left out."""
    written = {
        name: value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
        for name, value in fields.items()
        if value is not None
    }
    return urlencode(written).encode()


def basic(user: str, password: str) -> str:
    """The value of an `Authorization` header (RFC 7617)."""
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


def api_request(
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: bytes = b"",
    media_type: str = "application/json",
) -> ProviderRequest:
    """A request for an answer in JSON. `media_type` is that of the body, if there is one."""
    written = {"content-type": media_type} if body else {}
    return ProviderRequest(method, url, {"accept": "application/json", **headers, **written}, body)
