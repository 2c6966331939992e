"""Parses responses without trusting them: a value of the wrong type is None, never an error.

A `path` names a value in parsed JSON, level by level: "settings.title". The path "" is the whole.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

from campaign_gateway.connectors.contract import ProviderResponse, UnexpectedResponse
from campaign_gateway.model import Campaign, CampaignStatus

# Characters of a text, characters of a tag, and tags of a campaign. The ledger keeps them
# with the copy, and one response may repeat a hundred campaigns.
TEXT_LENGTH = 10_000
TAG_LENGTH = 200
TAG_LIMIT = 100
URL_LENGTH = 2000


def body_text(response: ProviderResponse) -> str | None:
    """Return the body as text, or None if it is incomplete or not UTF-8.

    Other encodings are not supported, because the gateway redacts secrets only in UTF-8.
    """
    try:
        return response.body.decode("utf-8-sig") if response.complete else None
    except UnicodeDecodeError:
        return None


def _unchanged(value: dict[str, Any]) -> dict[str, Any]:
    return value


# The hook changes nothing. Without it the decoder runs no Python code and keeps the interpreter's
# lock until the end of a long body, which blocks the event loop although this is another thread.
_DECODER = json.JSONDecoder(object_hook=_unchanged)


def json_object(response: ProviderResponse) -> dict[str, Any] | None:
    """Return the body as a JSON object, or None if it is not one."""
    value = _json(response)
    return value if isinstance(value, dict) else None


def json_array(response: ProviderResponse) -> list[Any] | None:
    """Return the body as a JSON array, or None if it is not one."""
    value = _json(response)
    return value if isinstance(value, list) else None


def _json(response: ProviderResponse) -> object:
    try:
        return _DECODER.decode(body_text(response) or "")
    except (ValueError, RecursionError):
        return None


def _value_at(value: object, path: str) -> object:
    for name in path.split(".") if path else ():
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def text(value: object, path: str = "") -> str | None:
    """Return non-empty text. A text that is too long is cut, and ends with dots."""
    value = _value_at(value, path)
    return _shorten(value, TEXT_LENGTH) if isinstance(value, str) and value.strip() else None


def texts(value: object, path: str) -> tuple[str, ...] | None:
    """Return the first texts of a list, without its other items."""
    values = items(value, path)
    if values is None:
        return None
    texts_only = [item for item in values if isinstance(item, str)]
    return tuple(_shorten(item, TAG_LENGTH) for item in texts_only[:TAG_LIMIT])


def items(value: object, path: str) -> list[Any] | None:
    """Return a list."""
    value = _value_at(value, path)
    return value if isinstance(value, list) else None


def remarks(value: object, path: str) -> list[str]:
    """Return the messages in a list of errors or warnings, each after the `field` it is about."""
    return [
        f"{field}: {message}" if (field := text(item, "field")) else message
        for item in items(value, path) or ()
        if (message := text(item, "message"))
    ]


def link_parameter(value: object, path: str, name: str) -> str | None:
    """Return a parameter of the link to the next page.

    The gateway does not follow the link itself, because it could lead to another host.
    """
    values = parse_qs((text(value, path) or "").partition("?")[2]).get(name)
    return values[0] if values else None


def _shorten(value: str, length: int) -> str:
    # JSON can contain lone surrogates and NUL, which some databases and GraphQL clients reject.
    value = value if len(value) <= length else f"{value[:length]}..."
    return value.replace("\0", "?").encode("utf-8", "replace").decode()


def safe_id(value: object, path: str) -> str | None:
    """Return an id that is safe in the URL of a later request."""
    identifier = text(value, path)
    return identifier if identifier and re.fullmatch(r"[A-Za-z0-9_-]{1,128}", identifier) else None


def number_as_id(value: object, path: str) -> str | None:
    """Return the number of a campaign as text, for providers that number them."""
    number = integer(value, path)
    return str(number) if number and number > 0 else None


def integer(value: object, path: str) -> int | None:
    """Return a whole number of up to 18 digits, also from text: XML and some JSON have it so."""
    value = _value_at(value, path)
    if isinstance(value, str) and re.fullmatch(r'\s*"?[0-9]{1,18}"?\s*', value):
        return int(value.strip().strip('"'))
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return value if abs(value) < 10**18 else None


def instant(value: object, path: str = "") -> datetime | None:
    """Return an ISO 8601 time in UTC. A time without a zone is None, because it is ambiguous."""
    iso_time = text(value, path)
    try:
        parsed = datetime.fromisoformat(iso_time) if iso_time else None
        return parsed.astimezone(UTC) if parsed and parsed.tzinfo else None
    except (ValueError, OverflowError):
        return None


def web_address(value: object, path: str) -> str | None:
    """Return an address that a person can follow: `https` with a host, and no user in it.

    Frontends show it as a link. Any other scheme, such as `javascript:`, could run code there.
    """
    address = text(value, path)
    if address is None or not re.fullmatch(rf"[!-~]{{1,{URL_LENGTH}}}", address):
        return None
    try:
        parts = urlsplit(address)
    except ValueError:
        return None
    is_link = parts.scheme == "https" and parts.hostname and "@" not in parts.netloc
    return address if is_link else None


def statuses(
    *,
    draft: Sequence[str] = (),
    scheduled: Sequence[str] = (),
    active: Sequence[str] = (),
    paused: Sequence[str] = (),
    completed: Sequence[str] = (),
    archived: Sequence[str] = (),
    unknown: Sequence[str] = (),
) -> Mapping[str, CampaignStatus]:
    """Return a provider's statuses, each with ours. `unknown` ones say too little."""
    return {
        **dict.fromkeys(draft, CampaignStatus.DRAFT),
        **dict.fromkeys(scheduled, CampaignStatus.SCHEDULED),
        **dict.fromkeys(active, CampaignStatus.ACTIVE),
        **dict.fromkeys(paused, CampaignStatus.PAUSED),
        **dict.fromkeys(completed, CampaignStatus.COMPLETED),
        **dict.fromkeys(archived, CampaignStatus.ARCHIVED),
        **dict.fromkeys(unknown, CampaignStatus.UNKNOWN),
    }


