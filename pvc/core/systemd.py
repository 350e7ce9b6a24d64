"""Tells systemd how the daemon is, when it runs under it (sd_notify(3)): one datagram, no library needed."""

import os
import socket
from collections.abc import Mapping


def notify(state: str, environment: Mapping[str, str] = os.environ) -> bool:
    """Send a state such as "READY=1"; whether there was somebody to tell. Never raises: it is news, not work."""
    address = environment.get("NOTIFY_SOCKET", "")
    if not address:
        return False
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to:
            to.connect("\0" + address[1:] if address.startswith("@") else address)
            to.send(state.encode())
    except OSError:
        return False
    return True
