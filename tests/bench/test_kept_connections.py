"""Copies at a provider that closes idle connections at every moment around the limit for copies."""

from pathlib import Path

import pytest

from bench.kept_connections import CALLS, run


@pytest.mark.long
def test_copy_becomes_unknown_only_if_it_crosses_the_end_of_its_connection(tmp_path: Path) -> None:
    """The provider announces that it keeps connections for long, and does not."""
    result = run("announced", CALLS, tmp_path)
    assert result.kept > CALLS / 3
    assert (result.unknown_in_time, result.sent_twice) == (0, 0)


@pytest.mark.long
def test_copy_shares_no_connection_of_a_provider_that_closes_them_early(tmp_path: Path) -> None:
    result = run("silent", CALLS, tmp_path)
    assert (result.kept, result.unknown.total(), result.sent_twice) == (0, 0, 0)


@pytest.mark.long
def test_copies_without_the_rules_become_unknown(tmp_path: Path) -> None:
    """Otherwise the two tests above would show nothing."""
    assert run("no rules", 1000, tmp_path).unknown.total() > 0