@dataclass(frozen=True, slots=True)
class CampaignFields:
    """The paths of a campaign's fields in a provider's JSON; None for a field that it lacks.

    `statuses` maps the provider's statuses. One that is missing there becomes `UNKNOWN`. `flags`
    maps paths with a value, such as ("archived", True). The first that the campaign has decides,
    before its status.
    `parse_id` returns the id in the field `id`. `url` is the path of the campaign's address in the
    provider's own interface.
    """

    statuses: Mapping[str, CampaignStatus] = field(default_factory=dict)
    flags: Mapping[tuple[str, bool | str], CampaignStatus] = field(default_factory=dict)
    parse_id: Callable[[object, str], str | None] = safe_id
    name: str = "name"
    status: str | None = "status"
    description: str | None = None
    tags: str | None = None
    created_at: str | None = None
    updated_at: str | None = None
    copied_from: str | None = None
    url: str | None = None

    def parse(self, data: object) -> Campaign | None:
        """Return the campaign, or None if `data` has no safe `id`."""
        campaign_id = self.parse_id(data, "id")
        if campaign_id is None:
            return None
        status = text(data, self.status) if self.status else None
        flags = (
            ours
            for (path, flag), ours in self.flags.items()
            # Without the type, 1 would be equal to True.
            if (value := _value_at(data, path)) == flag and type(value) is type(flag)
        )
        return Campaign(
            id=campaign_id,
            name=text(data, self.name),
            description=text(data, self.description) if self.description else None,
            status=next(flags, self.statuses.get(status or "", CampaignStatus.UNKNOWN)),
            provider_status=status,
            tags=texts(data, self.tags) if self.tags else None,
            created_at=instant(data, self.created_at) if self.created_at else None,
            updated_at=instant(data, self.updated_at) if self.updated_at else None,
            copied_from=safe_id(data, self.copied_from) if self.copied_from else None,
            url=web_address(data, self.url) if self.url else None,
        )


def expect_success(response: ProviderResponse) -> None:
    """Raise `UnexpectedResponse` if a read failed or its body is incomplete."""
    if not response.is_success or not response.complete:
        raise UnexpectedResponse(f"status {response.status}")


def expect_object(response: ProviderResponse) -> dict[str, Any]:
    """Return the JSON object that a read returned. Raises `UnexpectedResponse`."""
    expect_success(response)
    body = json_object(response)
    if body is None:
        raise UnexpectedResponse("no JSON object")
    return body


def campaigns(
    body: Mapping[str, Any], path: str, parse: Callable[[Any], Campaign | None]
) -> list[Campaign]:
    """Return the campaigns of a list. Raises `UnexpectedResponse` if there is no list."""
    values = items(body, path)
    if values is None:
        raise UnexpectedResponse("no list of campaigns")
    return [campaign for value in values if (campaign := parse(value))]


def one(
    response: ProviderResponse,
    campaign_id: str,
    parse: Callable[[Any], Campaign | None],
    path: str = "",
) -> Campaign | None:
    """Return the campaign in a JSON response; None for a 404 with JSON, the provider's own 404.

    Raises `UnexpectedResponse`.
    """
    data = json_object(response)
    if response.status == 404 and data is not None:
        return None
    expect_success(response)
    return expect_campaign(parse(_value_at(data, path)), campaign_id)


def expect_campaign(campaign: Campaign | None, campaign_id: str) -> Campaign:
    """Return the campaign. Raises `UnexpectedResponse` if it is not the one with this id."""
    if campaign is None or campaign.id != campaign_id:
        raise UnexpectedResponse("no campaign")
    return campaign
