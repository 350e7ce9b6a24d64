"""Names that pools, volumes and snapshots may have: each is the name of an image, a file and a node of the tree."""

import re

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", re.ASCII)


def is_name(name: str) -> bool:
    """Whether a pool, volume or snapshot can go by a name."""
    return _NAME.fullmatch(name) is not None


def is_text(text: str) -> bool:
    """Whether a text from the command line, a path for example, can be written down: bytes that are no UTF-8 cannot."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def why_no_name(kind: str, name: str) -> str:
    """Why a pool, volume or snapshot (`kind`) cannot go by a name, and what would do; empty: it can."""
    if is_name(name):
        return ""
    return (
        f"{name!r} is no name for a {kind}: use 1 to 63 letters, digits, '.', '_' and '-',"
        " and begin with a letter or digit"
    )
