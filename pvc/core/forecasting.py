"""Asks a node's daemon what an operation would do, and answers there: only the daemon knows its plugins' opinions and
its own guests. The question and its answer are one znode; neither touches the operation that the node may have."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from pvc.core import keys
from pvc.core.coordination import Conflict, Coordinator, Create, Disconnected, Put, Znode
from pvc.core.errors import PvcError
from pvc.core.forecast import Forecast
from pvc.core.mirror import Mirror
from pvc.core.model import Operation
from pvc.core.records import Garbage, decode, encode
from pvc.core.runtime import Runtime
from pvc.core.waiting import wait_for

PATIENCE = 15.0
"""Seconds to wait for a daemon's answer."""


@dataclass(frozen=True, slots=True)
class Question:
    """What would this operation do? With the answer, once there is one."""

    id: str
    operation: Operation
    answer: Forecast | None = None
    error: str = ""
    """Why there is no answer."""

    @property
    def open(self) -> bool:
        """Whether it waits for its answer."""
        return self.answer is None and not self.error


class NoForecast(PvcError):
    """The node's daemon did not say; the message tells why."""


def ask_forecast(coordinator: Coordinator, runtime: Runtime, operation: Operation) -> Forecast:
    """What the operation would do. Raises NoForecast, Disconnected."""
    node, path = operation.node, keys.node_forecast(operation.node)
    if coordinator.get(keys.node_session(node)) is None:
        raise NoForecast(f"the daemon of {node} does not answer, so nobody can tell; start pvcd on {node}")
    mine = Question(runtime.new_id(), operation)

    def look(mirror: Mirror) -> Question | None:
        znode = mirror.get(path)
        found = None if znode is None else _question(znode.data, path)
        if found is not None and found.open:
            return None  # mine, or somebody else's, who gets an answer first
        if found is not None and found.id == mine.id:
            return found
        _write(coordinator, path, mine, znode)
        mirror.drop(path)
        return None

    answered = wait_for(coordinator, runtime, look, PATIENCE)
    if answered is None:
        raise NoForecast(f"the daemon of {node} has not answered within {PATIENCE:g} s; look at its log")
    if answered.answer is None:
        raise NoForecast(f"the daemon of {node} cannot tell: {answered.error}")
    return answered.answer


class ForecastDesk:
    """Answers the questions about one node, in its daemon."""

    def __init__(self, node: str, coordinator: Coordinator, mirror: Mirror, log: logging.Logger) -> None:
        self._path = keys.node_forecast(node)
        self._coordinator = coordinator
        self._mirror = mirror
        self._log = log

    def answer(self, foresee: Callable[[Operation], Forecast]) -> None:
        """Answer the question that was asked, if there is an open one. Raises Disconnected."""
        znode = self._mirror.get(self._path)
        question = None if znode is None else _question(znode.data, self._path)
        if znode is None or question is None or not question.open:
            return
        try:
            answered = replace(question, answer=foresee(question.operation))
        except Disconnected:  # the question stays open until there is a connection again
            raise
        except PvcError as error:
            answered = replace(question, error=str(error))
        except Exception as error:  # a plugin's failure is an answer too: the one who asked must not wait in vain
            self._log.exception("forecast for %s", question.operation.node)
            answered = replace(question, error=f"it failed with {error!r}; see its log")
        try:
            self._coordinator.commit([Put(self._path, encode(answered), znode.version)])
        except Conflict:  # another question has come: the next step answers that one
            self._log.debug("the question was replaced")
        self._mirror.drop(self._path)


def _question(data: bytes, path: str) -> Question | None:
    try:
        return decode(Question, data, path)
    except Garbage:  # written by another version: the next question replaces it
        return None


def _write(coordinator: Coordinator, path: str, question: Question, old: Znode | None) -> None:
    """Ask in place of a question that has its answer, or cannot be read."""
    data = encode(question)
    try:
        coordinator.commit([Create(path, data) if old is None else Put(path, data, old.version)])
    except Conflict:  # somebody else asked at this moment: the next look waits for that
        return
