"""What of a VM's output may reach a terminal.

Text and colours may. Whatever could move the cursor, change the title or make the terminal answer is shown in caret
notation instead of being obeyed.
"""

import codecs
import re
from enum import Enum

_COLOUR = r"\x1b\[[0-9;:]{0,40}m"
_COLOURS = re.compile(_COLOUR)
_HELD = re.compile(r"(?:\r+|\x1b(?:\[[0-9;:]{0,40})?)\Z")
"""The end of a piece that means something else depending on what follows."""
_CONTROL = re.compile(
    f"({_COLOUR})"  # kept or removed
    r"|(\r*\n|\r+(?!\n))"  # a line end, with or without carriage returns: a bare one would let text be overwritten
    r"|([\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069])"  # obeyed by terminals: never passed on
)
RESET = "\x1b[0m"


class Colours(Enum):
    """What becomes of colour sequences."""

    KEPT = "kept"
    REMOVED = "removed"
    UNTOUCHED = "untouched"
    """Nor is anything else: for programs that want what the VM printed, and can tell it from harmless text."""


class Screen:
    """Turns the bytes of one console into harmless text, piece by piece: pieces may be cut anywhere."""

    def __init__(self, colours: Colours) -> None:
        self._colours = colours
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._held = ""

    @property
    def held(self) -> int:
        """Bytes that are held back."""
        return len(self._held) + len(self._decoder.getstate()[0])

    def show(self, data: bytes) -> str:
        """The text to print for the next bytes; what depends on the bytes after them is held back."""
        text = self._held + self._decoder.decode(data)
        if self._colours is Colours.UNTOUCHED:
            return text
        held = _HELD.search(text)
        self._held = held.group() if held else ""
        return self._harmless(text[: held.start()] if held else text)

    def end(self) -> str:
        """What was held back, when nothing follows; the next piece begins anew."""
        text = self._held + self._decoder.decode(b"", final=True)
        self._held = ""
        self._decoder.reset()
        return text if self._colours is Colours.UNTOUCHED else self._harmless(text)

    def _harmless(self, text: str) -> str:
        return _CONTROL.sub(self._replacement, text)

    def _replacement(self, match: re.Match[str]) -> str:
        colour, line_end, control = match.groups()
        if colour:
            return colour if self._colours is Colours.KEPT else ""
        return "\n" if line_end else caret(control)


def is_coloured(text: str, before: bool) -> bool:
    """Whether a colour is on after the text: then RESET comes before anything else is printed."""
    colours = _COLOURS.findall(text)
    return colours[-1] not in (RESET, "\x1b[m") if colours else before


def plain(text: str) -> str:
    """Harmless text without its colours."""
    return _COLOURS.sub("", text)


def caret(control: str) -> str:
    """A control character made visible: ^[ for escape, <9B> for one above ASCII; nothing for NUL, which is padding."""
    code = ord(control)
    if code == 0:
        return ""
    if code < 0x20:
        return f"^{chr(code + 0x40)}"
    return "^?" if code == 0x7F else f"<{code:02X}>"
