"""Checks that the project's texts use plain technical English, by a short list of words to avoid.

It reads the docstrings, comments and strings of the package, the docstrings and comments of the
tests, the published schema, and the texts for users and contributors. It does not check names in
code.
"""

import re
import tokenize
from collections.abc import Iterator, Mapping
from io import StringIO
from pathlib import Path
from string import ascii_letters
from typing import NamedTuple

import pytest

import campaign_gateway

ROOT = Path(__file__).parents[1]
# Not below ROOT when the tests run against an installed wheel.
PACKAGE = Path(campaign_gateway.__file__).parent

# Words or phrases to avoid, separated by | -> what to write instead.
WORDS: Mapping[str, str] = {
    # They hide who acts, or what: a response, a message, a log line and a record are different.
    "told": "reported, returned, sent",
    "tells": "reports, returns, shows",
    "said": "reported, returned, sent",
    "became of|becomes of|become of": "the result of, what happened to",
    # They leave out the actor: the caller, the operator, the provider, the gateway.
    "whoever": "the caller, the operator, a client that",
    "somebody": "the caller, an operator, a developer",
    "nobody": "no caller, no operator, no process",
    "none of them is": "no campaign is, no account is",
    # They have two meanings, of which a reader has to find the right one.
    "answer|answers|answered|answering": "response, responds, result",
    "at once": "immediately; at the same time",
    "beside": "next to; in addition to",
    "for good": "permanently",
    "goes on|go on|going on": "continues; happens",
    "on record": "recorded",
    "under way": "running, in progress",
    "whatever": "any, every, even if",
    # Idioms and old words that a second-language reader has to look up.
    "all the same": "still, anyway",
    "anew": "again",
    "hence": "so, therefore",
    "in spite of": "despite",
    "the like": "similar ones, for example",
    "to be had": "available",
    "vouch|vouches|vouched": "guarantee",
    # Everyday words where the field has a term.
    "ballast": "disk reserve",
    "chore|chores": "background task",
    "culprit|culprits": "cause, wrong field",
    "mend|mends|mended|mending": "fix, correct",
}

# Quoted texts that contain one of the words, by the file that quotes them: of providers, and names
# in earlier versions. The only exceptions.
QUOTES: dict[str, tuple[str, ...]] = {
    ".github/CHANGELOG.md": ("Evidence.ANSWER", "cut-in-answer"),
    "src/campaign_gateway/ledger/sqlite.py": ("-ballast",),
    # The name of a Unix user.
    "tests/support/postgres.py": ("`nobody`",),
}


# To search for them one by one takes longer, as does to search without regard to case.
ANY_WORD = re.compile(rf"\b(?:{'|'.join(WORDS)})\b".replace(" ", r"\s+"))

# What is in source between the words of a phrase that has several lines or strings.
BETWEEN_WORDS = re.compile(r"""\b[bfrBFR]{1,2}(?=["'])|["'#:\\]""")


class Finding(NamedTuple):
    path: str
    line: int
    word: str
    preferred: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: write {self.preferred!r} instead of {self.word!r}"


def words_in(path: str, text: str) -> list[Finding]:
    """Return the words to replace in a text. A phrase may continue on the next line."""
    for quote in QUOTES.get(path, ()):
        text = text.replace(quote, " " * len(quote))
    findings: list[Finding] = []
    if not ANY_WORD.search(text.lower()):
        return findings
    for pattern, preferred in WORDS.items():
        words = pattern.replace(" ", r"\s+")
        for match in re.finditer(rf"\b(?:{words})\b", text, re.IGNORECASE):
            line = text.count("\n", 0, match.start()) + 1
            findings.append(Finding(path, line, " ".join(match[0].split()), preferred))
    return sorted(findings)


def prose_of(source: str, *, has_quotes: bool = False) -> str:
    """Return the comments and strings of Python source, each on its line, and nothing else.

    `has_quotes`: strings that are not in triple quotes are omitted, because they may be quotes.

    Empty if no word to avoid is anywhere in the source, because to split it into tokens takes long.
    """
    if not ANY_WORD.search(BETWEEN_WORDS.sub(" ", source).lower()):
        return ""
    lines = [""] * (source.count("\n") + 2)
    for token in tokenize.generate_tokens(StringIO(source).readline):
        prose = "" if has_quotes and _may_be_quote(token) else _prose_of_token(token)
        for offset, part in enumerate(prose.split("\n")):
            lines[token.start[0] - 1 + offset] += f" {part}"
    return "\n".join(lines)


