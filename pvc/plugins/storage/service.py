"""Looks at each shared directory in a job of its own: one whose server is gone delays nothing else."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from pvc.core.context import Context
from pvc.core.model import Finding
from pvc.core.runtime import Signal
from pvc.core.service import Jobs
from pvc.plugins.storage.decide.directories import Room, findings, room_of
from pvc.plugins.storage.directories import Directories, Look
from pvc.plugins.storage.neighbours import as_facts
from pvc.plugins.storage.schema import Settings


class DirectoryWatch:
    """Service `storage`."""

    name = "storage"
    after: tuple[str, ...] = ()

    def __init__(self, context: Context, directories: Directories, settings: Settings) -> None:
        self.wake: Signal = context.runtime.signal()
        self._runtime = context.runtime
        self._refresh_facts = context.refresh_facts
        self._log = context.log
        self._directories = directories
        self._settings = settings
        self._jobs = Jobs(context.runtime, self.wake)
        self._answers: dict[str, Look] = {}
        self._begun: dict[str, float] = {}
        self._rooms: dict[str, Room] = {}

    def step(self) -> float:
        rooms = dict(self._rooms)
        for end in self._jobs.ended():
            look = self._answers[end.key] if end.error is None else str(end.error)
            rooms[end.key] = room_of(self._settings.directories[end.key], look)
        now = self._runtime.monotonic()
        pauses = [self._attend(name, now, rooms) for name in self._settings.directories]
        if rooms != self._rooms:
            self._note(rooms)
            self._rooms = rooms
            self._refresh_facts()
        return min(pauses, default=60.0)

    def stop(self) -> None:
        """A look that hangs is left to itself: it holds nothing that anybody waits for."""

    def facts(self) -> Mapping[str, Any]:
        """What the node publishes; nothing of a directory before its first look has ended."""
        return as_facts(self._rooms)

    def findings(self) -> list[Finding]:
        """What is wrong with the directories."""
        return findings(self._rooms, self._settings.nearly_full)

    def _attend(self, name: str, now: float, rooms: dict[str, Room]) -> float:
        """Begin the next look at a directory if it is due; the seconds until something is due again."""
        if self._jobs.running(name):
            left = self._begun[name] + self._settings.deadline - now
            if left > 0:
                return left
            problem = f"does not answer within {self._settings.deadline:g} s"
            rooms[name] = room_of(self._settings.directories[name], problem)
            return self._settings.interval
        due = self._begun.get(name, now - self._settings.interval) + self._settings.interval
        if due > now:
            return due - now
        self._begun[name] = now
        self._jobs.start(name, partial(self._look, name))
        return self._settings.deadline

    def _look(self, name: str) -> None:
        self._answers[name] = self._directories.look(self._settings.directories[name].path)

    def _note(self, rooms: Mapping[str, Room]) -> None:
        for name, room in rooms.items():
            before = self._rooms.get(name)
            if before is None or before.problem != room.problem:
                self._log.info("directory %s: %s", name, room.problem or "can be used")
