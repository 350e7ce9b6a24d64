"""The console log's service alone, as a process: real files, a real server, VMs that are nothing but files.

Counts what it writes; `python -m bench.publisher SERVER ROOT DIRECTORY VMS REPORT`.
"""

import json
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.consolefiles import NODE, console_path, uuid_of, vm_name
from pvc.core.config.settings import ZooKeeperSettings
from pvc.core.coordination import Coordinator, Create, Op, Put
from pvc.core.lifecycle import Lifecycle
from pvc.core.observers import VmChange, VmEvent
from pvc.core.runtime import Signal
from pvc.core.threads import ThreadRuntime
from pvc.core.zookeeper import ZooKeeperCoordinator, connect
from pvc.plugins.consolelog.files import LogFiles
from pvc.plugins.consolelog.inotify import DirectoryFiles
from pvc.plugins.consolelog.schema import Settings
from pvc.plugins.consolelog.service import ConsoleLog

REQUEST = 45
"""Bytes of one operation of a transaction on the wire besides its path and data: lengths, header, version, ACL."""


class Counting:
    """A coordinator that counts what is written through it."""

    def __init__(self, coordinator: ZooKeeperCoordinator) -> None:
        self.data = self.wire = self.commits = 0
        self._coordinator = coordinator
        self.get, self.get_many, self.children = coordinator.get, coordinator.get_many, coordinator.children
        self.listen, self.close = coordinator.listen, coordinator.close

    @property
    def state(self) -> object:
        return self._coordinator.state

    @property
    def session_id(self) -> int:
        return self._coordinator.session_id

    def commit(self, ops: Sequence[Op]) -> tuple[str, ...]:
        done = self._coordinator.commit(ops)
        data = sum(len(op.data) for op in ops if isinstance(op, Create | Put))
        self.data += data
        self.wire += data + sum(REQUEST + len(op.path) for op in ops)
        self.commits += 1
        return done


def main() -> None:
    server, root, directory, count, report = sys.argv[1:]
    runtime, log = ThreadRuntime(), logging.getLogger("publisher")
    logging.basicConfig(level=logging.WARNING)
    settings = Settings(directory=directory)
    session = Counting(
        connect(ZooKeeperSettings(hosts=(server,), root=root), runtime=runtime, name="consolelog", log=log)
    )

    def counted() -> Coordinator:
        made: Coordinator = session  # type: ignore[assignment]
        return made

    def files(wake: Signal) -> LogFiles:
        return DirectoryFiles(directory, runtime, wake, lambda: settings.interval, log)

    service = ConsoleLog(
        node=NODE, connect=counted, open_files=files, runtime=runtime, settings=lambda: settings, log=log
    )
    for number in range(int(count)):
        service.vm_changed(VmEvent(VmChange.STARTED, uuid_of(number), vm_name(number), _xml(directory, number)))
    lifecycle = Lifecycle([service], runtime, log)
    lifecycle.start()
    ended = runtime.signal()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    while not ended.wait(0.5):
        told = json.dumps({"data": session.data, "wire": session.wire, "commits": session.commits})
        fresh = Path(f"{report}.new")
        fresh.write_text(told)
        fresh.replace(report)
    lifecycle.stop()
    session.close()
    os._exit(0)


def _xml(directory: str, number: int) -> str:
    log = f"<log file='{console_path(Path(directory), number)}' append='off'/>"
    return f"<domain id='1'><devices><serial type='pty'>{log}</serial></devices></domain>"


if __name__ == "__main__":
    main()
