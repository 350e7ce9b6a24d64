"""Command lines as the real programs understand them, without running anything."""

import shlex
from typing import Any

from generator.commands import click_tree
from pvc.core.pvcd import parser

TREE = click_tree()


class Unparsable(Exception):
    """The program would refuse the command line."""


def programs_in(line: str) -> list[list[str]]:
    """The calls of our programs in one line of shell, each as its words."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    calls: list[list[str]] = [[]]
    for word in lexer:
        if set(word) <= set("();<>|&"):
            calls.append([])
        else:
            calls[-1].append(word)
    return [call for call in map(_without_assignments, calls) if call and call[0].split("/")[-1] in ("pvc", "pvcd")]


def parse(call: list[str]) -> None:
    """Have the program parse its words. Raises Unparsable."""
    if call[0].endswith("pvcd"):
        try:
            parser().parse_args(call[1:])
        except SystemExit as refused:
            raise Unparsable("pvcd does not take that") from refused
        return
    rest = _after_options(TREE, call[1:])
    command, path = TREE, ["pvc"]
    while hasattr(command, "get_command"):
        if not rest:
            raise Unparsable("a command is missing")
        inner = command.get_command(command.context_class(command, info_name=path[-1]), rest[0])
        if inner is None:
            raise Unparsable(f"there is no {rest[0]} in {' '.join(path)}")
        command = inner
        path.append(rest.pop(0))
    try:
        command.make_context(" ".join(path), list(rest))
    except Exception as refused:  # whichever class this version of Typer has for it
        raise Unparsable(str(refused)) from refused
    if path == ["pvc", "lab", "exec"] and "--" in rest:
        within = rest[rest.index("--") + 1 :]
        if within[0] == "pvc":
            parse(within)


def _after_options(group: Any, words: list[str]) -> list[str]:
    """The words after the options that stand before a command. Raises Unparsable."""
    rest = list(words)
    options = {name: option for option in group.params for name in option.opts}
    while rest and rest[0].startswith("-"):
        name, _, value = rest.pop(0).partition("=")
        if name not in options:
            raise Unparsable(f"there is no option {name}")
        if not options[name].is_flag and not value:
            rest.pop(0)
    return rest


def _without_assignments(call: list[str]) -> list[str]:
    """A call without the variables that are set for it."""
    while call and "=" in call[0] and call[0].partition("=")[0].isupper():
        call = call[1:]
    return call
