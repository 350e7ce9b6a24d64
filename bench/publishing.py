"""A node with a hundred VMs that print: how long a line takes to a follower's screen, and what it costs.

The service, the server, the files and the follower are real; the VMs are files that this process writes to.
"""

import json
import logging
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from bench.consolefiles import console_path, line, tree, uuid_of, vm_name
from bench.idling import cpu_seconds, resident
from bench.report import Result, result
from pvc.core.config.settings import ZooKeeperSettings
from pvc.core.coordination import Coordinator, Create, Put
from pvc.core.errors import PvcError
from pvc.core.process import Running, SystemProcesses
from pvc.core.runtime import Runtime
from pvc.core.zookeeper import connect, initialise
from pvc.plugins.consolelog import keys
from pvc.plugins.consolelog.decide.bounds import Limits
from pvc.plugins.consolelog.decide.follow import Start
from pvc.plugins.consolelog.reader import read_page
from pvc.plugins.consolelog.ring import Text
from pvc.plugins.consolelog.writer import Writer
from pvc.testing.zookeeper import ZooKeeperServer, free_port

VMS = 100
RATE = 10
"""Lines a second that each VM prints while chatty."""
CHATTY = 30.0
"""Seconds of that."""
QUIET = 10.0
"""Seconds over which the idle service is watched, three times; the kernel counts CPU time in hundredths of one."""
LOOK = 0.002
"""Seconds between looks at the follower's output: the error of each delay."""
ROOT = "/bench"
KEPT = 1000
"""Lines that a log keeps, and that are read."""
INTERVAL = 0.5
"""Seconds between two writes of the baseline, as the service's own."""


class NothingCame(PvcError):
    """What had to come did not."""


@dataclass(slots=True)
class Stage:
    """A server with a tree, a directory of console files, and the service as a process."""

    settings: ZooKeeperSettings
    directory: Path
    runtime: Runtime
    publisher: Running
    report: Path
    random: Random = field(default_factory=lambda: Random(7))
    printed: list[int] = field(default_factory=lambda: [0] * VMS)
    bytes_printed: int = 0

    def print(self, number: int) -> None:
        """The VM prints its next line."""
        data = line(self.printed[number], self.random)
        self.printed[number] += 1
        self.bytes_printed += len(data)
        with console_path(self.directory, number).open("ab", buffering=0) as file:
            file.write(data)

    def written(self) -> dict[str, int]:
        """What the service has written to the server so far: data, bytes on the wire, transactions."""
        found: dict[str, int] = json.loads(self.report.read_text())
        return found

    def session(self, name: str) -> Coordinator:
        return connect(self.settings, runtime=self.runtime, name=name, log=logging.getLogger("bench"))


def measure(runtime: Runtime, rounds: int) -> list[Result]:
    """Every figure, with the service started afresh."""
    with ExitStack() as ending:
        with _stage(runtime, vms=0) as bare:
            runtime.sleep(2.0)
            empty = resident(bare.publisher.pid)
        stage = ending.enter_context(_stage(runtime, vms=VMS))
        runtime.sleep(5.0)
        idle = [_share(stage, lambda: runtime.sleep(QUIET)) for _ in range(3)]
        with _follower(stage, 0) as shown:
            silent = [_delay_after_silence(stage, shown) for _ in range(3 * rounds)]
        before = stage.written(), stage.bytes_printed
        with _follower(stage, 1) as shown:
            delays: list[float] = []
            busy = _share(stage, lambda: delays.extend(_chat(stage, shown)))
        runtime.sleep(2.0)
        after = stage.written()
        printed = stage.bytes_printed - before[1]
        memory = (resident(stage.publisher.pid) - empty) / VMS * 1000
        session = stage.session("bench")
        ending.callback(session.close)
        rewriting = _rewriting(stage, session)
        pages = [_reading(stage, session, slow=slow, rounds=rounds) for slow in (False, True)]
    ratio = (after["data"] - before[0]["data"]) / printed
    return [
        result("console line to the screen after silence", silent, "s", target=0.06),
        result(
            f"the same with {VMS} VMs x {RATE} lines/s, 99th percentile", [_percentile(delays, 99)], "s", target=0.7
        ),
        result("the same, median", delays, "s"),
        result("bytes written to ZooKeeper / bytes printed", [ratio], "", target=2.0, baseline=rewriting),
        result("the same with paths and protocol", [(after["wire"] - before[0]["wire"]) / printed], ""),
        result(f"CPU of the publisher, {VMS} silent VMs", idle, "% of a core", target=0.5),
        result(f"CPU of the publisher, {VMS} VMs x {RATE} lines/s", [busy], "% of a core", target=25.0),
        result("memory of the publisher per VM", [memory], "KB", target=200.0),
        result(f"reading {KEPT} lines of a chatty VM", pages[0], "s", target=0.1),
        result(f"reading {KEPT} lines that came one by one", pages[1], "s", target=0.1),
    ]


@contextmanager
def _stage(runtime: Runtime, vms: int) -> Iterator[Stage]:
    processes = SystemProcesses()
    with tempfile.TemporaryDirectory(prefix="pvc-bench-") as name, ExitStack() as ending:
        top = Path(name)
        directory, report = top / "consoles", top / "report"
        directory.mkdir()
        server = ZooKeeperServer(processes, runtime, top / "zookeeper", free_port())
        server.start()
        ending.callback(server.stop)
        settings = ZooKeeperSettings(hosts=(server.host,), root=ROOT)
        initialise(settings, tree(vms), runtime=runtime, name="bench", log=logging.getLogger("bench"))
        for number in range(vms):
            console_path(directory, number).touch()
        command = [sys.executable, "-m", "bench.publisher", server.host, ROOT, str(directory), str(vms), str(report)]
        publisher = processes.start(command, output=top / "publisher.log")
        ending.callback(lambda: publisher.wait(10.0))
        ending.callback(lambda: publisher.signal(15))
        _wait(runtime, report.exists, 30.0)
        yield Stage(settings, directory, runtime, publisher, report)


