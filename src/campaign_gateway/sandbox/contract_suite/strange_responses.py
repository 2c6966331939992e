"""Responses of a provider that are random, or have one wrong value."""

import copy
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from typing import Any
from xml.etree import ElementTree as ET

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from campaign_gateway.connectors.contract import ProviderResponse
from campaign_gateway.sandbox.contract_suite.calling import split_recording
from campaign_gateway.sandbox.contract_suite.subject import Subject


def _keys_in(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        yield from value
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _keys_in(item)


_COMMON_KEYS = [
    "id", "name", "status", "data", "error", "errors", "message", "code", "success", "result",
    "results", "items", "campaigns", "title", "type", "settings", "warnings", "paging",
]  # fmt: skip
_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from([0, "0", 404, 97, "97", "abc-1", "\ud800", "9" * 200, 10**40])
)


def try_random_responses(subject: Subject, check: Callable[[ProviderResponse], None]) -> None:
    """Call the check with each of 200 random responses. Raises what it raises, with a note."""
    for response in _random_responses(subject):
        try:
            check(response)
        except BaseException as error:
            error.add_note(f"The response was {response!r}")
            raise


@cache
def _random_responses(subject: Subject) -> Sequence[ProviderResponse]:
    # The cases of a connector share them, because one takes much longer to make than to parse.
    made: list[ProviderResponse] = []

    @settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(_responses_of(subject))
    def make(response: ProviderResponse) -> None:
        made.append(response)

    make()
    return made


def _responses_of(subject: Subject) -> st.SearchStrategy[ProviderResponse]:
    """Return random responses, and recorded ones with some bytes replaced.

    The latter keep most of their structure.
    """
    bodies = sorted({split_recording(path)[1] for path in subject.recordings()})
    recorded = {key for body in bodies if body[:1] == b"{" for key in _keys_in(json.loads(body))}
    keys = st.sampled_from(_COMMON_KEYS) | st.sampled_from(sorted({"id"} | recorded))
    values = st.recursive(
        _SCALARS, lambda inner: st.lists(inner) | st.dictionaries(keys, inner), max_leaves=12
    )
    spliced = st.builds(
        lambda body, start, length, inserted: body[:start] + inserted + body[start + length :],
        st.sampled_from(bodies),
        st.integers(0, 400),
        st.integers(0, 12),
        st.binary(max_size=8) | st.sampled_from([b"null", b"[]", b"{}", b"<x>", b"</data>", b"-1"]),
    )
    return st.builds(
        ProviderResponse,
        st.sampled_from([200, 201, 202, 400, 404, 409, 429, 440, 500]) | st.integers(100, 999),
        st.dictionaries(
            st.sampled_from(["retry-after", "x-ratelimit-reset", "x-request-id", "content-type"]),
            st.text(st.characters(max_codepoint=255)),
        ),
        st.binary() | values.map(lambda value: json.dumps(value).encode()) | spliced,
        st.booleans(),
    )


def damaged(response: ProviderResponse) -> Iterator[tuple[str, ProviderResponse]]:
    """Yield the response with each part of its body changed to each wrong value."""
    if b"<" in response.body[:1]:
        bodies = _damaged_xml(response.body)
    elif b"{" in response.body[:1]:
        bodies = _damaged_json(response.body)
    else:
        return
    for change, body in bodies:
        yield change, replace(response, body=body)


_REMOVED = object()
_PLACE = "the place of the wrong value"
_WRONG_VALUES: list[Any] = [
    _REMOVED, None, "", " ", "no id!", "../97", "9" * 1_000, "\ud800", "\x00", True, False, -1, 0.5,
    10**30, -(10**30), [], {}, ["no id!"], {"id": "no id!"}, "2026-05-01T12:00:00",
    "0001-01-01T00:00:00+23:59", "2026-05-01T12:00:00+02:00",
]  # fmt: skip


def _damaged_json(body: bytes) -> Iterator[tuple[str, bytes]]:
    whole = json.loads(body)
    for path in _paths_in(whole):
        # The rest of the body is the same for each wrong value.
        around = json.dumps(_changed(whole, path, _PLACE))
        for wrong in _WRONG_VALUES:
            if wrong is _REMOVED:
                changed = json.dumps(_changed(whole, path, _REMOVED))
            else:
                changed = around.replace(f'"{_PLACE}"', json.dumps(wrong))
            yield f"{path} became {str(wrong)[:40]!r}", changed.encode()


def _changed(value: Any, path: tuple[Any, ...], new: object) -> Any:
    """The value with another one, or with none, at the path."""
    if not path:
        return None if new is _REMOVED else new
    step, *rest = path
    copied = copy.copy(value)
    if rest or new is not _REMOVED:
        copied[step] = _changed(value[step], tuple(rest), new)
    else:
        del copied[step]
    return copied


def _paths_in(value: object, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield above
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for key, item in items:
        yield from _paths_in(item, (*above, key))


_WRONG_ELEMENTS = [
    "<{0}/>", "<{0}> </{0}>", "<{0}>no id!</{0}>", "<{0}>-1</{0}>", "<{0}>0.5</{0}>",
    "<{0}>true</{0}>", "<{0}>" + "9" * 1_000 + "</{0}>", "<{0}>&amp;lt;</{0}>",
    "<{0}><id>no id!</id></{0}>", "<{0}>1</{0}><{0}>2</{0}>", "<other/>", "<{0} value='97'/>",
    "<{0}>&undefined;</{0}>", "<{0}>",
]  # fmt: skip


def _damaged_xml(body: bytes) -> Iterator[tuple[str, bytes]]:
    count = sum(1 for _ in ET.fromstring(body).iter())
    for number in range(count):
        root = ET.fromstring(body)
        element = list(root.iter())[number]
        tag, tail = element.tag, element.tail
        element.clear()
        element.tag, element.tail = "damaged", tail
        # The rest of the body is the same for each wrong element.
        around = ET.tostring(root)
        for wrong in _WRONG_ELEMENTS:
            changed = around.replace(b"<damaged />", wrong.format(tag).encode())
            yield f"{tag} became {wrong[:40]}", changed
