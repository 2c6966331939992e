"""The contract suite itself: what it must recognise."""

from typing import Any

import pytest

from campaign_gateway.sandbox import emulation
from campaign_gateway.sandbox.contract_suite.cases.emulated_outcomes import FAULTS
from campaign_gateway.sandbox.contract_suite.cases.emulator_honesty import assert_same_shape
from campaign_gateway.sandbox.contract_suite.cases.secrets import SECRET, leaks, spellings


def test_every_fault_of_the_emulators_has_an_expected_result() -> None:
    assert set(FAULTS) == set(emulation.FAULTS)


def test_leak_detector_finds_every_spelling() -> None:
    for spelling in spellings(SECRET):
        assert leaks(f"Invalid key: {spelling}!")


@pytest.mark.parametrize(
    ("recorded", "emulated"),
    [
        ({"id": 1}, {}),
        ({"id": 1}, {"id": 1, "more": 1}),
        ({"id": 1}, {"id": "1"}),
        ({"id": None}, {"id": "1"}),
        ({"data": [{"id": 1}]}, {"data": [{"id": 1}, {"id": "2"}]}),
        ({"data": [1]}, {"data": 1}),
        ([True], [1]),
    ],
)
def test_different_shapes_are_not_the_same(recorded: Any, emulated: Any) -> None:
    with pytest.raises(AssertionError):
        assert_same_shape(recorded, emulated)
