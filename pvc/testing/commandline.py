"""A `CommandLine` for tests of commands: it keeps what a command shows, and ends one that fails with `Failed`."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from pvc.core.commands import DuplicateCommand
from pvc.core.config.settings import Config
from pvc.core.context import Verdict
from pvc.core.coordination import Coordinator
from pvc.core.errors import PvcError
from pvc.core.model import Vm
from pvc.core.runtime import Runtime


class Failed(PvcError):
    """A command has ended with `CommandLine.fail`."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class FakeCommandLine:
    """Commands are called as functions: `run("window show", node="hv1")`. Options left out have their defaults."""

    user = "tester@laptop"

    def __init__(self, coordinator: Coordinator, runtime: Runtime, config: Config | None = None) -> None:
        self.runtime = runtime
        self.config = config or Config(node="laptop")
        self.schemas: Mapping[str, Mapping[str, Any]] = {}
        self.commands: dict[str, Callable[..., None]] = {}
        self.later: dict[str, Callable[[], None]] = {}
        """What adds the commands that are not made until they are run."""
        self.status_parts: dict[str, Callable[[Coordinator], Any]] = {}
        self.rows: list[dict[str, Any]] = []
        """What the last command has shown."""
        self.said: list[str] = []
        self.noted: list[str] = []
        self._coordinator = coordinator

    def run(self, command: str, /, *arguments: Any, **options: Any) -> None:
        """Call a command. Raises Failed, and what the command raises."""
        self.rows = []
        if command in self.later:
            self.later[command]()
        self.commands[command](*arguments, **options)

    def group(self, name: str, help: str = "") -> "_Group":
        return _Group(self, name)

    def status_part(self, name: str, look: Callable[[Coordinator], Any]) -> None:
        self.status_parts[name] = look

    def connect(self) -> Coordinator:
        return self._coordinator

    def show(self, rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, one: bool = False) -> None:
        self.rows = [dict(row) for row in rows]

    def say(self, text: str) -> None:
        self.said.append(text)

    def note(self, text: str) -> None:
        self.noted.append(text)

    def confirm(self, question: str, *, yes: bool) -> None:
        if not yes:
            self.fail(question)

    def fail(self, message: str, code: int = 1) -> NoReturn:
        raise Failed(message, code)

    def vm_needs(self, xml: str) -> dict[str, tuple[str, ...]]:
        return {}

    def verdicts(self, vm: Vm, nodes: tuple[str, ...]) -> Mapping[str, Verdict]:
        return {}

    def complete_nodes(self, incomplete: str) -> list[str]:
        return self.complete_below("/nodes", incomplete)

    def complete_vms(self, incomplete: str) -> list[str]:
        return self.complete_below("/names", incomplete)

    def complete_below(self, path: str, incomplete: str) -> list[str]:
        return [name for name in self._coordinator.children(path) or () if name.startswith(incomplete)]


class _Group:
    def __init__(self, owner: FakeCommandLine, name: str) -> None:
        self._owner = owner
        self._name = name

    def command(
        self, name: str, *, listing: bool = False, **options: Any
    ) -> Callable[[Callable[..., None]], Callable[..., None]]:
        full = self._free(name, announced=True)
        self._owner.later.pop(full, None)

        def add(function: Callable[..., None]) -> Callable[..., None]:
            self._owner.commands[full] = function
            return function

        return add

    def later(self, names: Sequence[str] | Mapping[str, str], add: Callable[[], None]) -> None:
        self._owner.later.update({self._free(name): add for name in names})

    def _free(self, name: str, *, announced: bool = False) -> str:
        full = f"{self._name} {name}".strip()
        if full in self._owner.commands or (full in self._owner.later and not announced):
            raise DuplicateCommand(f"the command `{full}` is there already; choose another name")
        return full
