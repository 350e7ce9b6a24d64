"""How the kinds of parameters that Typer knows come out in the reference."""

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer
import typer.main

from generator.commands import walk


class Form(Enum):
    """Some choices."""

    TEXT = "text"
    JSON = "json"


def _parameters(function: object) -> list[tuple[str, str, str]]:
    app = typer.Typer(add_completion=False)
    app.command()(function)  # type: ignore[type-var]  # any function will do
    (command,) = walk(typer.main.get_command(app), "x")
    return [(", ".join(each.names), each.value, each.help) for each in command.parameters]


def test_options_show_what_they_take_and_their_default() -> None:
    def x(
        into: Annotated[Path, typer.Option(help="A directory.")] = Path(),
        count: Annotated[int, typer.Option("--count", "-n", min=1, help="How many.")] = 3,
        wait: Annotated[float | None, typer.Option(metavar="SECONDS", help="How long.")] = None,
        form: Annotated[Form, typer.Option("--format", help="How.")] = Form.TEXT,
        force: Annotated[bool, typer.Option("--force", help="Do it.")] = False,
        ask: Annotated[bool, typer.Option("--ask/--no-ask", help="Ask.")] = True,
        server: Annotated[str, typer.Option(envvar="X_SERVER", help="Where.")] = "",
    ) -> None: ...

    shown = _parameters(x)
    assert shown[0][:2] == ("--into", "INTO")
    assert shown[1:] == [
        ("-n, --count", "N", "How many. Default: `3`."),
        ("--wait", "SECONDS", "How long."),
        ("--format", "text|json", "How. Default: `text`."),
        ("--force", "", "Do it."),
        ("--ask, --no-ask", "", "Ask. Default: `--ask`."),
        ("--server", "SERVER", "Where. Environment: `X_SERVER`."),
    ]


def test_the_usage_tells_what_is_needed_and_what_may_be_repeated() -> None:
    def x(
        name: Annotated[str, typer.Argument(metavar="VM", help="It.")],
        more: Annotated[list[str] | None, typer.Argument(help="More.")] = None,
    ) -> None: ...

    app = typer.Typer(add_completion=False)
    app.command()(x)
    (command,) = walk(typer.main.get_command(app), "x")
    assert command.usage == "x VM [MORE ...]"
