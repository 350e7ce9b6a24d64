"""The one way a state changes: checked against its table and logged in a fixed form, which scenarios compare."""

import logging
from collections.abc import Mapping
from enum import Enum
from typing import TypeVar

E = TypeVar("E", bound=Enum)


class ImpossibleTransition(Exception):
    """The table has no such transition: a defect of the program, not of its input."""


def move(log: logging.Logger, thing: str, old: E, new: E, table: Mapping[E, frozenset[E]], why: str) -> E:
    """`new`, after checking it against the table and logging `<thing>: <old> => <new> (<why>)`.

    Raises ImpossibleTransition if the table lacks it.
    """
    if new not in table[old]:
        raise ImpossibleTransition(f"{thing}: {old.value} => {new.value} does not exist ({why})")
    note(log, thing, old.value, new.value, why)
    return new


def note(log: logging.Logger, thing: str, old: str, new: str, why: str) -> None:
    """Log a transition in the fixed form."""
    log.info("%s: %s => %s (%s)", thing, old, new, why)
