"""The commands of `pvc` and the options of `pvcd`, read from the objects that run them.

`click_tree` alone knows how the application is built. Texts come from the parameters, not from Typer's own help pages:
those differ from one version of Typer to the next.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

import typer.main

from pvc.cli.main import build
from pvc.core import pvcd

NOWHERE = "/dev/null"
"""An empty configuration: every built-in plugin's commands, and nothing of this machine's."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One argument or option of a command."""

    names: tuple[str, ...]
    """As typed; for an argument what stands for it."""
    value: str
    """What stands for an option's value; empty: it takes none."""
    help: str
    is_option: bool
    required: bool = False
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class Command:
    """One command, or a group of commands, with its full path (`pvc node flush`)."""

    path: str
    help: str
    parameters: tuple[Parameter, ...]
    is_group: bool = False

    @property
    def usage(self) -> str:
        """One line: path, options, arguments."""
        return " ".join([self.path, *self._usage_words()])

    @property
    def summary(self) -> str:
        """The first paragraph of the help."""
        return " ".join(self.help.partition("\n\n")[0].split())

    @property
    def options(self) -> tuple[Parameter, ...]:
        return tuple(each for each in self.parameters if each.is_option)

    @property
    def arguments(self) -> tuple[Parameter, ...]:
        return tuple(each for each in self.parameters if not each.is_option)

    def _usage_words(self) -> Iterator[str]:
        if self.options:
            yield "[OPTIONS]"
        if self.is_group:
            yield "COMMAND ..."
        for argument in self.arguments:
            name = argument.names[0] + (" ..." if argument.repeated else "")
            yield name if argument.required else f"[{name}]"


def click_tree() -> Any:
    """The whole tree of `pvc` as Click's commands, built-in plugins and the lab included."""
    return typer.main.get_command(build(NOWHERE).whole())


def commands() -> list[Command]:
    """`pvc` itself, every group and every command, each group before what is in it, in the order of `pvc --help`."""
    return list(walk(click_tree(), "pvc"))


def daemon() -> Command:
    """`pvcd`."""
    parser = pvcd.parser()
    parameters = tuple(_daemon_option(action) for action in parser._actions)
    return Command("pvcd", parser.description or "", parameters)


def walk(command: Any, path: str) -> Iterator[Command]:
    """A command of Click's and all that is below it. `path` is what is typed to reach it."""
    context = command.context_class(command, info_name=path)
    parameters = tuple(_parameter(each) for each in command.params if not getattr(each, "hidden", False))
    inner = command.list_commands(context) if hasattr(command, "list_commands") else []
    yield Command(path, command.help or "", parameters, bool(inner))
    for name in inner:
        yield from walk(command.get_command(context, name), f"{path} {name}")


def _parameter(found: Any) -> Parameter:
    is_option = found.param_type_name == "option"
    repeated = bool(getattr(found, "multiple", False)) or found.nargs == -1
    if not is_option:
        name = (found.metavar or found.name).strip("[].").upper()
        return Parameter((name,), "", _sentence(found), False, found.required, repeated)
    names = (*found.opts, *found.secondary_opts)
    value = "" if found.is_flag else _value(found)
    return Parameter(tuple(sorted(names, key=len)), value, _sentence(found), True, found.required, repeated)


def _value(found: Any) -> str:
    if found.metavar:
        return str(found.metavar)
    kind = found.type_descriptor.annotation if hasattr(found, "type_descriptor") else found.type  # by Typer's version
    if choices := _choices(kind):
        return "|".join(choices)
    name = str(getattr(kind, "name", ""))  # text only of a type of Click's
    if kind in (int, float) or name.partition(" ")[0] in ("integer", "float"):
        return "N"
    return str(max(found.opts, key=len)).strip("-").upper()


def _choices(kind: Any) -> list[str]:
    """The values that may be chosen: members of an Enum, or of Click's type of choices."""
    if isinstance(kind, type) and issubclass(kind, Enum):
        return [str(member.value) for member in kind]
    return [str(getattr(choice, "value", choice)) for choice in getattr(kind, "choices", ())]


def _sentence(found: Any) -> str:
    """The help, with the default and the environment variable that it stands in for."""
    text = found.help or ""
    default = getattr(found.default, "value", found.default)
    has_default = isinstance(default, str | int | float) and default is not False and default != ""
    if has_default and found.param_type_name == "option" and getattr(found, "show_default", True):
        negative = found.secondary_opts[0] if found.is_flag and found.secondary_opts else None
        text += f" Default: `{found.opts[0] if negative else _plain(default)}`."
    if getattr(found, "envvar", None):
        text += f" Environment: `{found.envvar}`."
    return " ".join(text.split())


def _plain(default: Any) -> str:
    return f"{default:g}" if isinstance(default, float) else str(default)


def _daemon_option(action: argparse.Action) -> Parameter:
    names = tuple(sorted(action.option_strings, key=len))
    help_text = (action.help or "")[:1].upper() + (action.help or "")[1:].rstrip(".") + "."
    return Parameter(names, str(action.metavar or ""), help_text, True)
