"""Facts that are read from the source: keys, settings, exit codes, hooks, classes.

Knows none of its own but the names of the built-in plugins.
"""

import ast
import importlib
import importlib.util
import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

from pvc.core import hookspecs
from pvc.core import keys as core_keys
from pvc.core.config.reference import Entry, reference

ROOT = Path(__file__).parents[2]
BUILT_IN = ("hypervisor", "networking", "storage", "flushlock", "consolelog")


@dataclass(frozen=True, slots=True)
class Member:
    """A field, a value or a method of a class."""

    text: str
    """As declared: `name: type = default`, `name(arguments) -> type`."""
    doc: str


@dataclass(frozen=True, slots=True)
class ClassFacts:
    """A class as its readers know it."""

    name: str
    module: str
    doc: str
    members: tuple[Member, ...]


@dataclass(frozen=True, slots=True)
class Hook:
    """One hook with its signature as it is written in the source."""

    name: str
    signature: str
    doc: str


def plugin_schemas() -> dict[str, Mapping[str, Any]]:
    """The section of every built-in plugin that has one."""
    names = [f"pvc.plugins.{name}.schema" for name in BUILT_IN]
    modules = [importlib.import_module(name) for name in names if importlib.util.find_spec(name)]
    return {module.SECTION: module.SCHEMA for module in modules}


def settings() -> list[Entry]:
    """Every key of pvc.yaml."""
    return reference(plugin_schemas(), BUILT_IN)


def default_text(entry: Entry) -> str:
    """A key's default as YAML has it; words, where it is computed."""
    if entry.default is None:
        return "null"
    if isinstance(entry.default, bool):
        return str(entry.default).lower()
    return str(entry.default)


def paths() -> list[tuple[str, str, str]]:
    """Every path of the tree: the path, who owns it, what it is."""
    found = [(path, "core", doc) for path, doc in _paths(core_keys)]
    for name in BUILT_IN:
        for file in sorted((ROOT / "pvc" / "plugins" / name).rglob("keys.py")):
            module = importlib.import_module(".".join(file.relative_to(ROOT).with_suffix("").parts))
            found += [(path, name, doc) for path, doc in _paths(module)]
    return found


def exit_codes(module: ModuleType) -> dict[str, tuple[int, str]]:
    """The whole-number constants of a module that have a docstring, with it."""
    docs = _docs_of_constants(module)
    return {name: (getattr(module, name), doc) for name, doc in docs.items() if isinstance(getattr(module, name), int)}


def hooks() -> list[Hook]:
    """The hooks in the order of pvc/core/hookspecs.py."""
    return [
        Hook(name, _signature(function), inspect.getdoc(function) or "")
        for name, function in vars(hookspecs.Hooks).items()
        if name.startswith("pvc_")
    ]


def classes(module_name: str) -> list[ClassFacts]:
    """The public classes of a module, in the order of the source."""
    body = ast.parse((ROOT / f"{module_name.replace('.', '/')}.py").read_text(encoding="utf-8")).body
    return [_class(each, module_name) for each in body if isinstance(each, ast.ClassDef) and each.name[0] != "_"]


def class_of(module_name: str, name: str) -> ClassFacts:
    """One public class of a module. Raises LookupError."""
    for found in classes(module_name):
        if found.name == name:
            return found
    raise LookupError(f"there is no class {name} in {module_name}; correct docs/generator")


@cache
def strings_in(directory: str) -> frozenset[str]:
    """Every text in the code below a directory, docstrings too; `…` stands for each value that is put into a text."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in sorted((ROOT / directory).rglob("*.py"))]
    found = (_string(node) for tree in trees for node in ast.walk(tree))
    return frozenset(text for text in found if text is not None)


def environment_variables(directory: str) -> set[str]:
    """The variables of ours that the code below a directory knows by name."""
    return {text for text in strings_in(directory) if re.fullmatch(r"PVC_[A-Z_]+", text)}


def _string(node: ast.AST) -> str | None:
    if isinstance(node, ast.JoinedStr):
        return "".join(str(each.value) if isinstance(each, ast.Constant) else "…" for each in node.values)
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return re.sub(r"%(?:[sdr]|\.?\d*[fg])", "…", node.value)
    return None


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
    found: dict[str, str] = {}
    for statement, following in pairwise(ast.parse(inspect.getsource(module)).body):
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            doc = _doc(following)
            if doc is not None:
                found[statement.targets[0].id] = doc
    return found


def _signature(function: Any) -> str:
    found = re.search(r"def \w+(\(.*?\) -> .*?):\n", inspect.getsource(function), re.DOTALL)
    if found is None:
        raise ValueError(f"{function} has no annotated signature")
    return " ".join(found[1].split())


def _class(found: ast.ClassDef, module: str) -> ClassFacts:
    members = tuple(
        member
        for statement, following in zip(found.body, [*found.body[1:], None], strict=True)
        if (member := _member(statement, following)) is not None
    )
    return ClassFacts(found.name, module, _flat(ast.get_docstring(found) or ""), members)


def _member(statement: ast.stmt, following: ast.stmt | None) -> Member | None:
    if isinstance(statement, ast.FunctionDef) and statement.name[0] != "_":
        return _method(statement)
    if isinstance(statement, ast.AnnAssign | ast.Assign):
        text = re.sub(r"\bfield\(default_factory=(\w+)\)", r"\1()", ast.unparse(statement))
        return Member(text, _doc(following) or "") if text[0] != "_" else None
    return None


def _method(found: ast.FunctionDef) -> Member:
    doc = _flat(ast.get_docstring(found) or "")
    answer = ast.unparse(found.returns) if found.returns else "None"
    if any(isinstance(each, ast.Name) and each.id == "property" for each in found.decorator_list):
        return Member(f"{found.name}: {answer}", doc)
    return Member(f"{found.name}({ast.unparse(found.args)}) -> {answer}", doc)


def _doc(following: ast.stmt | None) -> str | None:
    if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
        return _flat(str(following.value.value))
    return None


def _flat(text: str) -> str:
    """Paragraphs, each on one line."""
    return "\n\n".join(" ".join(part.split()) for part in inspect.cleandoc(text).split("\n\n"))
