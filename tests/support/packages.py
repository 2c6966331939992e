"""The sample package with a connector, and packages that are wrong in some way."""

import shutil
import tomllib
from collections.abc import Mapping
from pathlib import Path

ACME = Path(__file__).parents[1] / "packages" / "acme"
GROUP = "campaign_gateway.connectors"


def add_acme(site: Path) -> None:
    """Put the sample package into a folder, as pip would install it."""
    shutil.copytree(ACME / "src", site, dirs_exist_ok=True)
    project = tomllib.loads((ACME / "pyproject.toml").read_text("utf-8"))["project"]
    add_distribution(site, project["name"], project["entry-points"], project["version"])


def add_package(site: Path, name: str, entry_points: Mapping[str, str], code: str) -> None:
    """Add a package with one module, which offers connectors."""
    site.joinpath(f"{name.replace('-', '_')}.py").write_text(code, "utf-8")
    add_distribution(site, name, {GROUP: entry_points}, "2.0.0")


def add_distribution(
    site: Path, name: str, groups: Mapping[str, Mapping[str, str]], version: str
) -> None:
    about = site / f"{name.replace('-', '_')}-{version}.dist-info"
    about.mkdir()
    about.joinpath("METADATA").write_text(
        f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\n", "utf-8"
    )
    sections = (
        f"[{group}]\n" + "".join(f"{key} = {value}\n" for key, value in entry_points.items())
        for group, entry_points in groups.items()
    )
    about.joinpath("entry_points.txt").write_text("\n".join(sections), "utf-8")
