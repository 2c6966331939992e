"""The contract suite itself: what it must recognise."""

from pathlib import Path
from typing import Any

import pytest

from campaign_gateway.sandbox import emulation
from campaign_gateway.sandbox.contract_suite.calling import read_recording
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


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_recording_can_have_the_line_ends_of_an_editor_or_of_curl(tmp_path: Path, end: str) -> None:
    recording = tmp_path / "created.1.copied.http"
    recording.write_bytes(f'HTTP/1.1 201 Created{end}a: b{end}{end}{{"id": "1\n\n"}}'.encode())
    response = read_recording(recording)
    assert (response.status, response.headers) == (201, {"a": "b"})
    assert response.body == b'{"id": "1\n\n"}'
