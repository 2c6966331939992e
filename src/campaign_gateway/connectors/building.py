"""Checks the input, and builds requests whose ids cannot change the URL."""

import base64
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import TypeVar
from urllib.parse import urlencode

from campaign_gateway.connectors.contract import CopyInput, ProviderRequest
from campaign_gateway.model import ErrorCode, Refused, UserError

Item = TypeVar("Item")
Checked = TypeVar("Checked")

# Characters of a name, and of any other text, if the provider does not allow fewer.
NAME_LENGTH = 1000
TEXT_LENGTH = 5000


def check_lengths(copy_input: CopyInput) -> None:
    """Raises `Refused` for a text that is too long. Every input is checked before its connector.

    Without a limit, one response with a page of duplications could repeat megabytes.
    """
    for path, text in _texts(copy_input, ()):
        _require_max_length(text, path[0], NAME_LENGTH if path == ("name",) else TEXT_LENGTH)


def _texts(value: object, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield each text of an input, and the GraphQL names of the fields that lead to it."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item, path)
    elif is_dataclass(value):
        for field_name, name in _names_of(value.__class__):
            member = getattr(value, field_name)
            if member is not None:
                yield from _texts(member, (*path, name))


@cache
def _names_of(input_type: type) -> list[tuple[str, str]]:
    """Return the fields of an input, with their names in GraphQL."""
    return [(field.name, _graphql_name(field.name)) for field in fields(input_type)]


def _graphql_name(field_name: str) -> str:
    first, *others = field_name.split("_")
    return first + "".join(each.capitalize() for each in others)


def invalid_input(field_name: str, message: str) -> Refused:
    return Refused(UserError(ErrorCode.INVALID_INPUT, message, field=(field_name,)))


def require_id(value: str, field_name: str) -> str:
    """Return an id that cannot leave its place in a URL. Raises `Refused`.

    Quoting alone is not enough: it keeps `..`, and HTTP clients then shorten the path.
    """
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,128}", value):
        raise invalid_input(
            field_name, f"{field_name} must be 1 to 128 letters, digits, '-' or '_'."
        )
    return value


def require_line(value: str, field_name: str, max_length: int | None = None) -> str:
    """Return text without line breaks, because XML can change them. Raises `Refused`.

    `max_length` is in characters.
    """
    if re.search(r"[\t\r\n\x85\u2028\u2029]", value):
        raise invalid_input(field_name, f"{field_name} must be one line, without tabs.")
    return _require_max_length(require_text(value, field_name), field_name, max_length)


def require_text(value: str, field_name: str) -> str:
    """Return text that any provider's JSON or XML can hold. Raises `Refused`."""
    if not value.strip():
        raise invalid_input(field_name, f"{field_name} must not be empty.")
    # XML 1.0 cannot represent these characters, and a lone surrogate has no encoding at all.
    if re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]", value):
        raise invalid_input(
            field_name, f"{field_name} must not contain control or other invalid characters."
        )
    return value


def optional_line(value: str | None, field_name: str, max_length: int | None = None) -> str | None:
    """Like `require_line`, but returns None for None. Raises `Refused`."""
    return None if value is None else require_line(value, field_name, max_length)


def optional_text(value: str | None, field_name: str, max_length: int | None = None) -> str | None:
    """Like `require_text`, but returns None for None and for "", which forms send.

    `max_length` is in characters. Raises `Refused`.
    """
    if not value:
        return None
    return _require_max_length(require_text(value, field_name), field_name, max_length)


def name_for_rename(copy_input: CopyInput, max_length: int | None = None) -> str | None:
    """Return the requested name, checked. `max_length` is in characters. Raises `Refused`.

    A connector that renames copies calls this in `build_request` too. When the copy exists, it is
    too late to reject the name.
    """
    return optional_line(copy_input.name, "name", max_length)


def _require_max_length(value: str, field_name: str, max_length: int | None) -> str:
    if max_length is not None and len(value) > max_length:
        raise invalid_input(field_name, f"{field_name} must have {max_length} characters at most.")
    return value


def require_items(
    items: Iterable[Item], field_name: str, require: Callable[[Item, str], Checked]
) -> list[Checked]:
    """Return the items of a list, checked by `require`. Raises `Refused` with the item's number."""
    checked: list[Checked] = []
    for number, item in enumerate(items, 1):
        try:
            checked.append(require(item, field_name))
        except Refused as refusal:
            message = f"Item {number} of {refusal.error.message}"
            raise invalid_input(field_name, message) from None
    return checked


