"""`--dry-run` and `--check`: what an operation would do and what would stop it, as the node's own daemon says."""

import json
from collections.abc import Sequence
from typing import Any

import msgspec

from pvc.cli.application import Application
from pvc.cli.exits import INCOMPLETE
from pvc.core.decide.pace import Pace, pace_of
from pvc.core.forecast import Forecast, Prospect
from pvc.core.forecasting import ask_forecast
from pvc.core.history import read_history
from pvc.core.model import Operation, OperationKind

COLUMNS = ("no", "vm", "policy", "from", "to", "memory", "free_after", "seconds", "remark")


def show_plan(cli: Application, operation: Operation, *, as_json: bool) -> int:
    """Print the numbered plan of an operation; the exit code: 0 if everything would move."""
    forecast = ask_forecast(cli.connect(), cli.runtime, operation)
    rows = _rows(forecast, pace_of(read_history(cli.connect())[0]))
    if as_json:
        _print_json(operation, forecast, rows)
        return _code(forecast)
    going = sum(prospect.target is not None for prospect in forecast.prospects)
    article = "an" if operation.kind is OperationKind.UNFLUSH else "a"
    cli.say(f"{article} {operation.kind.value} of {operation.node} would move {going} VM{'' if going == 1 else 's'}:")
    if rows:
        cli.show(rows, COLUMNS)
    _say_rest(cli, forecast)
    return _code(forecast)


def show_check(cli: Application, operation: Operation, *, as_json: bool) -> int:
    """Print what would stop an operation, VM by VM, and what to do; the exit code: 0 if nothing would."""
    forecast = ask_forecast(cli.connect(), cli.runtime, operation)
    if as_json:
        _print_json(operation, forecast, _rows(forecast, pace_of(())))
        return _code(forecast)
    for prospect in forecast.prospects:
        if prospect.stays:
            for line in _lines(prospect):
                cli.say(line)
    _say_rest(cli, forecast)
    if forecast.clear:
        cli.say(f"nothing would stop the {operation.kind.value} of {operation.node}")
    return _code(forecast)


def _rows(forecast: Forecast, pace: Pace) -> list[dict[str, Any]]:
    return [
        {
            "no": number,
            "vm": prospect.name,
            "policy": prospect.policy,
            "from": prospect.source,
            "to": prospect.target,
            "memory": prospect.memory,
            "free_after": prospect.free_after,
            "seconds": pace.move_seconds(prospect.key, prospect.memory) if prospect.target is not None else None,
            "remark": _remark(prospect),
            "stays": prospect.stays,
            "uuid": prospect.key,
            "advice": prospect.advice,
            "against": {node: {"why": o.why, "advice": o.advice} for node, o in prospect.objections.items()},
        }
        for number, prospect in enumerate(forecast.prospects, 1)
    ]


def _remark(prospect: Prospect) -> str:
    if prospect.stays:
        return f"stays: {prospect.why}"
    return prospect.why


def _lines(prospect: Prospect) -> Sequence[str]:
    """What holds one VM back: the reason, or one for each node, each with what to do."""
    head = f"{prospect.name} would stay on {prospect.source}: {prospect.why}"
    lines = [f"{head}; {prospect.advice}" if prospect.advice else head]
    for node, objection in sorted(prospect.objections.items()):
        lines.append(f"  {node} {objection.why}" + (f"; {objection.advice}" if objection.advice else ""))
    return lines


def _say_rest(cli: Application, forecast: Forecast) -> None:
    for obstacle in forecast.obstacles:
        cli.say(f"in the way: {obstacle.why}" + (f"; {obstacle.advice}" if obstacle.advice else ""))
    for wait in forecast.waits:
        cli.say(f"it would wait: {wait}")
    for warning in forecast.warnings:
        cli.note(f"warning: {warning}")


def _print_json(operation: Operation, forecast: Forecast, rows: Sequence[dict[str, Any]]) -> None:
    record = {
        "kind": operation.kind.value,
        "node": operation.node,
        "clear": forecast.clear,
        "vms": rows,
        "obstacles": msgspec.to_builtins(forecast.obstacles),
        "waits": list(forecast.waits),
        "warnings": list(forecast.warnings),
    }
    print(json.dumps(record, indent=2, ensure_ascii=False))


def _code(forecast: Forecast) -> int:
    return 0 if forecast.clear else INCOMPLETE
