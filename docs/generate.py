"""Writes docs/reference.md from the schemas, the keys, the commands and the exit codes: `python docs/generate.py`.

Knows no fact of its own but the names of modules and the kind of value that each node of the tree holds;
`tests/test_docs.py` compares the committed file with `text()`.
"""

import ast
import importlib
import importlib.util
import inspect
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import typer.main

from pvc.cli import exits
from pvc.cli.main import build
from pvc.core import keys as core_keys
from pvc.core import pvcd
from pvc.core.config.reference import Entry, reference

TARGET = Path(__file__).parent / "reference.md"
BUILT_IN = ("hypervisor", "networking", "storage", "flushlock", "consolelog")

HOLDS: Mapping[str, str] = {
    "/nodes/<name>": "`Node`",
    "/nodes/<name>/session": "`NodeSession`, ephemeral",
    "/nodes/<name>/facts": "`NodeFacts`",
    "/nodes/<name>/plugins": "`PluginReports` of pvc/core/pluginreports.py",
    "/nodes/<name>/operation": "`Operation`",
    "/nodes/<name>/vms/<uuid>": "empty, or a `MoveReport`",
    "/vms/<uuid>": "`Vm`",
    "/vms/<uuid>/xml": "XML as defined",
    "/vms/<uuid>/actual": "`VmActual`",
    "/names/<vm_name>": "a UUID",
    "/history/operation-": "`Operation`; the name ends with a number",
    "/roll": "`Roll` of pvc/core/rolls.py",
    "/roll/driver": "`Driver`, ephemeral",
    "/locks/flush/<name>": "`Ticket`, ephemeral",
    "/vms/<uuid>/console": "`Header`",
    "/vms/<uuid>/console/<number>": "for each chunk one line of JSON, then the VM's bytes",
}
"""The kind of value in each node of the tree: a record of pvc/core/model.py or of the plugin that owns it."""


def text() -> str:
    """The whole of docs/reference.md."""
    parts = (_opening(), _configuration(), _tree(), _commands(), _exit_codes())
    return "\n".join(line for part in parts for line in (*part, "")).rstrip("\n") + "\n"


def _opening() -> Iterator[str]:
    yield "# Reference"
    yield ""
    yield "Made by `python docs/generate.py` from the schemas, the keys, the commands and the exit codes in the source;"
    yield "change those, not this file."


def _configuration() -> Iterator[str]:
    yield "## Configuration: pvc.yaml"
    yield ""
    yield "Every key may be left out. The section of a plugin is read only if the plugin is on. `pvc.yaml.example`"
    yield "shows all of it; `pvc config check` checks a file, `pvc config show` prints what is in force."
    yield "For a key marked *per VM* one VM can have its own value: `pvc vm set VM KEY=VALUE`, `pvc vm unset VM KEY`."
    section = None
    for entry in reference(plugin_schemas(), BUILT_IN):
        head = entry.path.partition(".")[0] if "." in entry.path else "top level"
        if head != section:
            section = head
            yield from ("", f"### {section}", "", "| key | default | allowed | meaning |", "|---|---|---|---|")
        yield f"| `{entry.path}` | {_default(entry)} | {_cell(entry.allowed)} | {_meaning(entry)} |"


def _tree() -> Iterator[str]:
    yield "## The ZooKeeper tree"
    yield ""
    yield f'Below `zookeeper.root` (`/pvc`), whose own data is `{{"schema": {core_keys.SCHEMA}}}`. Values are JSON; the'
    yield "records are described field by field in `pvc/core/model.py` and in the plugin that owns them."
    yield from ("", "| path | owner | what it is | value |", "|---|---|---|---|")
    for owner, module in _key_modules():
        for path, doc in _paths(module):
            yield f"| `{path}` | {owner} | {_cell(doc)} | {HOLDS.get(path, '')} |"


def _commands() -> Iterator[str]:
    yield "## Commands"
    yield ""
    yield "Before the command: `--zookeeper`, `--config`, `--format table|json|yaml`, `--version`. After it: `-h`."
    yield from ("", "| command | what it does |", "|---|---|")
    for command, help_text in commands().items():
        yield f"| `{command}` | {_cell(help_text)} |"


