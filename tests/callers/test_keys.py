"""Keys: what a stored hash accepts, until when, and how keys change while the gateway runs."""

import hashlib
import logging
import re
import time
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from campaign_gateway.web.callers import keys as keys_module
from campaign_gateway.web.callers.keys import Keys, KeySource, create_key, parse_hash
from campaign_gateway.web.callers.refusals import Unauthenticated


def keys_of(*stored: str) -> Keys:
    return Keys({"web": [KeySource(tuple(map(parse_hash, stored)))]}, time.time)


def is_accepted(keys: Keys, key: str) -> bool:
    try:
        return keys.owner_of(key) == "web"
    except Unauthenticated:
        return False


def test_key_is_long_and_random_and_only_its_hash_is_stored() -> None:
    made = [create_key() for _ in range(100)]
    assert len({key for key, _ in made}) == len({stored for _, stored in made}) == 100
    key, stored = made[0]
    prefix, key_id, secret = key.split("_")
    assert (prefix, len(bytes.fromhex(secret))) == ("cgw", 32)
    assert stored == f"{key_id}:{hashlib.sha256(key.encode()).hexdigest()}"
    assert is_accepted(keys_of(stored), key)


def test_every_changed_character_makes_the_key_invalid() -> None:
    key, stored = create_key()
    keys = keys_of(stored)
    for place, char in enumerate(key):
        changed = key[:place] + ("0" if char != "0" else "1") + key[place + 1 :]
        assert not is_accepted(keys, changed)
    for wrong in ("", key[:-1], key + "0", key.upper(), f" {key}", f"{key}\n", stored, "cgw_"):
        assert not is_accepted(keys, wrong)
    assert not is_accepted(keys, create_key()[0])


def test_key_ends_at_the_beginning_of_its_last_day() -> None:
    key, stored = create_key(date(2027, 1, 2))
    assert stored.endswith(":2027-01-02")
    end = datetime(2027, 1, 2, tzinfo=UTC).timestamp()
    sources = {"web": [KeySource((parse_hash(stored),))]}
    before, at, after = (Keys(sources, partial(float, end + shift)) for shift in (-1, 0, 1))
    assert is_accepted(before, key)
    assert not is_accepted(at, key)
    assert not is_accepted(after, key)


def test_several_keys_of_a_caller_are_valid_at_the_same_time() -> None:
    tomorrow = datetime.now(UTC).date() + timedelta(days=1)
    old, new = create_key(tomorrow), create_key()
    keys = keys_of(old[1], new[1])
    assert is_accepted(keys, old[0])
    assert is_accepted(keys, new[0])


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        (create_key()[0], "is a key; store the hash"),
        ("secret-in-a-wrong-place", "is not the hash of a key; store the hash"),
        (f"{create_key()[1]}:2027-13-01", "ends on 2027-13-01, which is not a date"),
    ],
    ids=["key", "text", "date"],
)
def test_invalid_hash_is_an_error_that_does_not_repeat_it(stored: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as raised:
        parse_hash(stored)
    assert stored not in str(raised.value)


def test_no_repr_has_a_hash() -> None:
    _, stored = create_key()
    source = KeySource((parse_hash(stored),))
    digest = stored.split(":")[1]
    for value in (source, parse_hash(stored), keys_of(stored)):
        assert digest not in repr(value)
        assert repr(bytes.fromhex(digest)) not in repr(value)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of hashes, at which the gateway looks for each request."""
    monkeypatch.setattr(keys_module, "LOOK_SECONDS", 0.0)
    return tmp_path / "web-team"


def test_keys_of_a_file_change_while_the_gateway_runs(file: Path) -> None:
    old, new = create_key(), create_key()
    file.write_text(f"{old[1]}\n")
    keys = Keys({"web": [KeySource((parse_hash(old[1]),), file)]}, time.time)
    assert is_accepted(keys, old[0])
    file.write_text(f"{old[1]}\n{new[1]}\n")
    assert is_accepted(keys, old[0])
    assert is_accepted(keys, new[0])
    file.write_text(f"{new[1]}\n")
    assert not is_accepted(keys, old[0])
    assert is_accepted(keys, new[0])
    file.write_text("")
    assert not is_accepted(keys, new[0])


def test_keys_stay_valid_while_their_file_is_missing(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    key, stored = create_key()
    file.write_text(stored)
    keys = Keys({"web": [KeySource((parse_hash(stored),), file)]}, time.time)
    file.unlink()
    for _ in range(3):
        assert is_accepted(keys, key)
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    file.write_text("")
    assert not is_accepted(keys, key)


def test_error_in_one_line_does_not_keep_a_removed_key_valid(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    removed, kept = create_key(), create_key()
    file.write_text(f"{removed[1]} {kept[1]}")
    hashes = (parse_hash(removed[1]), parse_hash(kept[1]))
    keys = Keys({"web": [KeySource(hashes, file)]}, time.time)
    file.write_text(f"{kept[1]} {removed[0]}")
    assert is_accepted(keys, kept[0])
    assert not is_accepted(keys, removed[0])
    assert "entry 2 is a key" in caplog.text
    assert removed[0] not in caplog.text


@pytest.mark.parametrize("callers", [("web", "other"), ("other", "web")], ids="-".join)
def test_changed_file_cannot_take_over_the_key_of_another_caller(
    file: Path, callers: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    key, stored = create_key()
    other_stored = create_key()[1]
    file.write_text(other_stored)
    sources = {
        "web": [KeySource((parse_hash(stored),))],
        "other": [KeySource((parse_hash(other_stored),), file)],
    }
    keys = Keys({caller: sources[caller] for caller in callers}, time.time)
    key_id = stored.partition(":")[0]
    file.write_text(f"{stored}")
    assert keys.owner_of(key) == "web"
    assert f"the key {key_id} of web is also in the keys of other" in caplog.text
    # Nor can a wrong hash under its id make it invalid.
    file.write_text(f"{key_id}:{other_stored.split(':')[1]}")
    assert keys.owner_of(key) == "web"
