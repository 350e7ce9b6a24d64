"""Groups of commands on Typer, whose commands may be made only when one of them is asked for: `pvc --help` and
`pvc node list` need not wait for what other commands import."""

import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_group

from pvc.cli.output import Format
from pvc.core.commands import DuplicateCommand
from pvc.core.errors import PvcError
from pvc.core.loading import in_words, kept_quiet

FormatOption = Annotated[Format | None, typer.Option("--format", help="How to print.", show_choices=True)]

log = logging.getLogger("pvc")


class Group:
    """A group of commands; see `CommandGroup`."""

    def __init__(
        self, name: str, choose_format: Callable[[Format], None], claimant: Callable[[], str], /, **options: Any
    ) -> None:
        """`name` is empty for the top; `choose_format` is told what `--format` of a listing says; `claimant` says who
        adds commands at this moment."""
        self._name = name
        self._choose_format = choose_format
        self._claimant = claimant
        self._names: dict[str, str] = {}
        self._later: dict[str, tuple[Callable[[], None], str]] = {}
        self._adding: Callable[[], None] | None = None
        self._announcer = ""
        """Who announced the command that is made at this moment; empty: none is."""
        self.app = typer.Typer(
            cls=_lazy(self),
            no_args_is_help=True,
            rich_markup_mode=None,
            context_settings={"help_option_names": ["-h", "--help"]},
            **options,
        )

    @property
    def names(self) -> tuple[str, ...]:
        """Every command and group in it, also those that are not made yet, in the order of their coming."""
        return tuple(self._names)

    def claim(self, name: str) -> None:
        """Take a name in this group. Raises DuplicateCommand."""
        claimant = self._announcer or self._claimant()
        if name in self._names:
            raise DuplicateCommand(both_want(f"the command `{self._in_words(name)}`", self._names[name], claimant))
        self._names[name] = claimant

    def command(
        self, name: str, *, listing: bool = False, **options: Any
    ) -> Callable[[Callable[..., None]], Callable[..., None]]:
        """See CommandGroup."""
        if name in self._later and self._later[name][0] is self._adding:
            del self._later[name]
        else:
            self.claim(name)

        def add(function: Callable[..., None]) -> Callable[..., None]:
            chosen = _with_format(function, self._choose_format) if listing else function
            self.app.command(name, **options)(chosen)
            return function

        return add

    def later(self, names: Sequence[str] | Mapping[str, str], add: Callable[[], None]) -> None:
        """See CommandGroup."""
        for name in names:
            self.claim(name)
            self._later[name] = (add, names[name] if isinstance(names, Mapping) else "")

    def awaits(self, name: str) -> bool:
        """Whether the command is not made yet."""
        return name in self._later

    def sketch(self, name: str) -> TyperCommand | None:
        """What a list shows of a command that is not made yet; None: it must be made for that."""
        text = self._later[name][1]
        return TyperCommand(name, help=text) if text else None

    def make_all(self) -> None:
        """Make every command that was left for later. Raises like `make`."""
        for name in self.names:
            if self.awaits(name):
                self.make(name)

    def make(self, name: str) -> dict[str, Any]:
        """Make a command that was left for later, and those that come with it; all that are made, by name.

        Raises PvcError if its plugin fails in that.
        """
        self._adding, self._announcer = self._later[name][0], self._names[name]
        try:
            with kept_quiet(attended=True):
                self._adding()
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a plugin's import may do anything, exits included: it becomes a message
            why = f"the command `{self._in_words(name)}` cannot be made: {in_words(error)}; mend its plugin"
            raise PvcError(why) from error
        finally:
            self._adding, self._announcer = None, ""
        if name in self._later:
            raise PvcError(f"the command `{self._in_words(name)}` was announced but not added; mend its plugin")
        return dict(get_group(self.app).commands)

    def _in_words(self, name: str) -> str:
        return " ".join(word for word in ("pvc", self._name, name) if word)


def both_want(what: str, first: str, second: str) -> str:
    """Why the second does not get what it wants."""
    return f"{first} and {second} want {what}; the first one has it. Switch one of the two off"


def _lazy(group: Group) -> type[TyperGroup]:
    class LazyGroup(TyperGroup):
        """Makes a command when it is asked for by name; lists those with a short help without making them."""

        listing = False

        def list_commands(self, ctx: Any) -> list[str]:
            return list(group.names)

        def format_commands(self, ctx: Any, formatter: Any) -> None:
            self.listing = True
            super().format_commands(ctx, formatter)
            self.listing = False

        def get_command(self, ctx: Any, cmd_name: str) -> Any:
            if not group.awaits(cmd_name):
                return super().get_command(ctx, cmd_name)
            if self.listing and (sketch := group.sketch(cmd_name)):
                return sketch
            try:
                self.commands.update(group.make(cmd_name))
            except PvcError as error:
                if not self.listing:
                    raise
                log.warning("%s", error)  # the others are listed all the same
            return super().get_command(ctx, cmd_name)

    return LazyGroup


def _with_format(function: Callable[..., None], choose: Callable[[Format], None]) -> Callable[..., None]:
    """The same command with the option `--format`."""

    def command(*args: Any, output_format: Format | None = None, **kwargs: Any) -> None:
        if output_format is not None:
            choose(output_format)
        function(*args, **kwargs)

    signature = inspect.signature(function)
    extra = inspect.Parameter("output_format", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=FormatOption)
    command.__doc__ = function.__doc__
    command.__name__ = function.__name__
    command.__signature__ = signature.replace(parameters=[*signature.parameters.values(), extra])  # type: ignore[attr-defined]  # typing has no word for it
    command.__annotations__ = {**function.__annotations__, "output_format": FormatOption}
    return command
