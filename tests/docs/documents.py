"""The documents as the tests read them: files, fenced blocks, pieces of code."""

import re
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *DOCS.rglob("*.md")])
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def named(path: Path) -> str:
    """A file as people name it."""
    return str(path.relative_to(ROOT))


def names(paths: Sequence[Path]) -> list[str]:
    return [named(path) for path in paths]


def blocks(*kinds: str) -> list[tuple[str, str]]:
    """The fenced blocks of some kinds in all documents, each with its document."""
    return [
        (named(path), body) for path in DOCUMENTS for kind, body in BLOCK.findall(path.read_text()) if kind in kinds
    ]


def spans(text: str) -> list[str]:
    """The pieces of code within sentences and tables."""
    prose = BLOCK.sub("", text)
    return re.findall(r"`([^`\n]+)`", prose) + [
        found.replace("&#124;", "|").replace("&lt;", "<") for found in re.findall(r"<code>(.*?)</code>", prose)
    ]


def shell_lines(text: str) -> list[str]:
    """What is typed into a shell, continued lines joined: after prompts in `console`, all of `sh`, indented calls."""
    found = []
    for kind, body in BLOCK.findall(text):
        lines = body.replace("\\\n", " ").splitlines()
        found += [line[2:] for line in lines if line.startswith(("$ ", "# "))] if kind == "console" else []
        found += lines if kind == "sh" else []
    indented = BLOCK.sub("", text).replace("\\\n", " ")
    return found + re.findall(r"^ {4,}((?:[\w./]*/)?pvcd? .*)$", indented, re.MULTILINE)
