"""What `serve` imports. Each module costs the start of every gateway time and memory."""

import subprocess
import sys
from pathlib import Path

from support.gateways import configuration

# Starts a gateway as `serve` does, and shows what is imported then.
START = """
import asyncio, sys
from pathlib import Path
from campaign_gateway import cli

async def start():
    app = await cli.create_app(cli.load_settings(Path(sys.argv[1])))
    cli.create_server(app, [])
    await app.state.gateway.close()

asyncio.run(start())
print(*sys.modules)
"""

# Emulators, and what only tokens, PostgreSQL, traces and mistakes need.
NEEDLESS = {
    "campaign_gateway.sandbox",
    "cryptography",
    "difflib",
    "joserfc",
    "opentelemetry.exporter",
    "opentelemetry.sdk",
    "psycopg",
}


def test_serve_imports_nothing_that_only_others_need(tmp_path: Path) -> None:
    accounts = {"main": "http://127.0.0.1:9"}
    config = configuration(tmp_path, f"sqlite:///{tmp_path}/ledger.db", accounts)
    command = [sys.executable, "-c", START, str(config)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    imported = set(run.stdout.split())
    assert "campaign_gateway.web.callers.authentication" in imported
    assert imported & NEEDLESS == set()
