"""Parses every README of the repository: code blocks, tables, links."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from os import walk
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Readme:
    """One README. `name` is its path in the repository."""

    name: str
    text: str

    @property
    def path(self) -> Path:
        return REPOSITORY / self.name

    @property
    def prose(self) -> str:
        """Return the text without code blocks."""
        return _BLOCK.sub("", self.text)

    def blocks(self, language: str) -> list[str]:
        return [code for name, code in _BLOCK.findall(self.text) if name == language]

    def tables(self) -> Iterator[tuple[list[str], list[list[str]]]]:
        """Yield the header and the rows of each table, as cells."""
        for table in re.findall(r"(?:^\|.*\n?)+", self.prose, re.MULTILINE):
            header, _, *rows = (
                [cell.strip() for cell in line.strip().strip("|").split("|")]
                for line in table.splitlines()
            )
            yield header, rows

    def anchors(self) -> set[str]:
        """Return the anchors that GitHub gives the headings."""
        headings = re.findall(r"^#+ (.+)$", self.prose, re.MULTILINE)
        return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}

    def links(self) -> list[str]:
        """Return the targets of links and images that are not on other hosts."""
        targets = re.findall(r"\]\(([^)\s]+)\)", self.prose)
        return [target for target in targets if not target.startswith("https://")]


def _collect() -> Iterator[Readme]:
    places = [REPOSITORY / "README.md", *(REPOSITORY / ".github").glob("*.md")]
    for folder, folders, files in chain(walk(REPOSITORY / "src"), walk(REPOSITORY / "tests")):
        # It has tens of thousands of files of others.
        folders[:] = [name for name in folders if name != "node_modules"]
        places += [Path(folder, name) for name in files if name == "README.md"]
    for path in sorted(places):
        yield Readme(path.relative_to(REPOSITORY).as_posix(), path.read_text("utf-8"))


READMES = {readme.name: readme for readme in _collect()}

MAIN = READMES["README.md"]


def code_blocks(*languages: str) -> list[object]:
    """Return a test parameter for each code block in one of the languages, in all READMEs."""
    return [
        pytest.param(block, id=f"{readme.name}-{language}-{number}")
        for readme in READMES.values()
        for language in languages
        for number, block in enumerate(readme.blocks(language))
    ]


def file_in_a_readme(name: str) -> str:
    """Return the TypeScript block that begins with a comment with the file's name."""
    (block,) = (
        block
        for readme in READMES.values()
        for block in readme.blocks("ts")
        if block.startswith(f"// {name}\n")
    )
    return block
