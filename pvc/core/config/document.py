"""A YAML file as plain values that remember their lines; and where the file is looked for.

Reads safely: no tags, no duplicate keys, bounded size, depth and number of values. It knows no schema, and every
complaint is a ConfigError that names the line.
"""

import math
import re
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from yaml.composer import ComposerError
from yaml.error import Mark, MarkedYAMLError
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from yaml.reader import ReaderError

from pvc.core.config.problems import ConfigError, KeyPath, Problem

DEFAULT_PATH = Path("/etc/pvc/pvc.yaml")
LARGEST_FILE = 1 << 20
"""Bytes: far more than any configuration, little enough to read at once."""
MOST_VALUES = 3_000
"""Values of one file, and of all together, with every alias written out: a few lines of nested aliases can stand for
millions. cerberus sorts what it has found at each further mistake, so the time grows with the square."""
DEEPEST = 30
"""Levels of nesting; reading recurses once for each."""

_LARGEST_NUMBER = 1 << 63
_OCTAL = re.compile("[+-]?0[0-9_]+")
_TAG = "tag:yaml.org,2002:"
_TAGGED = "a tag (!) is not accepted; write plain values, and put text that begins with a '!' in quotes"


@dataclass(frozen=True, slots=True)
class Document:
    """What a file says, before any schema has been applied."""

    file: str = "configuration"
    """The file as it is named in messages."""
    path: str | None = None
    """The file; None: there is none, and every value is a default."""
    values: Mapping[str, Any] = field(default_factory=dict)
    lines: Mapping[KeyPath, int] = field(default_factory=dict)
    """The line of every key and every list entry, counted from 1."""
    problems: tuple[Problem, ...] = ()
    """What is already known to be wrong (keys that appear twice); `validate` reports it with the rest."""
    sources: Mapping[KeyPath, str] = field(default_factory=dict)
    """The file of every key that stands in another one than `file`."""
    files: tuple[str, ...] = ()
    """All files that were read, in the order in which they were laid over each other."""

    def line(self, key: KeyPath) -> int | None:
        """The line of a key, or of the nearest key around it; None for the root and for an empty document."""
        return self.place(key)[1]

    def place(self, key: KeyPath) -> tuple[str, int | None]:
        """File and line of a key, or of the nearest key around it; without a line if there is none."""
        for length in range(len(key), 0, -1):
            if (place := self.origin(key[:length])) is not None:
                return place
        return self.file, None

    def origin(self, key: KeyPath) -> tuple[str, int] | None:
        """File and line of a key; None if no file has it."""
        line = self.lines.get(key)
        return None if line is None else (self.sources.get(key, self.file), line)


def find_config(explicit: str | None, env: Mapping[str, str], default: Path = DEFAULT_PATH) -> Path | None:
    """The file to read: the one asked for, else $PVC_CONFIG, else the default path if it exists, else None."""
    if chosen := explicit or env.get("PVC_CONFIG"):
        return Path(chosen)
    try:
        default.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:
        return default  # it is there but out of reach: reading it will say why, running on defaults would hide it
    return default


def read(path: Path | None) -> Document:
    """Read a file; None gives an empty document. Raises ConfigError for whatever cannot be read as one mapping."""
    if path is None:
        return Document()
    name = str(path)
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_FILE + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise _refusal(name, None, f"cannot be read: {reason}; check the path and its permissions") from error
    if len(content) > LARGEST_FILE:
        raise _refusal(name, None, f"larger than {LARGEST_FILE} bytes; is it the right file?")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise _refusal(name, line, "not UTF-8 text; save the file as UTF-8") from error
    if (nul := text.find("\0")) >= 0:
        line = text.count("\n", 0, nul) + 1
        raise _refusal(name, line, "a NUL character: not text, or UTF-16; save the file as UTF-8 text")
    return parse(text, name)


def parse(text: str, file: str) -> Document:
    """Read YAML text; `file` names it in messages. Raises ConfigError like `read`."""
    loader: _Loader | None = None
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
        if root is None or (isinstance(root, ScalarNode) and root.tag == f"{_TAG}null"):
            return Document(file, file, files=(file,))
        if not isinstance(root, MappingNode):
            raise _refusal(file, root.start_mark.line + 1, "not a mapping; write 'key: value' lines")
        reading = _Reading(file, loader)
        values = reading.mapping(root, ())
        return Document(file, file, values, reading.lines, tuple(reading.problems), files=(file,))
    except MarkedYAMLError as error:
        raise _refusal(file, _line(error), _reason(error)) from error
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise _refusal(
            file, line, "a character that text may not contain; remove it or write it as an escape"
        ) from error
    except (ValueError, OverflowError) as error:  # PyYAML lets chr() fail on an escape such as "\UFFFFFFFF"
        reason = "an escape (\\) in quoted text that stands for no character; correct it, or use single quotes"
        raise _refusal(file, None if loader is None else loader.line + 1, reason) from error


