"""Asks Ceph in jobs, each with a time limit, and keeps the last answer: whoever asks never waits, and a Ceph that hangs
costs one job for each kind of question."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from pvc.core.runtime import Runtime, Signal
from pvc.core.service import Jobs
from pvc.core.storage import StorageError, StorageUnusable

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """What was answered, and when it was asked for."""

    value: T | Exception
    """An exception: it could not be found out; its message says why."""
    asked: float
    """Monotonic seconds."""


class Question(Generic[T]):
    """One question that is asked again and again. For one thread, beside the job that asks."""

    def __init__(self, runtime: Runtime, wake: Signal, name: str, deadline: float, ask: Callable[[], T]) -> None:
        """`wake`: set when an answer has come; `deadline`: seconds after which there is one, that none came."""
        self._runtime = runtime
        self._jobs = Jobs(runtime, wake)
        self._name = name
        self._deadline = deadline
        self._ask = ask
        self._found: T | None = None
        self._begun = 0.0
        self._answer: Answer[T] | None = None

    def begin(self) -> None:
        """Ask, unless it is being asked, be it beyond the deadline."""
        if self._jobs.start(self._name, self._work):
            self._begun = self._runtime.monotonic()

    def asking(self) -> bool:
        """Whether an answer is awaited; a job that outlives the deadline has been answered for."""
        self._collect()
        return self._jobs.running(self._name) and not self._late()

    def answer(self) -> Answer[T] | None:
        """The last answer, which is that there is none while a job is beyond the deadline; None before the first."""
        self._collect()
        if self._jobs.running(self._name) and self._late():
            problem = f"Ceph does not answer within {self._deadline:g} s; see whether its monitors run"
            return Answer(StorageUnusable(problem), self._runtime.monotonic())
        return self._answer

    def left(self) -> float:
        """Seconds until the deadline of what is being asked; 0: it has passed."""
        return max(0.0, self._begun + self._deadline - self._runtime.monotonic())

    def _late(self) -> bool:
        return self.left() <= 0

    def _work(self) -> None:
        self._found = self._ask()

    def _collect(self) -> None:
        for end in self._jobs.ended():
            if end.error is not None and not isinstance(end.error, StorageError):
                raise end.error
            if end.error is not None:
                self._answer = Answer(end.error, self._begun)
            elif self._found is not None:
                self._answer = Answer(self._found, self._begun)
