"""A frontend's folder, on which the code generator and the compiler run."""

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.node import TESTS, node, run_node

CLIENTS = TESTS / "clients"

# The compiler options of a new Vite project, and stricter ones.
STRICT = {
    "strict": True,
    "verbatimModuleSyntax": True,
    "target": "ES2022",
    "lib": ["ES2022", "DOM"],
    "module": "ESNext",
    "moduleResolution": "bundler",
    "skipLibCheck": True,
    "types": [],
}
STRICTEST = {**STRICT, "exactOptionalPropertyTypes": True, "noUncheckedIndexedAccess": True}


@dataclass(frozen=True)
class Mistake:
    """One error of the compiler: the word that it points at, and its number and message."""

    place: str
    message: str


Mistakes = Mapping[str, Sequence[Mistake]]


class Frontend:
    def __init__(self, folder: Path) -> None:
        node()
        self.folder = folder
        (folder / "src").mkdir(parents=True)
        (folder / "node_modules").symlink_to(TESTS / "node_modules")

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text, "utf-8")

    def generate(self) -> None:
        """Run the code generator with the configuration in the folder, as a user runs it."""
        done = subprocess.run(
            [node(), self.folder / "node_modules" / "@graphql-codegen/cli/esm/bin.js"],
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def generated(self) -> str:
        return (self.folder / "src" / "gql" / "graphql.ts").read_text("utf-8")

    def compile(self, *options: Mapping[str, object]) -> tuple[list[Mistakes], Path]:
        """Return the errors that the compiler finds with each of the options, by file.

        The path is a folder with modules that Node.js loads without a bundler. One process does all
        of this, because its start takes most of the CPU.
        """
        compiled: list[list[dict[str, Any]]] = run_node(
            CLIENTS / "compile.mjs", str(self.folder), json.dumps(options)
        )
        return [by_file(found) for found in compiled], self.folder / "built"


def by_file(found: Sequence[Mapping[str, Any]]) -> Mistakes:
    mistakes: dict[str, list[Mistake]] = {}
    for each in found:
        # An error in no file is an error in our own configuration.
        assert each["file"], f"the compiler failed: {each}"
        mistakes.setdefault(each["file"], []).append(Mistake(each["place"], each["message"]))
    return mistakes


def generate_each(frontends: Sequence[Frontend]) -> list[str | None]:
    """Run the code generator in each folder, and return its complaints.

    The start of the generator takes ten times the CPU of its work, so one process does it for all.
    """
    complaints: list[str | None] = run_node(
        CLIENTS / "generate.mjs", *(str(each.folder) for each in frontends)
    )
    return complaints
