"""Numbered SQL files, applied in order. A released file never changes."""

from collections.abc import Sequence
from importlib import resources


def migrations(engine: str) -> Sequence[str]:
    """Return the scripts of an engine, `sqlite` or `postgres`. Script 1 leads to version 1."""
    folder = resources.files(__name__) / engine
    files = sorted(folder.iterdir(), key=lambda file: file.name)
    return [file.read_text("utf-8") for file in files if file.name.endswith(".sql")]
