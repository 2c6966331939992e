"""Ids and numbers that must not change where a request goes, and valid ones."""

import re
import typing
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import httpx
import strawberry

from campaign_gateway.connectors.contract import ProviderRequest
from campaign_gateway.model import Refused
from campaign_gateway.sandbox.contract_suite.subject import assert_blames, flat

HOSTILE_IDS = [
    "", " ", ".", "..", "a/b", "../admin", "a\\b", "x?y", "a#b", "a&b", "a=b", "a;b", "a:b",
    "a@b", "%2e%2e", "%2F", "a b", "a\n", "a\r\nHost: evil.example", "a\x00b", "a\x7fb", "é", "٣",
    "a\u202eb", "\ud800", "<id/>", '"', "9" * 10_240, "a" * 10_240,
]  # fmt: skip
VALID_IDS = ["a", "0", "-", "_", "A-z_09", "a" * 128, "507f1f77bcf86cd799439011"]
HOSTILE_NUMBERS = [0, -1, -(2**31)]
VALID_NUMBERS = [1, 2**31 - 1]


def id_fields(copy_input: Any) -> tuple[list[str], list[str]]:
    """Return the names of the fields with ids: those of texts or lists of them, and of numbers."""
    hints = typing.get_type_hints(type(copy_input))
    texts = [name for name, hint in hints.items() if strawberry.ID in flat(hint)]
    numbers = [name for name, hint in hints.items() if hint is int and name.endswith("_id")]
    return texts, numbers


def with_ids(copy_input: Any, texts: list[str], numbers: list[int]) -> Iterator[tuple[str, Any]]:
    """Yield the input with each of the ids in each field that can hold one."""
    text_fields, number_fields = id_fields(copy_input)
    hints = typing.get_type_hints(type(copy_input))
    for name in text_fields:
        is_list = any(typing.get_origin(hint) is list for hint in flat(hints[name]))
        for text in texts:
            for value in [[text], ["valid", text]] if is_list else [text]:
                yield name, replace(copy_input, **{name: value})
    for name in number_fields:
        for number in numbers:
            yield name, replace(copy_input, **{name: number})


def hostile_inputs(copy_input: Any) -> Iterator[tuple[str, Any]]:
    """Yield the name of a GraphQL field, and the input with a hostile id in that field."""
    for name, hostile in with_ids(copy_input, HOSTILE_IDS, HOSTILE_NUMBERS):
        yield re.sub(r"_(\w)", lambda match: match[1].upper(), name), hostile


def assert_same_place(build: Callable[[Any], ProviderRequest], copy_input: Any) -> None:
    """No hostile id in the input changes the place of the built request. It may be refused."""
    for name, hostile in hostile_inputs(copy_input):
        try:
            request = build(hostile)
        except Refused as refusal:
            assert_blames(refusal, name)
        else:
            assert place_of(request) == place_of(build(copy_input))


def shown(text: object) -> str:
    """Return the name of a case for pytest's reports."""
    # pytest escapes backslashes, and does it again for each class that has the same test. Then the
    # name would depend on the order in which a worker collects the files.
    return ascii(text)[:40].replace("\\", "|")


def place_of(request: ProviderRequest) -> tuple[str, str, int, int]:
    """Return method, host and shape of the URL.

    The HTTP client and the standard library must parse the URL in the same way.
    """
    url = httpx.URL(request.url)
    parts = urlsplit(request.url)
    assert (url.scheme, url.host) == (parts.scheme, parts.hostname)
    assert url.raw_path.decode().partition("?")[0] == parts.path
    assert not parts.fragment
    assert re.fullmatch(r"[\x21-\x7e]+", request.url)
    return request.method, url.host, parts.path.count("/"), parts.query.count("&")
