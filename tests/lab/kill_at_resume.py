"""Run on a node: kills its libvirtd at the moment when an incoming guest has been resumed. Argument: the pid file."""

import os
import signal
import sys
from pathlib import Path

import libvirt


def main() -> None:
    pid = int(Path(sys.argv[1]).read_text())
    libvirt.virEventRegisterDefaultImpl()
    connection = libvirt.open("qemu:///system")

    def heard(_connection: object, _domain: object, event: int, detail: int, _data: object) -> None:
        if (event, detail) == (libvirt.VIR_DOMAIN_EVENT_RESUMED, libvirt.VIR_DOMAIN_EVENT_RESUMED_MIGRATED):
            os.kill(pid, signal.SIGKILL)
            os._exit(0)

    connection.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, heard, None)
    print("listening", flush=True)
    while True:
        libvirt.virEventRunDefaultImpl()


if __name__ == "__main__":
    main()
