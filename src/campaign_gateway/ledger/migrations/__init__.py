"""Numbered SQL, applied in order and never changed once released."""

from collections.abc import Sequence
from importlib import resources


def migrations(engine: str) -> Sequence[str]:
    folder = resources.files(__name__) / engine
    files = sorted(folder.iterdir(), key=lambda each: each.name)
    return [each.read_text("utf-8") for each in files if each.name.endswith(".sql")]