class _Loader(yaml.SafeLoader):
    """Composes nodes within bounds; values are made by `_Reading`."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0
        self._nodes = 0

    def scan_directive(self) -> Any:
        token = super().scan_directive()
        if token.name != "YAML":  # PyYAML passes over the others, so what they ask for would silently not be done
            raise _stop(token.start_mark, "a directive (%) is not accepted; remove the line, or put the text in quotes")
        return token

    def compose_node(self, parent: Node | None, index: int) -> Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if getattr(event, "tag", None) is not None:
            raise _stop(event.start_mark, _TAGGED)
        self._depth += 1
        self._nodes += 1
        if self._depth > DEEPEST:
            raise _stop(event.start_mark, f"nested deeper than {DEEPEST} levels; is it the right file?")
        if self._nodes > MOST_VALUES:
            raise _stop(event.start_mark, f"more than {MOST_VALUES} values; is it the right file?")
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


class _Reading:
    """Turns composed nodes into values, and notes lines and problems on the way."""

    def __init__(self, file: str, loader: _Loader) -> None:
        self.lines: dict[KeyPath, int] = {}
        self.problems: list[Problem] = []
        self._file = file
        self._loader = loader
        self._left = MOST_VALUES
        self._open: set[int] = set()

    def mapping(self, node: MappingNode, path: KeyPath) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, ScalarNode):
                self._complain(
                    line,
                    path,
                    "a list or mapping as a key; a key is text, and text that begins with { or [ stands in quotes",
                )
                continue
            # The text as written: `on:` and `1:` are keys like any other, not a boolean and a number.
            here = (*path, self._text(key_node, line, path))
            if here in self.lines:
                self._complain(
                    line, here, f"this key appears twice, first in line {self.lines[here]}; keep one of them"
                )
                continue
            self.lines[here] = line
            values[str(here[-1])] = self._value(value_node, here)
        return values

    def _value(self, node: Node, path: KeyPath) -> Any:
        self._left -= 1
        if self._left < 0:
            raise _stop(node.start_mark, f"more than {MOST_VALUES} values, aliases (*) included; write fewer")
        if isinstance(node, ScalarNode):
            return self._scalar(node, path)
        if id(node) in self._open:
            raise _stop(node.start_mark, "an alias (*) inside of what it stands for; write the values out")
        self._open.add(id(node))
        value = self.mapping(node, path) if isinstance(node, MappingNode) else self._list(node, path)
        self._open.discard(id(node))
        return value

    def _list(self, node: Node, path: KeyPath) -> list[Any]:
        assert isinstance(node, SequenceNode)
        entries: list[Any] = []
        for index, entry in enumerate(node.value):
            self.lines[(*path, index)] = entry.start_mark.line + 1
            entries.append(self._value(entry, (*path, index)))
        return entries

    def _scalar(self, node: ScalarNode, path: KeyPath) -> Hashable:
        kind = node.tag.removeprefix(_TAG)
        if kind == "null":
            return None
        if kind == "bool":
            return self._loader.construct_yaml_bool(node)
        number = self._number(kind, node)
        return self._text(node, node.start_mark.line + 1, path) if number is None else number

    def _number(self, kind: str, node: ScalarNode) -> int | float | None:
        """The number, or None for text: also for 12:30 and 010 (in YAML 1.1 750 and 8) and what no setting can hold."""
        if kind not in ("int", "float") or ":" in node.value or _OCTAL.fullmatch(node.value):
            return None
        convert = self._loader.construct_yaml_int if kind == "int" else self._loader.construct_yaml_float
        try:
            number: int | float = convert(node)
        except (ValueError, IndexError):
            return None
        return number if abs(number) < _LARGEST_NUMBER and math.isfinite(number) else None

    def _text(self, node: ScalarNode, line: int, path: KeyPath) -> str:
        text = str(node.value)
        try:
            text.encode()
        except UnicodeEncodeError:
            self._complain(line, path, "half of a character (a surrogate escape); write the character itself")
            return ""
        return text

    def _complain(self, line: int, path: KeyPath, found: str) -> None:
        self.problems.append(Problem(self._file, line, path, found))


def _stop(mark: Mark | None, reason: str) -> ComposerError:
    return ComposerError(None, None, reason, mark)


def _refusal(file: str, line: int | None, reason: str) -> ConfigError:
    return ConfigError([Problem(file, line, (), reason)])


def _line(error: MarkedYAMLError) -> int | None:
    mark = error.problem_mark or error.context_mark
    return None if mark is None else mark.line + 1


def _reason(error: MarkedYAMLError) -> str:
    # The next two messages of PyYAML would show the text, which may be a password that nobody has put in quotes.
    if "undefined alias" in str(error.problem):
        return "an alias (*) whose anchor (&) is nowhere above; put text that begins with a '*' in quotes"
    if "tag" in str(error.problem):
        return _TAGGED
    if isinstance(error, ComposerError) and error.context is None:
        return str(error.problem)
    if "another document" in str(error.problem):
        return "a second document starts here; keep one"
    if "'\\t'" in str(error.problem):
        return "a tab; indent with spaces"
    context = f" {error.context}" if error.context else ""
    advice = "check indentation, quotes, brackets and the space after each colon, here and above"
    return f"not valid YAML{context}: {error.problem}; {advice}"