def _exit_codes() -> Iterator[str]:
    yield "## Exit codes"
    yield ""
    yield "### pvc"
    yield from ("", "| code | name | meaning |", "|---|---|---|", "| 0 | | It is done. |")
    for name, (code, doc) in exit_codes(exits).items():
        yield f"| {code} | `{name}` | {_cell(doc)} |"
    yield from ("", "### pvcd", "", "| code | meaning |", "|---|---|")
    yield "| 0 | Told to stop (SIGTERM or SIGINT). |"
    yield f"| {pvcd.FAILED} | It cannot run now: no ZooKeeper server answers, or the node's name is taken. |"
    yield f"| {pvcd.BAD_CONFIGURATION} | {_cell(exit_codes(pvcd)['BAD_CONFIGURATION'][1])} |"


def plugin_schemas() -> dict[str, Mapping[str, Any]]:
    """The section of every built-in plugin that has one."""
    names = [f"pvc.plugins.{name}.schema" for name in BUILT_IN]
    modules = [importlib.import_module(name) for name in names if importlib.util.find_spec(name)]
    return {module.SECTION: module.SCHEMA for module in modules}


def commands() -> dict[str, str]:
    """Every command that ends a line of the form `pvc group command`, with the first paragraph of its help."""
    leaves = _leaves(typer.main.get_command(build("/dev/null").app), "pvc")
    return {path: (command.help or "").partition("\n\n")[0] for path, command in leaves}


def options() -> dict[str, set[str]]:
    """The options of every command."""
    found: dict[str, set[str]] = {}
    for path, command in _leaves(typer.main.get_command(build("/dev/null").app), "pvc"):
        found[path] = {"-h", "--help"}
        for parameter in command.params:
            found[path] |= {*parameter.opts, *parameter.secondary_opts}
    return found


def exit_codes(module: ModuleType) -> dict[str, tuple[int, str]]:
    """The whole-number constants of a module that have a docstring, with it."""
    docs = _docs_of_constants(module)
    return {name: (getattr(module, name), doc) for name, doc in docs.items() if isinstance(getattr(module, name), int)}


def _leaves(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    for name, inner in getattr(command, "commands", {}).items():
        if getattr(inner, "commands", None):
            yield from _leaves(inner, f"{path} {name}")
        else:
            yield f"{path} {name}", inner


def _key_modules() -> Iterator[tuple[str, ModuleType]]:
    yield "core", core_keys
    for name in BUILT_IN:
        if importlib.util.find_spec(f"pvc.plugins.{name}.keys"):
            yield name, importlib.import_module(f"pvc.plugins.{name}.keys")


def _paths(module: ModuleType) -> Iterator[tuple[str, str]]:
    """Each path of a module of keys with its docstring: constants first, then functions, in the order of the source."""
    for name, doc in _docs_of_constants(module).items():
        value = getattr(module, name)
        if isinstance(value, str) and value.startswith("/") and not value.endswith("-"):
            yield value, doc
    for function in vars(module).values():
        if inspect.isfunction(function) and function.__module__ == module.__name__:
            arguments = inspect.signature(function).parameters
            # A number is formatted into the path, so it cannot be passed as the word that stands for it.
            path = function(*(0 if arguments[each].annotation is int else f"<{each}>" for each in arguments))
            yield path.replace("000000000000", "<number>"), inspect.getdoc(function) or ""


def _docs_of_constants(module: ModuleType) -> dict[str, str]:
    """The text below each assignment at the top of a module."""
    body = ast.parse(inspect.getsource(module)).body
    found: dict[str, str] = {}
    for statement, following in pairwise(body):
        if not isinstance(statement, ast.Assign) or not isinstance(statement.targets[0], ast.Name):
            continue
        if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
            found[statement.targets[0].id] = inspect.cleandoc(str(following.value.value))
    return found


def _default(entry: Entry) -> str:
    default = entry.default
    if entry.path == "node":
        return _cell(str(default))
    if default is None:
        return "null"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return f"`{_cell(str(default))}`"


def _meaning(entry: Entry) -> str:
    return f"{_cell(entry.help)} *Per VM.*" if entry.per_vm else _cell(entry.help)


def _cell(value: str) -> str:
    """Text that fits into one cell of a table."""
    return " ".join(value.split()).replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    TARGET.write_text(text(), encoding="utf-8")
