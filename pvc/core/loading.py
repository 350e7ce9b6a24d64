"""From the name of a plugin to its object: finds the entry point, imports it, and says why that does not work.

What runs here is a third party's code: whatever it does ends up as a PluginProblem.
"""

import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext, redirect_stdout
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import TypeVar

from pvc.core.declaration import API, OLDEST_API, Declaration
from pvc.core.errors import PvcError
from pvc.core.hookspecs import GROUP
from pvc.core.runtime import Ended

T = TypeVar("T")

_OWN = ("pvc.plugins.", "pvc.lab.")
"""Where the code of built-in plugins is."""


class PluginProblem(PvcError):
    """A plugin cannot be loaded: it is missing, broken, not in this version, or for another one."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a plugin comes from."""

    entry_point: str
    distribution: str = ""
    version: str = ""
    built_in: bool = False


def installed() -> dict[str, EntryPoint]:
    """Every plugin that is installed, by name; nobody else's takes the place of a built-in one."""
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=GROUP):
        if point.name not in found or point.value.startswith(_OWN):
            found[point.name] = point
    return found


def origin_of(point: EntryPoint) -> Origin:
    """Where an installed plugin comes from."""
    own = point.value.startswith(_OWN)
    return Origin(point.value, point.dist.name if point.dist else "", point.dist.version if point.dist else "", own)


def origin_given(plugin: object) -> Origin:
    """Where a plugin comes from that was handed over as an object."""
    module = getattr(plugin, "__module__", None) or getattr(plugin, "__name__", "")
    return Origin("given", built_in=f"{module}.".startswith(_OWN))


def find(name: str, points: Mapping[str, EntryPoint]) -> EntryPoint:
    """The entry point of a plugin. Raises PluginProblem."""
    if name in points:
        return points[name]
    raise PluginProblem(f"plugin {name} is not installed; installed are: {', '.join(sorted(points))}")


def load(point: EntryPoint, *, attended: bool) -> object:
    """The plugin's object. `attended`: as `contained`. Raises PluginProblem."""
    demand_one_owner(point)

    def made() -> object:
        loaded = point.load()
        return loaded() if isinstance(loaded, type) else loaded

    return contained(f"plugin {point.name} cannot be loaded ({point.value})", made, attended=attended)


def demand_one_owner(point: EntryPoint) -> None:
    """Raise PluginProblem if several distributions offer a plugin of this name and none of them is pvc."""
    owners = [other.dist.name for other in entry_points(group=GROUP, name=point.name) if other.dist]
    if len(set(owners)) > 1 and not point.value.startswith(_OWN):
        raise PluginProblem(
            f"plugin {point.name} is offered by several distributions ({', '.join(sorted(set(owners)))});"
            " uninstall all but one"
        )


def contained(what: str, work: Callable[[], T], *, attended: bool) -> T:
    """What a third party's code returns; whatever it raises becomes a PluginProblem that begins with `what`.

    `attended`: in the client, where Ctrl-C is the person's, and standard output belongs to the command.
    """
    try:
        with kept_quiet(attended):
            return work()
    except (Ended, PluginProblem):
        raise
    except BaseException as error:
        if attended and isinstance(error, KeyboardInterrupt):
            raise
        raise PluginProblem(f"{what}: {in_words(error)}") from error


def kept_quiet(attended: bool) -> AbstractContextManager[object]:
    """Around a third party's code in the client: what it prints goes to standard error."""
    return redirect_stdout(sys.stderr) if attended else nullcontext()


def in_words(error: BaseException) -> str:
    """An error as part of a sentence; an exit has little text of its own."""
    text = str(error)
    return text if text and isinstance(error, Exception) else f"{type(error).__name__}({text})"


def demand_known_api(declaration: object) -> Declaration:
    """The declaration, if this program has the hooks that it was written for. Raises PluginProblem."""
    if not isinstance(declaration, Declaration) or type(declaration.api) is not int:
        raise PluginProblem("its pvc_declaration does not return a Declaration of pvc/core/declaration.py; mend it")
    for field in ("needs", "conflicts"):
        names = getattr(declaration, field)
        if not isinstance(names, tuple | list) or not all(isinstance(name, str) for name in names):
            raise PluginProblem(f'its declaration has {field}={names!r}; write a tuple of names such as ("flushlock",)')
    if not isinstance(declaration.summary, str):
        raise PluginProblem(f"its declaration has summary={declaration.summary!r}; write text")
    if declaration.api > API:
        raise PluginProblem(f"it needs hooks version {declaration.api}, this pvc has {API}; update pvc")
    if declaration.api < OLDEST_API:
        raise PluginProblem(
            f"it was written for hooks version {declaration.api}, this pvc takes {OLDEST_API} to {API}; update it"
        )
    return declaration