def optional_items(
    items: Iterable[Item] | None, field_name: str, require: Callable[[Item, str], Checked]
) -> list[Checked] | None:
    """Like `require_items`, but returns None for None. Raises `Refused`."""
    return None if items is None else require_items(items, field_name, require)


def requested(copy_input: CopyInput, *field_names: str) -> list[str]:
    """Return those of the GraphQL fields that the input has."""
    values = {_graphql_name(name): value for name, value in vars(copy_input).items()}
    return [name for name in field_names if values.get(name) is not None]


def audience(
    copy_input: CopyInput, included: tuple[str, str], excluded: tuple[str, str]
) -> dict[str, object] | None:
    """Return the lists of ids who gets a copy and who does not, or None if the input has neither.

    Each is the name in GraphQL, and the one at the provider. Raises `Refused`.
    """
    values = {_graphql_name(name): value for name, value in vars(copy_input).items()}
    ids = [optional_items(values[name], name, require_id) for name, _ in (included, excluded)]
    if ids[0] is None and ids[1] is not None:
        raise invalid_input(
            excluded[0], f"{excluded[0]} needs {included[0]}. Set both, or omit {excluded[0]}."
        )
    if ids[0] is not None and not ids[0]:
        raise invalid_input(included[0], f"{included[0]} must have at least one id.")
    return None if ids[0] is None else {included[1]: ids[0], excluded[1]: ids[1] or []}


def optional_instant(value: str | None, field_name: str) -> str | None:
    """Return an ISO 8601 time with its zone, and None for None. Raises `Refused`."""
    if value is None:
        return None
    try:
        instant = datetime.fromisoformat(value)
    except ValueError:
        instant = None
    offset = instant.utcoffset() if instant else None
    # Python takes an offset with seconds, and RFC 3339 does not.
    if instant is None or offset is None or offset % timedelta(minutes=1):
        example = "2027-03-01T09:00:00+01:00"
        raise invalid_input(
            field_name, f'{field_name} must be a time with its time zone, such as "{example}".'
        )
    return instant.isoformat(timespec="seconds")


def require_positive(number: int, field_name: str) -> int:
    """Return the number. Raises `Refused` if it is below 1."""
    if number < 1:
        raise invalid_input(field_name, f"{field_name} must be a whole number above 0.")
    return number


def id_as_number(campaign_id: str, title: str) -> int:
    """Return the number of a campaign, for providers that number them. Raises `Refused`."""
    if not re.fullmatch(r"[0-9]{1,18}", campaign_id):
        raise invalid_input("id", f"{title}'s ids are whole numbers.")
    return require_positive(int(campaign_id), "id")


def omit_none(fields: Mapping[str, object | None]) -> dict[str, object]:
    """Return the fields that are not None."""
    return {name: value for name, value in fields.items() if value is not None}


def with_query(path: str, fields: Mapping[str, object | None], safe: str = "") -> str:
    """Return the path with the fields that are not None as its query. A list is a repeated field.

    `safe` has the characters that stay unescaped.
    """
    return f"{path}?{urlencode(omit_none(fields), doseq=True, safe=safe)}"


def json_body(fields: Mapping[str, object | None]) -> bytes:
    """Return the fields that are not None as a JSON object."""
    return json.dumps(omit_none(fields), ensure_ascii=False, separators=(",", ":")).encode()


# The media type of `form_body`.
FORM = "application/x-www-form-urlencoded"


def form_body(fields: Mapping[str, object | None]) -> bytes:
    """Return the fields that are not None as a form. A value that is no text is JSON."""
    values = {
        name: value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
        for name, value in omit_none(fields).items()
    }
    return urlencode(values).encode()


def basic_auth(user: str, password: str) -> str:
    """Return the value of an `Authorization` header (RFC 7617)."""
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


def api_request(
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: bytes = b"",
    media_type: str = "application/json",
) -> ProviderRequest:
    """Return a request that asks for JSON. `media_type` is the body's, if there is a body."""
    content_type = {"content-type": media_type} if body else {}
    all_headers = {"accept": "application/json", **headers, **content_type}
    return ProviderRequest(method, url, all_headers, body)