@contextmanager
def _follower(stage: Stage, number: int) -> Iterator[Path]:
    """`pvc vm log -f` of one VM; where its output goes."""
    shown = stage.directory.parent / f"follower{number}"
    shown.touch()
    configuration = stage.directory.parent / "pvc.yaml"
    configuration.write_text(f'zookeeper: {{hosts: ["{stage.settings.hosts[0]}"], root: {ROOT}}}\n')
    pvc = Path(sys.executable).with_name("pvc")
    command = [str(pvc), "--config", str(configuration), "vm", "log", "-f", "-n", "1", vm_name(number)]
    follower = SystemProcesses().start(command, output=shown)
    try:
        stage.print(number)
        _wait(stage.runtime, lambda: shown.stat().st_size > 0, 30.0)
        stage.runtime.sleep(2.0)
        yield shown
    finally:
        follower.signal(15)
        follower.wait(10.0)


def _delay_after_silence(stage: Stage, shown: Path) -> float:
    stage.runtime.sleep(3 * INTERVAL)
    size, began = shown.stat().st_size, stage.runtime.monotonic()
    stage.print(0)
    _wait(stage.runtime, lambda: shown.stat().st_size > size, 10.0)
    return stage.runtime.monotonic() - began


def _chat(stage: Stage, shown: Path) -> list[float]:
    """All VMs print; how long each line of VM 1 took to the screen."""
    runtime, began = stage.runtime, stage.runtime.monotonic()
    at_source: list[float] = []
    at_screen: list[float] = []
    first, size, turn = stage.printed[1], shown.stat().st_size, 0
    lines_before = shown.read_bytes().count(b"\n")
    while runtime.monotonic() - began < CHATTY or len(at_screen) < len(at_source):
        now = runtime.monotonic() - began
        if now > CHATTY + 10.0:
            raise NothingCame(f"{len(at_source) - len(at_screen)} lines of {len(at_source)} did not come")
        while turn < min(now, CHATTY) * VMS * RATE:
            stage.print(turn % VMS)
            if turn % VMS == 1:
                at_source.append(runtime.monotonic())
            turn += 1
        if shown.stat().st_size != size:
            size = shown.stat().st_size
            come = shown.read_bytes().count(b"\n") - lines_before
            at_screen += [runtime.monotonic()] * (come - len(at_screen))
        runtime.sleep(LOOK)
    assert stage.printed[1] - first == len(at_source)
    return [screen - source for screen, source in zip(at_screen, at_source, strict=True)]


def _rewriting(stage: Stage, session: Coordinator) -> float:
    """Bytes written / bytes printed if the last lines are written as a whole each time, as one value."""
    random, number, written, printed = Random(3), 0, 0, 0
    held: list[bytes] = []
    session.commit([Create("/baseline")])
    for _ in range(3 * KEPT // (RATE // 2)):
        new = [line(number + each, random) for each in range(round(RATE * INTERVAL))]
        number += len(new)
        held = (held + new)[-KEPT:]
        session.commit([Put("/baseline", b"".join(held))])
        if number > 2 * KEPT:
            written += sum(map(len, held))
            printed += sum(map(len, new))
    return written / printed


def _reading(stage: Stage, session: Coordinator, *, slow: bool, rounds: int) -> list[float]:
    """Seconds for the last lines of a log to which lines came one by one, or as from a chatty VM."""
    uuid, random, at_once = uuid_of(2 + slow), Random(5), 1 if slow else RATE // 2
    while session.get(keys.console(uuid)) is None:
        stage.runtime.sleep(0.1)
    writer = Writer(session, stage.runtime, uuid, Limits(KEPT, 256 * 1024))
    writer.load()
    for number in range(0, KEPT + 50, at_once):
        data = b"".join(line(number + each, random) for each in range(at_once))
        writer.write([Text(data)], writer="reader", closed=False, files={})
    times = []
    for _ in range(rounds):
        began = stage.runtime.monotonic()
        page = read_page(session, uuid, Start(KEPT))
        times.append(stage.runtime.monotonic() - began)
        found = sum(c.content.data.count(b"\n") for c in page.chunks if isinstance(c.content, Text)) if page else 0
        if found != KEPT:
            raise NothingCame(f"{found} lines were read instead of {KEPT}")
    return times


def _share(stage: Stage, work: Callable[[], object]) -> float:
    """Percent of a core that the service takes while `work` goes on."""
    began, before = stage.runtime.monotonic(), cpu_seconds(stage.publisher.pid)
    work()
    return (cpu_seconds(stage.publisher.pid) - before) / (stage.runtime.monotonic() - began) * 100


def _percentile(values: list[float], percent: int) -> float:
    return sorted(values)[min(len(values) - 1, len(values) * percent // 100)]


def _wait(runtime: Runtime, condition: Callable[[], bool], seconds: float) -> None:
    deadline = runtime.monotonic() + seconds
    while not condition():
        if runtime.monotonic() > deadline:
            raise NothingCame(f"nothing came within {seconds:g} s")
        runtime.sleep(LOOK)
