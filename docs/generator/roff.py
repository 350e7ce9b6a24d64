"""The little of roff's man macros that our manual pages need. Text comes with Markdown's backquotes and goes bold."""

import re
from collections.abc import Iterable


def escaped(text: str) -> str:
    """Text that roff prints as it is, on one line."""
    flat = " ".join(text.split())
    safe = (
        flat.replace("\\", "\\e").replace("-", "\\-").replace("~", "\\(ti").replace("^", "\\(ha").replace("'", "\\(aq")
    )
    return f"\\&{safe}" if safe.startswith((".", "'")) else safe


def prose(text: str) -> str:
    """A sentence; what stands between backquotes goes bold. One space follows each full stop within it."""
    parts = text.split("`")
    marked = "".join(
        _dashes_kept(part) if index % 2 == 0 else f"\\fB{escaped(part)}\\fP" for index, part in enumerate(parts)
    )
    return f"\\&{marked}" if marked.startswith((".", "'")) else marked


def title(name: str, section: int, version: str) -> str:
    """The head of a page. No date: the same source gives the same page."""
    return f'.TH {name.upper()} {section} "" "pvc {version}" "pvc manual"'


def page(lines: Iterable[str]) -> str:
    """The whole text; a paragraph that a heading has begun already is not begun again."""
    kept: list[str] = []
    for line in lines:
        if line != ".PP" or not kept[-1].startswith((".SH", ".SS")):
            kept.append(line)
    return "\n".join(kept) + "\n"


def heading(text: str) -> str:
    return f".SH {text.upper()}"


def subheading(text: str) -> str:
    return f'.SS "{escaped(text)}"'


def paragraph(text: str) -> list[str]:
    return [".PP", prose(text)]


def item(term: str, texts: Iterable[str]) -> list[str]:
    """A term, bold, with what is said of it below and indented."""
    lines = [prose(text) for text in texts if text]
    return [".TP", f"\\fB{escaped(term)}\\fP", *(lines or ["\\&"])]


def literal(lines: Iterable[str]) -> list[str]:
    """Lines that are shown as they are."""
    return [".PP", ".RS 4", ".nf", *(_literal_line(line) for line in lines), ".fi", ".RE"]


def _literal_line(line: str) -> str:
    indent = len(line) - len(line.lstrip(" "))
    return "\\ " * indent + escaped(line.strip()) if line.strip() else "\\&"


def _dashes_kept(text: str) -> str:
    """Prose whose words keep their hyphens; options keep their dashes, so that they can be searched and copied."""
    leading, trailing = text[:1].isspace(), text[-1:].isspace()
    flat = " ".join(text.replace("\\", "\\e").replace("~", "\\(ti").replace("^", "\\(ha").split())
    kept = re.sub(r"(?<![\w-])--?(?=\w)", lambda found: found[0].replace("-", "\\-"), flat)
    return f"{' ' if leading else ''}{kept}{' ' if trailing and kept else ''}"
