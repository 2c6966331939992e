"""Three gateways behind nginx are restarted in turn under load, then one is killed."""

import asyncio
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from campaign_gateway.model import Evidence
from support.faulty_provider import Provider
from support.figures import Figures
from support.gateways import (
    SHORT_INTERVALS,
    Gateway,
    History,
    ask,
    configuration,
    intents,
    launch,
    listening,
    recorded,
    retry_until_final,
)
from support.promises import check_promises
from support.readmes import READMES
from support.waiting import until

CLIENTS = 8

# What nginx writes goes into the folder of the test.
NGINX = """
daemon off;
error_log {folder}/error.log warn;
pid {folder}/pid;
events {{ worker_connections 512; }}
http {{
access_log {folder}/access.log;
client_body_temp_path {folder}/body;
proxy_temp_path {folder}/proxy;
fastcgi_temp_path {folder}/fastcgi;
uwsgi_temp_path {folder}/uwsgi;
scgi_temp_path {folder}/scgi;
{site}
}}
"""


@pytest.fixture
def nginx() -> str:
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        assert "CAMPAIGN_GATEWAY_REQUIRE_NGINX" not in os.environ, "nginx is not installed"
        pytest.skip("nginx is not installed")
    return program


@asynccontextmanager
async def balancing(nginx: str, folder: Path, ports: Sequence[int]) -> AsyncIterator[str]:
    """Run nginx with the README's configuration. It listens at the first port."""
    (site,) = READMES["src/campaign_gateway/web/server/README.md"].blocks("nginx")
    for number, port in enumerate(ports):
        site = site.replace(f"127.0.0.1:{8000 + number}", f"127.0.0.1:{port}")
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, site=site), "utf-8")
    # Workers of another user could not write into the folder.
    user = ["-g", "user root;"] if os.geteuid() == 0 else []
    command = [nginx, "-e", f"{folder}/error.log", "-c", f"{folder}/nginx.conf", *user]
    process = await asyncio.to_thread(subprocess.Popen, command)
    with process:
        try:
            await until(lambda: (folder / "pid").exists() or process.poll() is not None)
            assert process.poll() is None, (folder / "error.log").read_text("utf-8")
            yield f"http://127.0.0.1:{ports[0]}"
        finally:
            process.terminate()


@pytest.mark.parametrize("rounds", [1, pytest.param(10, marks=pytest.mark.long)])
async def test_restarts_in_turn_behind_nginx_lose_no_request_and_make_none_unknown(
    nginx: str,
    tmp_path: Path,
    postgres_url: str,
    provider: Provider,
    http: httpx.AsyncClient,
    figures: Figures,
    unused_tcp_port_factory: Callable[[], int],
    rounds: int,
) -> None:
    ports = [unused_tcp_port_factory() for _ in range(4)]
    settings = configuration(tmp_path, postgres_url, {"main": provider.url}, timeout=20)
    configs = [tmp_path / f"{port}.toml" for port in ports[1:]]
    for config in configs:
        text = settings.read_text("utf-8").replace("port = 0", f"port = {config.stem}")
        config.write_text(text, "utf-8")
    timing = {"timing": SHORT_INTERVALS}
    gateways: list[Gateway] = []
    histories: list[History] = []
    is_over = asyncio.Event()

    async def call(url: str) -> None:
        while not is_over.is_set():
            (wanted,) = intents(["none"])
            response = await ask(http, url, wanted)
            histories.append(History(wanted, [response] if response else []))
            await asyncio.sleep(0.1)

    try:
        gateways += [await listening(launch(config, timing)) for config in configs]
        async with balancing(nginx, tmp_path, ports) as url, asyncio.TaskGroup() as calls:
            for _ in range(CLIENTS):
                calls.create_task(call(url))
            for _ in range(rounds):
                for place, config in enumerate(configs):
                    gateways[place].signal(signal.SIGTERM)
                    assert await gateways[place].ended() == 0, gateways[place].output()
                    gateways[place] = await listening(launch(config, timing))
            stopped = list(histories)
            before = len(histories)
            gateways[0].kill()
            await until(lambda: len(histories) > before + 10 * CLIENTS)
            is_over.set()
        for history in histories[before:]:
            await retry_until_final(http, lambda: gateways[1].url, provider, history)
        records = await recorded(postgres_url)
    finally:
        for gateway in gateways:
            gateway.kill()
    check_promises(figures, provider, histories, records, kind="restarts behind nginx")
    figures.faults["restarts behind nginx"] += 3 * rounds + 1
    figures.measured[f"{3 * rounds} restarts behind nginx"] = f"{len(stopped)} requests, 0 lost"
    assert all(history.responses for history in histories)
    assert {history.responses[0].status for history in stopped} == {"CREATED"}
    assert {records[history.intent.key].evidence for history in stopped} == {Evidence.RESPONSE}
    assert "Connection refused" in (tmp_path / "error.log").read_text("utf-8")
