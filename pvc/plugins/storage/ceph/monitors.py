"""A Ceph cluster through its own program `ceph`, which takes 0.2 to 0.6 s of a processor to start: the questions of a
survey go to one run of it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from pvc.core.storage import StorageError, StorageUnusable
from pvc.plugins.storage.ceph.cluster import NoCeph, Stoppable, Survey, Use
from pvc.plugins.storage.ceph.decide.survey import SURVEY, stoppable_of, survey_of, usage_of, why_not_destroy
from pvc.plugins.storage.ceph.programs import CephPrograms, said

TIMED_OUT = 110
"""Exit code of `ceph` when no monitor has answered within --connect-timeout (ETIMEDOUT)."""


class CephByPrograms:
    """The real `CephCluster`."""

    def __init__(self, programs: CephPrograms) -> None:
        self._programs = programs

    def survey(self) -> Survey:
        if not Path(self._programs.settings.conf).is_file():
            raise NoCeph(f"this machine has no {self._programs.settings.conf}; see storage.ceph.conf")
        return survey_of(self._converse(SURVEY))

    def usage(self) -> Mapping[int, Use]:
        return usage_of(self._programs.ask("ceph", "osd", "df"))

    def ok_to_stop(self, ids: Sequence[int]) -> Stoppable:
        words = ("osd", "ok-to-stop", *map(str, ids))
        answer, reason = self._ask_anyway(*words)
        return stoppable_of(answer, reason)

    def safe_to_destroy(self, id: int) -> str:
        answer, _ = self._ask_anyway("osd", "safe-to-destroy", str(id))
        return why_not_destroy(answer, id)

    def set_flag(self, flag: str, on: bool) -> None:
        self._programs.check("ceph", "osd", "set" if on else "unset", flag)

    def mark(self, id: int, inside: bool) -> None:
        self._programs.check("ceph", "osd", "in" if inside else "out", str(id))

    def purge(self, id: int) -> None:
        self._programs.check("ceph", "osd", "purge", str(id), "--yes-i-really-mean-it")

    def _converse(self, commands: Sequence[str]) -> list[Mapping[str, Any]]:
        """The answers to several commands, given to one run of `ceph` as lines to read. One that fails has none."""
        seconds = self._programs.settings.deadline
        words = ("--format", "json", "--connect-timeout", f"{max(1, int(seconds))}")
        done = self._programs.run("ceph", *words, stdin="".join(f"{command}\n" for command in commands))
        if done.code != 0:
            raise StorageUnusable(_why(done.code, said(done), seconds))
        return [_decoded(line) for line in done.stdout.splitlines() if line.startswith("{")]

    def _ask_anyway(self, *words: str) -> tuple[Mapping[str, Any], str]:
        """What is answered in JSON also where the exit code says no, and what is said beside."""
        done = self._programs.run("ceph", *words, "--format", "json")
        lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
        if not lines:
            raise StorageError(f"ceph {' '.join(words[:2])}: {said(done)}")
        return _decoded(lines[-1]), done.stderr.strip().partition(": ")[2]


def _why(code: int, text: str, seconds: float) -> str:
    if "timed out" in text or code == TIMED_OUT:
        return f"Ceph does not answer within {seconds:g} s; see whether its monitors run and can be reached"
    return f"Ceph cannot be asked: {text}; see whether `ceph status` works on this node"


def _decoded(line: str) -> Mapping[str, Any]:
    try:
        answer: Mapping[str, Any] = msgspec.json.decode(line)
    except msgspec.DecodeError as error:
        raise StorageError(f"ceph did not answer in JSON ({error}); see whether `ceph status` works") from error
    return answer
