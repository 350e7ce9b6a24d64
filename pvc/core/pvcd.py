"""The program `pvcd`: runs one node's daemon in the foreground until it is told to stop."""

import argparse
import faulthandler
import logging
import os
import signal
import sys
from functools import partial

import pvc
from pvc.core.config.settings import Config
from pvc.core.coordination import Coordinator
from pvc.core.daemon import Daemon
from pvc.core.errors import PvcError
from pvc.core.machine import LinuxMachine
from pvc.core.runtime import Signal
from pvc.core.setup import load
from pvc.core.systemd import Watchdog, notify
from pvc.core.threads import ThreadRuntime

LOG = logging.getLogger("pvc")

LOOK_EVERY = 2.0
"""Seconds between two looks at the running daemon, less if systemd's watchdog is to hear more often."""
FAILED = 1
BAD_CONFIGURATION = 78
"""Exit code for a configuration that cannot be used (EX_CONFIG of sysexits.h): no restart will help."""


def main() -> None:
    """Entry point of `pvcd`."""
    arguments = _arguments()
    faulthandler.enable()  # at SIGABRT, systemd's to a daemon that hangs, the journal gets the stack of each thread
    logging.basicConfig(stream=sys.stderr, format="%(levelname)s %(message)s", level=logging.INFO)
    if arguments.verbose:
        LOG.setLevel(logging.DEBUG)
    if os.environ.get("JOURNAL_STREAM"):
        logging.getLogger().handlers[0].setFormatter(_JournalFormatter("%(message)s"))
    try:
        setup = load(arguments.config, LOG)
    except PvcError as error:
        sys.exit(_complain(error, BAD_CONFIGURATION))
    try:
        sys.exit(_run(setup.config, partial(Daemon, setup.config, setup.plugins)))
    except PvcError as error:
        sys.exit(_complain(error, FAILED))


def _run(config: Config, make: "partial[Daemon]") -> int:
    from pvc.core.zookeeper import connect

    runtime = ThreadRuntime()
    stop = runtime.signal()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: _set_beside(runtime, stop))

    def open_session(purpose: str) -> Coordinator:
        return connect(config.zookeeper, runtime=runtime, name=f"{config.node}/{purpose}", log=LOG)

    LOG.info("pvcd %s starts as node %s", pvc.__version__, config.node)
    daemon = make(open_session("daemon"), open_session, runtime, LinuxMachine(), LOG)
    daemon.start()
    code = _watch_over(daemon, stop)
    notify("STOPPING=1")
    daemon.stop()
    LOG.info("pvcd stops; VMs keep running")
    return code


def _watch_over(daemon: Daemon, stop: Signal) -> int:
    """Wait for the end, telling systemd when the node is registered, and that its services go on; the exit code."""
    ready = False
    watchdog = Watchdog(daemon.hung, LOG)
    while not stop.wait(0.2 if not ready else min(LOOK_EVERY, (watchdog.patience or LOOK_EVERY) / 2)):
        watchdog.feed()
        if daemon.taken is not None:
            return _complain(daemon.taken, FAILED)
        if not ready and daemon.context.registered():
            ready = True
            notify("READY=1")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="pvcd", description="Run this host as a node of a pvc cluster.")
    parser.add_argument("--config", metavar="FILE", help="configuration file (default: $PVC_CONFIG, /etc/pvc/pvc.yaml)")
    parser.add_argument("--verbose", action="store_true", help="log every decision")
    parser.add_argument("--version", action="version", version=f"pvcd {pvc.__version__}")
    return parser.parse_args()


def _complain(error: PvcError, code: int) -> int:
    print(f"pvcd: {error}", file=sys.stderr)
    return code


class _JournalFormatter(logging.Formatter):
    """Puts the priority in front as the journal reads it (sd-daemon(3))."""

    def format(self, record: logging.LogRecord) -> str:
        priority = 3 if record.levelno >= logging.ERROR else 4 if record.levelno >= logging.WARNING else 6
        return f"<{priority}>{super().format(record)}"


def _set_beside(runtime: ThreadRuntime, stop: Signal) -> None:
    """Set from another thread: the handler interrupts the main thread, which may hold the signal's own lock."""
    runtime.spawn("stop", stop.set)
