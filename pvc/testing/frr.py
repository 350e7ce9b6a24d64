"""FRR in memory: the public fake of the networking role's `Daemons`. It carries no frames."""

from collections.abc import Sequence

from pvc.plugins.networking.evpn.daemons import FrrError, Program, Seen, Speaker


class FakeDaemons:
    """The daemons of one machine; they outlive its pvcd."""

    def __init__(self) -> None:
        self.running: dict[Program, str] = {}
        self.peers: set[str] = set()
        self.down: set[str] = set()
        """Peers whose session is not up."""
        self.missing = ""
        """Why no daemon can be started; empty: it can."""
        self.started: list[Program] = []
        """All that were started, in order."""

    def look(self) -> Seen:
        peers = {address: address not in self.down for address in self.peers}
        return Seen(dict(self.running), peers if Program.BGPD in self.running else {})

    def start(self, program: Program, text: str, speaker: Speaker) -> None:
        if self.missing:
            raise FrrError(self.missing)
        if program in self.running:
            raise FrrError(f"{program.value} runs already; look again")
        self.running[program] = text
        self.started.append(program)

    def end(self, program: Program) -> None:
        self.kill(program)

    def tell(self, commands: Sequence[str]) -> None:
        if Program.BGPD not in self.running:
            raise FrrError("bgpd does not run; start it")
        for command in commands:
            match command.split():
                case ["neighbor", address, "peer-group", _]:
                    self.peers.add(address)
                case ["no", "neighbor", address]:
                    self.peers.remove(address)
                case _:
                    pass

    def kill(self, program: Program) -> None:
        """A daemon dies."""
        self.running.pop(program, None)
        if program is Program.BGPD:
            self.peers.clear()

    def power_off(self) -> None:
        """The machine loses power."""
        self.running.clear()
        self.peers.clear()
