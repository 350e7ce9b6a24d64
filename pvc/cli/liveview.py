"""An operation on a terminal: one live row per VM, drawn over and over in place."""

from collections.abc import Callable
from types import TracebackType
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from pvc.cli.watching import View, waiting_line
from pvc.core.model import FINAL, Operation, OutcomeState

MIB = 1024 * 1024

_STYLES = {
    OutcomeState.WAITING: "dim",
    OutcomeState.MOVING: "yellow",
    OutcomeState.MOVED: "green",
    OutcomeState.KEPT: "red",
    OutcomeState.LEFT_ALONE: "cyan",
}


class LiveRows:
    """A `Display` for terminals; use as a context manager."""

    def __init__(self, left: Callable[[Operation], float | None]) -> None:
        """`left`: seconds that an operation will take yet; None: unknown."""
        self._left = left
        self._live = Live(console=Console(), auto_refresh=False, transient=False)

    def __enter__(self) -> "LiveRows":
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, trace)

    def show(self, view: View) -> None:
        self._live.update(drawn(view, self._left(view.operation)), refresh=True)


def drawn(view: View, left: float | None) -> Group:
    """What is on the screen: a heading above the rows; at the end the closing sentence, below them."""
    head, rows = _heading(view, left), _rows(view)
    warnings = [Text(f"warning: {warning}", style="yellow") for warning in view.operation.warnings]
    return Group(rows, *warnings, head) if view.operation.phase in FINAL else Group(head, rows, *warnings)


def _heading(view: View, left: float | None) -> Text:
    operation = view.operation
    head = Text(f"{operation.kind.value} {operation.node}: ", style="bold")
    if not view.connected:
        return head.append("the connection to ZooKeeper is lost; waiting for it", style="red")
    if operation.phase in FINAL:
        return head.append(f"{operation.phase.value}: {operation.message}")
    if not view.daemon_alive:
        return head.append(f"the daemon of {operation.node} does not answer; it goes on when it is back", style="red")
    if operation.waiting:
        return head.append(waiting_line(operation), style="yellow")
    return head.append(operation.phase.value if left is None else f"{operation.phase.value}, about {left:.0f} s left")


def _rows(view: View) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("VM", "STATE", "FROM", "TO", "LEFT", "RATE", "DOWNTIME", "ETA", "RUNG", ""):
        table.add_column(column, no_wrap=column != "")
    for key, outcome in view.operation.outcomes.items():
        progress = view.progress.get(key, {}) if outcome.state is OutcomeState.MOVING else {}
        took = f"{outcome.seconds:.1f} s" if outcome.seconds is not None else ""
        table.add_row(
            outcome.name,
            Text(outcome.state.value, style=_STYLES[outcome.state]),
            outcome.source or "",
            outcome.target or "",
            *_figures(progress),
            outcome.why or took,
        )
    return table


def _figures(progress: Any) -> tuple[str, str, str, str, str]:
    """Memory left, rate, expected downtime, time left, and place on the ladder of a move in flight."""
    remaining, rate, downtime = progress.get("remaining"), progress.get("rate"), progress.get("downtime")
    if not isinstance(remaining, int) or not isinstance(rate, int):
        return "", "", "", "", ""
    return (
        f"{remaining / MIB:.0f} MiB",
        f"{rate / MIB:.0f} MiB/s",
        f"{downtime * 1000:.0f} ms" if isinstance(downtime, int | float) else "",
        f"{remaining / rate:.0f} s" if rate else "",
        str(progress.get("rung", "")),
    )
