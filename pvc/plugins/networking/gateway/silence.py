"""The dead man's switch of routers: a table of nftables that lets nothing through a port whose time is over."""

from pvc.core.process import CommandFailed, Processes
from pvc.core.runtime import Runtime
from pvc.plugins.networking.gateway.decide import silence
from pvc.plugins.networking.gateway.routers import RouterError

PATIENCE = 20.0
"""Seconds for one call of nft, which takes 0.02 for 200 routers."""


def nft(processes: Processes, text: str) -> None:
    """Carry out a transaction in the namespace that the thread is in. Raises RouterError; then nothing has changed."""
    try:
        done = processes.run(["nft", "-f", "-"], timeout=PATIENCE, env={"LC_ALL": "C"}, stdin=text)
    except CommandFailed as error:
        raise RouterError(f"{error} (the package nftables has it)") from error
    if done.code != 0:
        said = " ".join(done.stderr.strip().splitlines()[:2])[:500]
        raise RouterError(f"nft refuses: {said}; pvcd needs root and a kernel with nftables for bridges")


class Switch:
    """The table `bridge pvc_gateways`; for any thread."""

    def __init__(self, processes: Processes, runtime: Runtime) -> None:
        self._processes = processes
        self._runtime = runtime
        self._sure_until = float("-inf")

    def hold(self, networks: frozenset[str], seconds: float) -> None:
        """Let the ports of these routers pass frames for that time. Raises RouterError."""
        asked = self._runtime.monotonic()
        self._demand(silence.holding(networks, seconds))
        self._sure_until = asked + seconds

    def sure(self) -> bool:
        """Whether it has been set so lately that the last time has not run out."""
        return self._runtime.monotonic() < self._sure_until

    def define(self) -> None:
        """Have the table be as it must be; whom it holds is not changed. Raises RouterError."""
        self._demand(silence.definition())

    def held(self) -> frozenset[str]:
        """The networks whose routers are held. Raises RouterError."""
        command = ["nft", "list", "set", *silence.TABLE.split(), "held"]
        try:
            listing = self._processes.check(command, timeout=PATIENCE, env={"LC_ALL": "C"})
        except CommandFailed as error:
            raise RouterError(f"{error}; `nft list ruleset` shows what there is") from error
        return silence.held(listing)

    def _demand(self, text: str) -> None:
        try:
            nft(self._processes, text)
        except RouterError:
            nft(self._processes, silence.anew(text))
