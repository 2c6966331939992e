"""The benchmark itself: it fails on nonsense, and shows every server. `.ci/run` runs it."""

import asyncio
import os
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

if sys.platform != "linux":
    pytest.skip("it reads the CPU time of processes in /proc", allow_module_level=True)

from bench import parts, processes, report
from bench.mutations import Cost, Nonsense, Report, measure
from bench.wire import Target, load

COPY_PATH = "/v1/accounts/acc_1/campaigns/cmp_1/duplicate"


def test_a_wrong_response_fails_the_benchmark() -> None:
    with processes.provider() as url:
        port = int(url.rpartition(":")[2])
        right = Target("right", port, "{}", b'"traceId"', COPY_PATH)
        # The provider responds to a copy with 201, and a gateway must respond with 200.
        result = asyncio.run(load(right, 2, 0.05))
        assert all(reason.startswith('201: {"success":true') for reason in result.wrong)
        assert result.wrong.total() == len(result.times) > 2
        with pytest.raises(Nonsense, match="right"):
            measure(right, os.getpid(), 2, 0.05)


def test_a_closed_connection_fails_the_benchmark() -> None:
    with processes.provider() as url:
        port = int(url.rpartition(":")[2])
        with pytest.raises(Nonsense, match="closed"):
            measure(Target("closes", port, "\r\nnot HTTP", b"", "/ not HTTP"), os.getpid(), 1, 0.05)


def test_table_and_plot_show_every_server() -> None:
    costs = {
        "this gateway, Sonarly": {1: Cost(900, 1, 3, 800), 16: Cost(400, 8, 20, 2000)},
        "a <peer>": {1: Cost(500, 1, 3, 800), 16: Cost(300, 8, 20, 2000)},
    }
    memory = dict.fromkeys(costs, 60.0)
    table = report.table(Report(costs, {"ledger": 150.0}, memory, 16))
    assert "| this gateway, Sonarly | 900 | 400 |" in table
    assert "| ledger | 150 |" in table
    drawing = ET.fromstring(report.plot(costs))
    texts = [element.text or "" for element in drawing.iter() if element.tag.endswith("text")]
    assert {f"{name} {of_server[16].cpu:.0f}" for name, of_server in costs.items()} <= set(texts)
    lines = [element for element in drawing.iter() if element.tag.endswith("polyline")]
    assert len(lines) == len(costs)


async def test_each_part_is_measured(tmp_path: Path) -> None:
    costs = await parts.measure(tmp_path, 500)
    assert len(costs) == 4
    assert all(microseconds > 0 for microseconds in costs.values())
