"""Reads metrics, and runs Debian's Prometheus."""

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import httpx
import pytest

from support.plain import NO_CAS


def parse(text: str) -> Mapping[str, float]:
    """Return the value of each series, by its name and labels as they are written."""
    lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {series: float(value) for series, _, value in lines}


def program(name: str) -> str:
    """Return the path of a program of Prometheus. Without it, skip the test, or fail in CI."""
    path = shutil.which(name)
    if path is not None:
        return path
    reason = f"{name} is not installed; on Debian: apt-get install prometheus"
    if "CAMPAIGN_GATEWAY_REQUIRE_PROMETHEUS" in os.environ:
        pytest.fail(reason)
    pytest.skip(reason)


def promtool(*arguments: str, text: str = "", folder: Path | None = None) -> str:
    """Run promtool, and return its output. Fails if promtool finds an error or a bad habit."""
    done = subprocess.run(
        [program("promtool"), *arguments],
        input=text,
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=60,
        check=False,
    )
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    return output


@dataclass(frozen=True)
class Prometheus:
    http: httpx.Client

    def get(self, path: str, **query: str) -> Any:
        response = self.http.get(f"/api/v1/{path}", params=query)
        content = response.json()
        assert content["status"] == "success", content
        return content["data"]

    def firing(self, prefix: str) -> list[Any]:
        """Return the alerts that fire now and whose names begin like this."""
        return [
            alert
            for alert in self.get("alerts")["alerts"]
            if alert["state"] == "firing" and alert["labels"]["alertname"].startswith(prefix)
        ]


@contextmanager
def running_prometheus(folder: Path, target: str, rules: str) -> Iterator[Prometheus]:
    """Scrape the target and evaluate the rules five times a second."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (folder / "rules.yml").write_text(rules)
    config = {
        "global": {
            "scrape_interval": "200ms",
            "scrape_timeout": "200ms",
            "evaluation_interval": "200ms",
        },
        "rule_files": ["rules.yml"],
        "scrape_configs": [
            {"job_name": "campaign-gateway", "static_configs": [{"targets": [target]}]}
        ],
    }
    # JSON is YAML.
    (folder / "prometheus.yml").write_text(json.dumps(config))
    process = subprocess.Popen(
        [
            program("prometheus"),
            f"--config.file={folder}/prometheus.yml",
            f"--storage.tsdb.path={folder}/data",
            f"--web.listen-address=127.0.0.1:{port}",
            "--log.level=error",
        ]
    )
    try:
        with httpx.Client(
            base_url=f"http://127.0.0.1:{port}", trust_env=False, verify=NO_CAS
        ) as http:
            wait_until(lambda: _is_ready(http))
            yield Prometheus(http)
    finally:
        process.kill()
        process.wait()


def wait_until(holds: Callable[[], bool], seconds: float = 40) -> None:
    """Wait for what another process does. Fails after this many seconds."""
    ends_at = monotonic() + seconds
    while not holds():
        assert monotonic() < ends_at
        sleep(0.1)


def _is_ready(http: httpx.Client) -> bool:
    try:
        return http.get("/-/ready").status_code == 200
    except httpx.TransportError:
        return False
