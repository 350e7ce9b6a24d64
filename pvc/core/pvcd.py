"""The program `pvcd`: runs one node's daemon in the foreground until it is told to stop."""

import argparse
import faulthandler
import logging
import os
import signal
import sys
from collections.abc import Callable
from functools import partial

import pvc
from pvc.core.config.settings import Config
from pvc.core.coordination import Coordinator
from pvc.core.daemon import Daemon
from pvc.core.errors import PvcError
from pvc.core.machine import LinuxMachine
from pvc.core.residents import RolesNeeded
from pvc.core.runtime import Runtime
from pvc.core.setup import load
from pvc.core.systemd import Watchdog, notify
from pvc.core.threads import ThreadRuntime

LOG = logging.getLogger("pvc")

STOPPED = 0
"""Told to stop (SIGTERM or SIGINT)."""
LOOK_EVERY = 2.0
"""Seconds between two looks at the running daemon, less if systemd's watchdog is to hear more often."""
FAILED = 1
"""It cannot run now: no ZooKeeper server answers, the tree is missing or of another version, or the node's name is
taken."""
BAD_CONFIGURATION = 78
"""The configuration cannot be used, or VMs need a role that it switches off (EX_CONFIG of sysexits.h): no restart will
help."""


def main() -> None:
    """Entry point of `pvcd`."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there is something to reload; its default would end us
    arguments = parser().parse_args()
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
        read = partial(_read_again, arguments.config)
        sys.exit(_run(setup.config, partial(Daemon, setup.config, setup.plugins), read))
    except PvcError as error:
        sys.exit(_complain(error, FAILED))


def parser() -> argparse.ArgumentParser:
    """What `pvcd` takes on its command line."""
    found = argparse.ArgumentParser(prog="pvcd", description="Run this host as a node of a pvc cluster.")
    found.add_argument("--config", metavar="FILE", help="configuration file (default: $PVC_CONFIG, /etc/pvc/pvc.yaml)")
    found.add_argument("--verbose", action="store_true", help="log every decision")
    found.add_argument("--version", action="version", version=f"pvcd {pvc.__version__}")
    return found


class Asked:
    """What signals have asked for."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.news = runtime.signal()
        self.stop = False
        self.reload = False

    def listen(self) -> None:
        """Take SIGTERM, SIGINT and SIGHUP from now on."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda number, _frame: self._take(number))

    def _take(self, number: int) -> None:
        if number == signal.SIGHUP:
            self.reload = True
        else:
            self.stop = True
        # From another thread: this one is the main thread, interrupted, and may hold the signal's own lock.
        self._runtime.spawn("signal", self.news.set)


def _run(config: Config, make: "partial[Daemon]", read: Callable[[], Config]) -> int:
    from pvc.core.zookeeper import connect

    runtime = ThreadRuntime()
    asked = Asked(runtime)
    asked.listen()

    def open_session(purpose: str) -> Coordinator:
        return connect(config.zookeeper, runtime=runtime, name=f"{config.node}/{purpose}", log=LOG)

    LOG.info("pvcd %s starts as node %s", pvc.__version__, config.node)
    daemon = make(open_session("daemon"), open_session, runtime, LinuxMachine(), LOG)
    daemon.start()
    code = _watch_over(daemon, asked, runtime, read)
    notify("STOPPING=1")
    daemon.stop()
    LOG.info("pvcd stops; VMs keep running")
    return code


def _watch_over(daemon: Daemon, asked: Asked, runtime: Runtime, read: Callable[[], Config]) -> int:
    """Wait for the end, reload when asked, tell systemd when the node is registered and that its services go on.

    Returns the exit code.
    """
    ready = False
    watchdog = Watchdog(daemon.hung, LOG)
    while not asked.stop:
        watchdog.feed()
        if daemon.taken is not None:
            return _complain(daemon.taken, BAD_CONFIGURATION if isinstance(daemon.taken, RolesNeeded) else FAILED)
        if asked.reload:
            asked.reload = False  # before it is read: a signal meanwhile asks for another
            _reload(daemon, runtime, read, ready=ready)
        if not ready and daemon.context.registered():
            ready = True
            notify("READY=1")
        asked.news.wait(0.2 if not ready else min(LOOK_EVERY, (watchdog.patience or LOOK_EVERY) / 2))
    return STOPPED


def _reload(daemon: Daemon, runtime: Runtime, read: Callable[[], Config], *, ready: bool) -> None:
    """Read the configuration again, with systemd told of begin and end as it asks for (sd_notify(3))."""
    if ready:
        notify(f"RELOADING=1\nMONOTONIC_USEC={int(runtime.monotonic() * 1_000_000)}")
    outcome = daemon.reload(read)
    if ready:
        notify(f"READY=1\nSTATUS={'Reload failed' if outcome.problem else 'Reloaded'}: see the log")


def _read_again(path: str | None) -> Config:
    """What the files say now, checked by the schemas of all plugins that they name. Raises PvcError."""
    return load(path, LOG).config


def _complain(error: PvcError, code: int) -> int:
    print(f"pvcd: {error}", file=sys.stderr)
    return code


class _JournalFormatter(logging.Formatter):
    """Puts the priority in front as the journal reads it (sd-daemon(3))."""

    def format(self, record: logging.LogRecord) -> str:
        priority = 3 if record.levelno >= logging.ERROR else 4 if record.levelno >= logging.WARNING else 6
        return f"<{priority}>{super().format(record)}"
