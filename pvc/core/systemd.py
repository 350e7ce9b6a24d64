"""What the daemon has to do with systemd, when it runs under it: tells it how it is (sd_notify(3): datagrams, no
library needed), and has programs run outside of its own unit."""

import logging
import os
import socket
from collections.abc import Callable, Mapping, Sequence

OUTSIDE = ("systemd-run", "--quiet", "--wait", "--collect", "--pipe")
PATIENCE = 2.0
"""Seconds to wait for a systemd that is too busy to take more news; the daemon's main loop must go on."""


def notify(state: str, environment: Mapping[str, str] = os.environ) -> bool:
    """Send a state such as "READY=1"; whether there was somebody to tell. Never raises: it is news, not work."""
    address = environment.get("NOTIFY_SOCKET", "")
    if not address:
        return False
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to:
            to.settimeout(PATIENCE)
            to.connect("\0" + address[1:] if address.startswith("@") else address)
            to.send(state.encode())
    except OSError:
        return False
    return True


def outside(environment: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """What a command begins with, options of systemd-run(1) and `--` to follow, so that it runs as a unit of its own;
    empty where systemd has not started this process.

    For what mounts, makes devices or writes to `/etc`: the daemon's unit keeps it from that, and what is mounted in
    there nobody else sees. The environment of this process does not go along.
    """
    return OUTSIDE if environment.get("NOTIFY_SOCKET") else ()


class Watchdog:
    """Tells systemd that the daemon makes progress, and is silent while it makes none: then systemd restarts it."""

    def __init__(
        self,
        hung: Callable[[], Sequence[str]],
        log: logging.Logger,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        """`hung` names what makes no progress. Without WATCHDOG_USEC nobody waits for news and none is sent."""
        self._hung = hung
        self._log = log
        self._environment = environment
        self._silent = False
        self.patience = _patience(environment)
        """Seconds of silence after which systemd acts; None: it does not watch this process."""

    def feed(self) -> None:
        """Send a sign of life unless something hangs. To be called at least twice in `patience`."""
        if self.patience is None:
            return
        hung = list(self._hung())
        if not hung:
            notify("WATCHDOG=1", self._environment)
        elif not self._silent:
            self._log.critical("%s: no progress; telling systemd nothing more, it restarts pvcd", ", ".join(hung))
        self._silent = bool(hung)


def _patience(environment: Mapping[str, str]) -> float | None:
    microseconds = environment.get("WATCHDOG_USEC", "")
    if not microseconds.isdigit() or environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    return int(microseconds) / 1e6
