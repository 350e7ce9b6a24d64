"""Which files make up the configuration, and how they are laid over each other: pvc.yaml, then conf.d/*.yaml beside it.

Later files win; mappings are merged key by key, everything else is replaced, but for `deny_plugins`: what one file
denies no other allows again by denying something else. It knows no schema.
"""

from collections.abc import Mapping
from functools import reduce
from pathlib import Path
from typing import Any

from pvc.core.config.document import DEFAULT_PATH, MOST_VALUES, Document, find_config, read
from pvc.core.config.problems import ConfigError, KeyPath, Problem

FOLDER = "conf.d"
"""The directory beside the main file whose *.yaml are read after it."""
_TOO_MUCH = f"together with the files in {FOLDER}"
ADDED = ("deny_plugins",)
"""The key whose lists are put together."""
MOST_FILES = 100
"""Files in that directory: what reads them must end in bounded time."""


def collect(explicit: str | None, env: Mapping[str, str], default: Path = DEFAULT_PATH) -> Document:
    """Find the main file (see `find_config`) and the files beside it, and read them as one document.

    Without a main file those beside the default path are read. Raises ConfigError with the problems of every file.
    """
    main = find_config(explicit, env, default)
    documents: list[Document] = []
    problems: list[Problem] = []
    for path in ([] if main is None else [main]) + _beside(main or default, problems):
        try:
            documents.append(read(path))
        except ConfigError as error:
            problems.extend(error.problems)
    if sum(len(document.lines) for document in documents) > MOST_VALUES:
        problems.append(
            Problem(documents[0].file, None, (), f"{_TOO_MUCH} more than {MOST_VALUES} values; write fewer")
        )
    if problems:
        raise ConfigError(problems)
    return reduce(laid_over, documents) if documents else Document()


def unread(main: Path) -> list[str]:
    """Names of the files in conf.d that are not read because they do not end in .yaml; hidden ones do not count."""
    return [name for name in _names((main.parent / FOLDER), []) if not name.endswith(".yaml")]


def laid_over(below: Document, above: Document) -> Document:
    """One document of two; each key remembers the file and line that its value is from."""
    merged = _Merging(below, above)
    return Document(
        below.file,
        below.path,
        merged.values,
        merged.lines,
        (*below.problems, *above.problems),
        merged.sources,
        (*below.files, *above.files),
    )


def _beside(main: Path, problems: list[Problem]) -> list[Path]:
    folder = main.parent / FOLDER
    paths = [folder / name for name in _names(folder, problems) if name.endswith(".yaml")]
    if len(paths) > MOST_FILES:
        problems.append(Problem(str(folder), None, (), f"more than {MOST_FILES} files; join some of them"))
        return []
    for path in paths:
        if path.exists() and not (path.is_file() or path.is_dir()):  # reading a pipe would wait for its writer
            problems.append(Problem(str(path), None, (), "not a regular file; remove it"))
    return [path for path in paths if not path.exists() or path.is_file() or path.is_dir()]


def _names(folder: Path, problems: list[Problem]) -> list[str]:
    try:
        return sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
    except FileNotFoundError:
        return []
    except OSError as error:
        advice = "it must be a directory that pvc may read; check what it is and its permissions"
        problems.append(Problem(str(folder), None, (), f"cannot be read: {error.strerror}; {advice}"))
        return []


class _Merging:
    """Lays one document over another; costs what is in them, whatever their shape."""

    def __init__(self, below: Document, above: Document) -> None:
        self._above = above
        self.lines = dict(below.lines)
        self.sources = dict(below.sources)
        self.values: dict[str, Any] = dict(below.values)
        self._lay(self.values, above.values, ())

    def _lay(self, under: dict[str, Any], over: Mapping[str, Any], path: KeyPath) -> None:
        for name, value in over.items():
            key = (*path, name)
            if isinstance(under.get(name), Mapping) and (value is None or isinstance(value, Mapping)):
                # A heading with nothing below it says nothing, so it takes nothing away.
                self._note(key)
                under[name] = dict(under[name])
                self._lay(under[name], value or {}, key)
                continue
            if key == ADDED and isinstance(under.get(name), list) and isinstance(value, list):
                under[name] = self._joined(under[name], value)
                continue
            self._forget(under.get(name), key)
            under[name] = value
            self._adopt(value, key)

    def _joined(self, under: list[Any], over: list[Any]) -> list[Any]:
        """Both lists, each entry with the place that it is from."""
        self._note(ADDED)
        for index in range(len(over)):
            if (place := self._above.origin((*ADDED, index))) is not None:
                here = (*ADDED, len(under) + index)
                self.sources[here], self.lines[here] = place
        return [*under, *over]

    def _note(self, key: KeyPath) -> None:
        if (place := self._above.origin(key)) is not None:
            self.sources[key], self.lines[key] = place

    def _adopt(self, value: Any, key: KeyPath) -> None:
        self._note(key)
        for part, inner in _parts(value):
            self._adopt(inner, (*key, part))

    def _forget(self, value: Any, key: KeyPath) -> None:
        self.lines.pop(key, None)
        self.sources.pop(key, None)
        for part, inner in _parts(value):
            self._forget(inner, (*key, part))


def _parts(value: Any) -> list[tuple[str | int, Any]]:
    if isinstance(value, Mapping):
        return list(value.items())
    return list(enumerate(value)) if isinstance(value, list) else []