def _may_be_quote(token: tokenize.TokenInfo) -> bool:
    is_string = tokenize.tok_name[token.type] in {"STRING", "FSTRING_MIDDLE"}
    return is_string and '"""' not in token.string


def _prose_of_token(token: tokenize.TokenInfo) -> str:
    kind = tokenize.tok_name[token.type]
    if kind == "COMMENT":
        return token.string.lstrip("#: ")
    if kind == "FSTRING_MIDDLE":
        return token.string
    if kind != "STRING":
        return ""
    quoted = token.string.lstrip(ascii_letters)
    prefix, text = token.string[: -len(quoted)], quoted.strip(quoted[0])
    # Before Python 3.12 an f-string is one token, with the code in its braces.
    return re.sub(r"\{[^{}]*\}", " ", text) if "f" in prefix.lower() else text


def texts() -> Iterator[tuple[str, str]]:
    """Yield each checked file's path, as it is shown and in `QUOTES`, and its prose."""
    for file in sorted(PACKAGE.rglob("*.py")):
        yield f"src/campaign_gateway/{file.relative_to(PACKAGE)}", prose_of(file.read_text("utf-8"))
    tests = ROOT / "tests"
    folders = [path for path in tests.iterdir() if path.is_dir() and path.name != "node_modules"]
    modules = [*tests.glob("*.py"), *(file for folder in folders for file in folder.rglob("*.py"))]
    # This file contains the words.
    for file in sorted({*modules} - {Path(__file__)}):
        yield str(file.relative_to(ROOT)), prose_of(file.read_text("utf-8"), has_quotes=True)
    for file in (
        ROOT / "README.md",
        ROOT / "schema.graphql",
        *sorted(ROOT.glob(".github/**/*.md")),
        *sorted(file for folder in folders for file in folder.rglob("README.md")),
        tests / "README.md",
    ):
        yield str(file.relative_to(ROOT)), file.read_text("utf-8")
    for file in sorted(PACKAGE.rglob("README.md")):
        yield f"src/campaign_gateway/{file.relative_to(PACKAGE)}", file.read_text("utf-8")


def test_texts_use_the_preferred_words() -> None:
    checked = dict(texts())
    assert len(checked) > 180
    for path, quotes in QUOTES.items():
        assert [quote for quote in quotes if quote not in checked[path]] == [], path
    findings = [finding for path, text in checked.items() for finding in words_in(path, text)]
    assert not findings, "\n".join(["", *map(str, findings)])


PLANTED = '''"""Reports what the provider
said."""

told = "fine"  # All the
# same, told.
message = f"the {told} culprit" f"{told!r} is at"  " once"
other = r"""
beside
"""
'''


def test_planted_words_in_a_module_are_found_with_their_lines() -> None:
    findings = words_in("planted.py", prose_of(PLANTED))
    assert [(finding.line, finding.word) for finding in findings] == [
        (2, "said"),
        (4, "All the same"),
        (5, "told"),
        (6, "at once"),
        (6, "culprit"),
        (8, "beside"),
    ]
    assert str(findings[0]).startswith("planted.py:2: write 'reported, ")


def test_planted_words_in_a_test_are_found_in_docstrings_and_comments_only() -> None:
    findings = words_in("tests/planted.py", prose_of(PLANTED, has_quotes=True))
    assert [(finding.line, finding.word) for finding in findings] == [
        (2, "said"),
        (4, "All the same"),
        (5, "told"),
        (8, "beside"),
    ]


@pytest.mark.parametrize("word", "|".join(WORDS).split("|"))
def test_each_word_is_found_in_prose_and_not_inside_another_word(word: str) -> None:
    (finding,) = words_in("README.md", f"One.\n{word.capitalize()} two, x{word} {word}x.\n")
    assert finding.line == 2
    assert finding.word.lower() == word
    assert words_in("README.md", finding.preferred) == []


def test_quote_of_a_provider_is_allowed_only_in_its_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(QUOTES, "emulator.py", ("No such id, said the API.",))
    text = "What the API said:\nNo such id, said the API."
    assert [finding.line for finding in words_in("emulator.py", text)] == [1]
    assert [finding.line for finding in words_in("other.py", text)] == [1, 2]
