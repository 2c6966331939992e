"""The settings of callers and of the tokens that they may send."""

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from campaign_gateway.callers.caller import Right
from campaign_gateway.callers.keys import KeySource, parse_hash
from campaign_gateway.connectors.account_settings import resolve_secret


def _key_sources(setting: object) -> tuple[KeySource, ...]:
    sources = setting if isinstance(setting, list) else [setting]
    return tuple(_key_source(source) for source in sources)


def _key_source(setting: object) -> KeySource:
    hashes = tuple(parse_hash(stored) for stored in resolve_secret(setting).split())
    if not hashes:
        raise ValueError("is empty; store the hash that `campaign-gateway key create` prints")
    file = Path(setting["file"]) if isinstance(setting, dict) and "file" in setting else None
    return KeySource(hashes, file)


def _split_list(setting: object) -> object:
    # An environment variable has a list as one text.
    return [part.strip() for part in setting.split(",")] if isinstance(setting, str) else setting


class CallerSettings(BaseModel):
    """One caller: its keys, the accounts that it may use, and what it may do there.

    `key` is where the hashes of its keys are stored: one source or a list of them. A caller
    without a key sends tokens, see `JwtSettings`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    key: Annotated[
        tuple[KeySource, ...], BeforeValidator(_key_sources), Field(repr=False, exclude=True)
    ] = ()
    accounts: Annotated[frozenset[str], BeforeValidator(_split_list)]
    may: Annotated[frozenset[Right], BeforeValidator(_split_list)]
