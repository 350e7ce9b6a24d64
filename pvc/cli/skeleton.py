"""Makes the skeleton of a third-party plugin from the files in `templates`. Overwrites nothing."""

import keyword
import re
from collections.abc import Collection
from importlib.resources import files
from pathlib import Path
from string import Template

import pvc
from pvc.core.config.schema import core_schema
from pvc.core.config.switches import FEATURES, ROLES
from pvc.core.declaration import API
from pvc.core.errors import PvcError
from pvc.core.plugins import installed

LONGEST_NAME = 40
"""Characters of a name: it becomes a heading in tables and part of file names."""

_FILES = {
    "pyproject.toml": "pyproject.toml",
    "README.md": "README.md",
    "package.py": "src/pvc_{name}/__init__.py",
    "plugin.py": "src/pvc_{name}/plugin.py",
    "schema.py": "src/pvc_{name}/schema.py",
    "service.py": "src/pvc_{name}/service.py",
    "cli.py": "src/pvc_{name}/cli.py",
    "py.typed": "src/pvc_{name}/py.typed",
    "tests.py": "tests/test_{name}.py",
}


class BadName(PvcError):
    """A plugin cannot have this name."""


class WouldOverwrite(PvcError):
    """Where the skeleton is to be made, there is something already."""


def write_skeleton(name: str, directory: Path | None, commands: Collection[str] = ()) -> Path:
    """Make the skeleton in a directory that is empty or not there; which one. `commands`: those of `pvc`.

    Raises BadName, WouldOverwrite.
    """
    if why := why_not(name, commands):
        raise BadName(f"a plugin cannot be named {name!r}: {why}")
    target = directory or Path(f"pvc-{name.replace('_', '-')}")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise WouldOverwrite(f"{target} exists and is not empty; choose another place with --directory")
    try:
        for path, text in skeleton(name).items():
            file = target / path
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("x", encoding="utf-8") as opened:
                opened.write(text)
    except OSError as error:
        raise PvcError(
            f"{target} cannot be written: {error.strerror}; choose another place with --directory"
        ) from error
    return target


def why_not(name: str, commands: Collection[str] = ()) -> str:
    """Why a plugin cannot have this name, and what to do; empty: it can."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or len(name) > LONGEST_NAME:
        return f"use up to {LONGEST_NAME} lower-case letters, digits and underscores, a letter first"
    if keyword.iskeyword(name):
        return "it is a word of Python's; choose another one"
    if name in {*ROLES, *FEATURES}:
        return "it is a built-in plugin; choose another name"
    if name in core_schema():
        return "its section of pvc.yaml would be one of pvc's own keys; choose another name"
    if name in commands:
        return f"there is `pvc {name}` already, and its commands would have that name; choose another name"
    if name in installed():
        return "a plugin of this name is installed; choose another name"
    return ""


def skeleton(name: str) -> dict[str, str]:
    """The text of every file, by its path below the distribution's directory."""
    words = {
        "name": name,
        "Name": "".join(part.capitalize() for part in name.split("_")),
        "distribution": f"pvc-{name.replace('_', '-')}",
        "api": str(API),
        "pvc_version": pvc.__version__,
    }
    templates = files("pvc.cli") / "templates"
    return {
        path.format(name=name): Template((templates / f"{source}.txt").read_text(encoding="utf-8")).substitute(words)
        for source, path in _FILES.items()
    }
