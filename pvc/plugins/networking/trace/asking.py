"""Asks nodes' daemons what they see. A question is an ephemeral znode of the client's: it goes with the client, however
that ends, and a node has one at a time."""

from collections.abc import Mapping
from dataclasses import replace

from pvc.core import keys as core
from pvc.core.coordination import Conflict, Coordinator, Create, Delete, Disconnected, TooLarge
from pvc.core.mirror import Mirror
from pvc.core.records import Garbage, decode, encode
from pvc.core.runtime import Runtime
from pvc.core.waiting import wait_for
from pvc.plugins.networking import keys
from pvc.plugins.networking.trace.records import Answer, Inquiry

PATIENCE = 5.0
"""Seconds to wait for all answers together; a daemon that is well takes some milliseconds."""
DEAD = "its daemon is not alive; start pvcd there"
SILENT = f"it does not answer within {PATIENCE:g} s; look at its log, or it may run an older version of pvc"
BUSY = "somebody else was asking it all the time; try again"


def ask(
    coordinator: Coordinator, runtime: Runtime, questions: Mapping[str, Inquiry], patience: float = PATIENCE
) -> dict[str, Answer | str]:
    """What each node answers, or why it does not. Raises Disconnected."""
    asking = _Asking(coordinator, runtime, questions)
    try:
        wait_for(coordinator, runtime, asking.look, patience)
    finally:
        asking.withdraw()
    return asking.outcome()


class _Asking:
    def __init__(self, coordinator: Coordinator, runtime: Runtime, questions: Mapping[str, Inquiry]) -> None:
        self._coordinator = coordinator
        self._waiting = {node: replace(question, id=runtime.new_id()) for node, question in questions.items()}
        self._found: dict[str, Answer | str] = {}
        self._late: dict[str, str] = {}
        """Why a node has not answered if it does not do so any more."""

    def look(self, mirror: Mirror) -> bool | None:
        """Ask, and take what was answered; True when nobody is left to be waited for."""
        mirror.prefetch(path(node) for node in self._waiting for path in (core.node_session, keys.node_trace))
        for node in sorted(self._waiting):
            self._look_at(node, mirror)
        return None if self._waiting else True

    def withdraw(self) -> None:
        """Take back what was not answered; what cannot be taken back goes with the session."""
        for node, question in self._waiting.items():
            try:
                znode = self._coordinator.get(keys.node_trace(node))
                if znode is not None and _id(znode.data, node) == question.id:
                    self._coordinator.commit([Delete(keys.node_trace(node), znode.version)])
            except (Conflict, Disconnected):
                continue

    def outcome(self) -> dict[str, Answer | str]:
        """By node."""
        return {**{node: self._late.get(node, SILENT) for node in self._waiting}, **self._found}

    def _look_at(self, node: str, mirror: Mirror) -> None:
        if mirror.get(core.node_session(node)) is None:
            self._end(node, DEAD)
            return
        path = keys.node_trace(node)
        znode = mirror.get(path)
        if znode is None:
            self._put(node, path)  # the watch tells of it, and this is called again
            mirror.drop(path)
            return
        inquiry = _inquiry(znode.data, path)
        if inquiry is None or inquiry.id != self._waiting[node].id:
            self._late[node] = BUSY
            return
        self._late.pop(node, None)
        if not inquiry.open:
            self._remove(path)
            self._end(node, inquiry.answer if inquiry.answer is not None else inquiry.error)

    def _put(self, node: str, path: str) -> None:
        try:
            self._coordinator.commit([Create(path, encode(self._waiting[node]), ephemeral=True)])
        except Conflict:  # somebody else asks at this moment
            self._late[node] = BUSY
        except TooLarge as error:
            self._end(node, str(error))

    def _remove(self, path: str) -> None:
        try:
            self._coordinator.commit([Delete(path)])
        except Conflict:  # gone already: an earlier try's answer was lost
            return

    def _end(self, node: str, found: Answer | str) -> None:
        self._found[node] = found
        self._waiting.pop(node, None)


def _inquiry(data: bytes, path: str) -> Inquiry | None:
    try:
        return decode(Inquiry, data, path)
    except Garbage:  # of another version
        return None


def _id(data: bytes, node: str) -> str:
    inquiry = _inquiry(data, keys.node_trace(node))
    return "" if inquiry is None else inquiry.id
