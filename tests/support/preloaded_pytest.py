"""Runs pytest in a new process that has imported the libraries already, but nothing of ours.

A fresh interpreter needs almost a second of CPU for the libraries alone.
"""

import os
import sys
from collections.abc import Sequence
from functools import cache
from multiprocessing import get_context
from multiprocessing.context import ForkServerContext
from multiprocessing.forkserver import ensure_running
from pathlib import Path

LIBRARIES = [
    "anyio._backends._asyncio",
    "anyio.pytest_plugin",
    "defusedxml.ElementTree",
    "httpcore",
    "httptools",
    "httpx",
    "hypothesis.stateful",
    "opentelemetry.propagate",
    "opentelemetry.trace.propagation.tracecontext",
    "platformdirs.pytest_plugin",
    "prometheus_client.openmetrics.exposition",
    "psycopg",
    "pydantic.json_schema",
    "pydantic.main",
    "pydantic.type_adapter",
    "pytest_asyncio",
    "sqlite3",
    "starlette.applications",
    "strawberry.federation",
    "uvicorn",
    "uvicorn.protocols.http.httptools_impl",
    "xdist.plugin",
    "xdist.scheduler",
]


def run_pytest(arguments: Sequence[str], *, source: Path, output: Path, timeout: float) -> int:
    """Return the exit code. `source` is a folder whose packages replace the installed ones."""
    process = _context().Process(target=_run, args=(list(arguments), source, output))
    process.start()
    process.join(timeout)
    if process.exitcode is None:
        process.kill()
        raise TimeoutError(output.read_text("utf-8"))
    return process.exitcode


@cache
def _context() -> ForkServerContext:
    context = get_context("forkserver")
    context.set_forkserver_preload(LIBRARIES)
    # The process that forks must not measure coverage: the sources of its children are copies.
    hidden = {name: os.environ.pop(name) for name in list(os.environ) if _is_of_this_run(name)}
    try:
        ensure_running()
    finally:
        os.environ.update(hidden)
    return context


def _is_of_this_run(name: str) -> bool:
    return name.startswith(("COVERAGE", "PYTEST"))


def _run(arguments: list[str], source: Path, output: Path) -> None:
    with output.open("wb") as file:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(file.fileno(), stream.fileno())
    os.environ["PYTHONPATH"] = str(source)
    sys.path.insert(0, str(source))
    import pytest  # noqa: PLC0415 - only the new process needs it

    # Some of the libraries are plugins of pytest too.
    preloaded = "ignore:Module already imported:pytest.PytestAssertRewriteWarning"
    sys.exit(pytest.main(["-W", preloaded, *arguments]))
