"""The ledger keeps an input as JSON and as a hash: what later versions make of them."""

from dataclasses import dataclass, replace
from enum import StrEnum

import pytest

from campaign_gateway.duplication.intents import UnreadableInput, fingerprint, load_input


@dataclass(frozen=True)
class _Assets:
    ids: list[str]


class _Kind(StrEnum):
    EMAIL = "EMAIL"


@dataclass(frozen=True)
class _Input:
    account: str | None
    campaign_id: str
    kind: _Kind
    assets: list[_Assets] | None
    name: str | None = "a default"


def test_option_that_is_newer_than_the_record_is_loaded_as_omitted() -> None:
    recorded = (
        '{"account": "main", "campaign_id": "c", "kind": "EMAIL", "assets": [{"ids": ["1"]}]}'
    )
    assert load_input(_Input, recorded) == _Input("main", "c", _Kind.EMAIL, [_Assets(["1"])], None)


@pytest.mark.parametrize(
    "recorded",
    [
        "",
        "[]",
        '{"account": null, "kind": "EMAIL"}',
        '{"account": null, "campaign_id": "c", "kind": "SMS"}',
        '{"account": null, "campaign_id": "c", "kind": "EMAIL", "invented": true}',
        '{"account": null, "campaign_id": "c", "kind": "EMAIL", "assets": [{"invented": true}]}',
        '{"account": null, "campaign_id": "c", "kind": "EMAIL", "assets": ["1"]}',
    ],
)
def test_input_of_another_version_is_unreadable(recorded: str) -> None:
    with pytest.raises(UnreadableInput, match="the recorded input is not a _Input"):
        load_input(_Input, recorded)


def test_fingerprint_differs_for_another_provider_account_or_option() -> None:
    sparse = _Input(None, "c", _Kind.EMAIL, None, None)
    hashes = {
        fingerprint("stub", "main", sparse),
        fingerprint("other", "main", sparse),
        fingerprint("stub", "other", sparse),
        fingerprint("stub", "main", replace(sparse, name="")),
        fingerprint("stub", "main", replace(sparse, assets=[])),
    }
    assert len(hashes) == 5


def test_fingerprint_is_equal_with_an_option_that_is_new_and_null() -> None:
    @dataclass(frozen=True)
    class Newer(_Input):
        language: str | None = None

    older = _Input(None, "c", _Kind.EMAIL, None, None)
    newer = Newer(None, "c", _Kind.EMAIL, None, None)
    assert fingerprint("stub", "main", newer) == fingerprint("stub", "main", older)
