"""Runs commands in the lab and lets the audience read along: each line of output behind the name of who says it."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pvc.core.process import Processes, Running
from pvc.core.runtime import Runtime
from pvc.lab.cluster import Lab
from pvc.lab.errors import LabError

READ_EVERY = 0.05
"""Seconds between looks at what the running commands have written."""


class Voice:
    """A command that goes on beside the others."""

    def __init__(self, name: str, running: Running, output: Path) -> None:
        self.name = name
        self.lines: list[str] = []
        self._running = running
        self._output = output
        self._read = 0
        self._rest = ""

    def new_lines(self) -> list[str]:
        """The complete lines it has written since the last call."""
        with self._output.open("rb") as file:
            file.seek(self._read)
            data = file.read()
        self._read += len(data)
        *lines, self._rest = (self._rest + data.decode(errors="replace")).split("\n")
        fresh = [line.rstrip("\r") for line in lines]
        self.lines += fresh
        return fresh

    def code(self) -> int | None:
        """Its exit code; None while it runs."""
        return self._running.poll()

    def end(self, number: int) -> None:
        """Send it a signal and wait for its end."""
        self._running.signal(number)
        self._running.wait(10.0)


class Narrator:
    """Starts voices and prints what they say, in the order in which it comes."""

    def __init__(
        self, lab: Lab, directory: Path, processes: Processes, runtime: Runtime, say: Callable[[str], None]
    ) -> None:
        self._lab = lab
        self._directory = directory
        self._processes = processes
        self._runtime = runtime
        self._say = say
        self._voices: list[Voice] = []

    def title(self, text: str) -> None:
        """A heading of the story."""
        self._say(f"\n== {text}")

    def run(self, command: Sequence[str]) -> None:
        """Run a command on the lab's client and print what it says. Raises LabError if it fails."""
        self._say(f"$ {' '.join(command)}")
        done = self._lab.run(command)
        self._say(done.stdout.rstrip())
        if done.code != 0:
            raise LabError(f"`{' '.join(command)}` ended with code {done.code}: {done.stderr.strip()}")

    def ask(self, command: Sequence[str]) -> Any:
        """What a listing says, as JSON. Raises LabError."""
        done = self._lab.run(["pvc", "--format", "json", *command])
        if done.code != 0:
            raise LabError(f"`pvc {' '.join(command)}` ended with code {done.code}: {done.stderr.strip()}")
        return json.loads(done.stdout)

    def begin(self, name: str, command: Sequence[str]) -> Voice:
        """Start a command whose lines are printed behind `name` while others go on."""
        self._say(f"$ {' '.join(command)}   ({name})")
        output = self._directory / f"{len(self._voices)}.txt"
        output.touch()
        voice = Voice(name, self._processes.start(self._lab.enter(command), output=output), output)
        self._voices.append(voice)
        return voice

    def listen(self, until: Callable[[], bool], timeout: float, what: str) -> None:
        """Print what the voices say until something is so. Raises LabError after `timeout` seconds."""
        deadline = self._runtime.monotonic() + timeout
        while True:
            enough = until()
            for voice in self._voices:
                for line in voice.new_lines():
                    self._say(f"{voice.name:>9} | {line}")
            if enough:
                return
            if self._runtime.monotonic() > deadline:
                raise LabError(f"{what}: that has not come after {timeout:g} s")
            self._runtime.sleep(READ_EVERY)

    def end_all(self, number: int) -> None:
        """End the voices that still speak."""
        for voice in self._voices:
            voice.end(number)
