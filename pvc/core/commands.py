"""What the command line hands to plugins: groups to add commands to, and the few verbs every command needs.

The real one is `pvc.cli`; the core and the plugins see only this, so neither imports Typer's owner.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn, Protocol

from pvc.core.config.settings import Config
from pvc.core.context import Verdict
from pvc.core.coordination import Coordinator
from pvc.core.errors import PvcError
from pvc.core.model import Vm
from pvc.core.runtime import Runtime

UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
"""Of 1024 each."""


class Moment(float):
    """Seconds since the epoch that a table shows as a date and time; JSON and YAML keep the number."""


class Seconds(float):
    """A time so short that a table shows it to a tenth of a millisecond; JSON and YAML keep the number."""


class Size(int):
    """Bytes that a table shows in a unit that suits them; JSON and YAML keep the number."""


def when(moment: float) -> str:
    """A point in time, in seconds since the epoch, in the reader's own zone."""
    return datetime.fromtimestamp(moment).strftime("%Y-%m-%d %H:%M:%S")


def in_units(size: int) -> str:
    """So many bytes for people, as `1.5 GiB`; after `~`, if four digits do not tell it exactly."""
    unit = min(max(abs(size).bit_length() - 1, 0) // 10, len(UNITS) - 1)
    figure = size / 1024**unit
    text = f"{figure:.4g}" if abs(figure) < 1000 else f"{figure:.0f}"
    return f"{'' if float(text) == figure else '~'}{text} {UNITS[unit]}"


class DuplicateCommand(PvcError):
    """Two plugins, or a plugin and core, want the same command, or the same field of `pvc status`."""


class CommandGroup(Protocol):
    """A group of commands such as `pvc node`."""

    def command(
        self, name: str, *, listing: bool = False, **options: Any
    ) -> Callable[[Callable[..., None]], Callable[..., None]]:
        """Decorator that adds a command; the function's annotations are Typer parameters, `options` go to Typer.

        A `listing` gets the option `--format table|json|yaml`, which `CommandLine.show` obeys. Raises DuplicateCommand
        for a name that is taken: a second one would silently replace the first.
        """

    def later(self, names: Sequence[str] | Mapping[str, str], add: Callable[[], None]) -> None:
        """Have `add` called when one of these commands is asked for; it adds them all with `command`.

        So it can import what they need, and other commands start without that. With a short help for each name a list
        of commands is shown without calling it. Raises DuplicateCommand.
        """


class CommandLine(Protocol):
    """The running `pvc` as a plugin's command sees it."""

    @property
    def runtime(self) -> Runtime: ...

    @property
    def config(self) -> Config:
        """The client's configuration; read at the first use, so that `--help` works without any."""

    @property
    def schemas(self) -> Mapping[str, Mapping[str, Any]]:
        """The schema of pvc.yaml's section of each plugin that this client has loaded."""

    @property
    def user(self) -> str:
        """Who is at the keyboard, for records: name@host."""

    def group(self, name: str, help: str = "") -> CommandGroup:
        """The group of that name, made at the first call; "" is the top, `pvc` itself.

        A group within a group has both names, with a space between them; ask for the outer one first.
        """

    def status_part(self, name: str, look: Callable[[Coordinator], Any]) -> None:
        """Add a field to `pvc status`, and what looks up its value: text, a number, or a list of mappings.

        Raises DuplicateCommand for a name that is taken. A `look` that fails is shown in place of its value.
        """

    def connect(self) -> Coordinator:
        """The connection to the cluster, made at the first call and closed when the command ends.

        Raises PvcError naming the hosts if no server answers in time or the tree is of another version.
        """

    def show(self, rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, one: bool = False) -> None:
        """Print a listing in the format that `--format` asked for: `columns` for the table, all fields otherwise.

        `one` prints a single record: field by field in a table, an object rather than a list in JSON and YAML.
        """

    def say(self, text: str) -> None:
        """Print a line for people on standard output."""

    def note(self, text: str) -> None:
        """Print a line for people on standard error, so that piped output stays clean."""

    def confirm(self, question: str, *, yes: bool) -> None:
        """Ask unless `yes`; ends the command with code 1 if the answer is no or nobody can answer."""

    def fail(self, message: str, code: int = 1) -> NoReturn:
        """End the command with a message on standard error and an exit code."""

    def vm_needs(self, xml: str) -> dict[str, tuple[str, ...]]:
        """What a VM of this definition needs of the roles that nodes have now; see core/needs.py.

        Raises PluginFailed, Disconnected.
        """

    def verdicts(self, vm: Vm, nodes: tuple[str, ...]) -> Mapping[str, Verdict]:
        """What the roles that a VM needs say of nodes as its place. Raises PluginFailed, Disconnected."""

    def complete_nodes(self, incomplete: str) -> list[str]:
        """Live node names for shell completion; empty if the cluster cannot be reached quickly."""

    def complete_below(self, path: str, incomplete: str) -> list[str]:
        """Live names below a path of the tree, for shell completion; empty if the cluster cannot be reached quickly."""

    def complete_vms(self, incomplete: str) -> list[str]:
        """Live VM names for shell completion; empty if the cluster cannot be reached quickly."""
