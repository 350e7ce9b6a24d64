"""The door to dnsmasq where the process does not do what it is told."""

from contextlib import nullcontext
from pathlib import Path

from pvc.core.process import SystemProcesses
from pvc.plugins.networking.gateway.dnsmasq import Dnsmasq
from pvc.plugins.networking.gateway.routers import RouterError
from pvc.testing.runtime import World

NOBODY = 2**30
"""No process has this number: whatever is sent to it, nothing happens."""


def test_a_process_that_the_kernel_does_not_let_go_of_is_given_up(tmp_path: Path) -> None:
    world, directory, proc = World(), tmp_path / "a", tmp_path / "proc"
    for path in (directory, proc / str(NOBODY)):
        path.mkdir(parents=True)
    proc.joinpath(str(NOBODY), "cmdline").write_text(f"dnsmasq\0--conf-file={directory}/dnsmasq.conf\0")
    directory.joinpath("dnsmasq.pid").write_text(f"{NOBODY}\n")
    process = world.process("pvcd")
    dnsmasq = Dnsmasq(SystemProcesses(), process, directory, nullcontext, proc)
    said: list[str] = []

    def end() -> None:
        try:
            dnsmasq.end()
        except RouterError as error:
            said.append(str(error))

    process.spawn("end", end)
    assert world.run_until(lambda: bool(said), 10)
    assert f"(process {NOBODY}) has been killed and does not end" in said[0]
