"""A Debian system of the test's own, to install packages in: this machine's files below a layer of changes.

Nothing in it reaches this machine, and nothing is left when it ends: it lives in a mount and a process namespace.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from pvc.core.process import Finished, Running, SystemProcesses
from pvc.core.threads import ThreadRuntime

SCRIPT = Path(__file__).with_name("root.sh")
ENVIRONMENT = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LC_ALL": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
}
PATIENCE = 60.0
"""Seconds within which what is waited for must come."""


class Debian:
    """A running system. `directory` is empty, `packages` appears as /tmp."""

    def __init__(self, directory: Path, packages: Path) -> None:
        self.packages = packages
        self._processes = SystemProcesses()
        self._base = directory
        self._unshare = self._processes.start(
            [
                *("unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private"),
                *("sh", str(SCRIPT), str(directory), str(packages)),
            ],
            output=packages / "init.log",
        )
        booted = packages / "booted"
        until(booted.exists, lambda: (packages / "init.log").read_text())
        booted.unlink()
        children = Path(f"/proc/{self._unshare.pid}/task/{self._unshare.pid}/children")
        self._init = children.read_text().split()[0]

    def end(self) -> None:
        """Kill everything in it."""
        self._unshare.signal(9)
        self._unshare.wait(PATIENCE)

    def inside(self, *command: str, environment: Mapping[str, str] | None = None) -> list[str]:
        """The command that runs another as root of that system."""
        variables = [f"{name}={value}" for name, value in {**ENVIRONMENT, **(environment or {})}.items()]
        enter = ["nsenter", "--target", self._init, "--mount", "--pid", "--"]
        return [*enter, "chroot", str(self._base / "root"), "env", "--ignore-environment", *variables, *command]

    def run(self, *command: str, timeout: float = 300.0, environment: Mapping[str, str] | None = None) -> Finished:
        """Run a command there to its end."""
        return self._processes.run(self.inside(*command, environment=environment), timeout=timeout)

    def check(self, *command: str, timeout: float = 300.0, environment: Mapping[str, str] | None = None) -> str:
        """Run a command there that must succeed; what it wrote to standard output."""
        done = self.run(*command, timeout=timeout, environment=environment)
        assert done.code == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def start(self, *command: str, environment: Mapping[str, str] | None = None) -> Running:
        """Start a command there; its output goes to output.log among the packages."""
        return self._processes.start(
            self.inside(*command, environment=environment), output=self.packages / "output.log"
        )

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file of that system."""
        staged = self.packages / "staged"
        staged.write_text(text)
        self.check("install", "-D", f"--mode={mode:o}", "/tmp/staged", path)

    def read(self, path: str) -> str:
        """Read a file of that system."""
        return self.check("cat", path)

    def install(self) -> None:
        """Install the packages with what they depend on, as apt does, from what is on this machine."""
        names = [f"/tmp/{path.name}" for path in sorted(self.packages.glob("*.deb"))]
        options = ["--yes", "--no-install-recommends", "--reinstall", "-oAPT::Sandbox::User=root"]
        self.check("apt-get", "install", *options, *names)

    def changes(self) -> set[str]:
        """Every file and every new directory in the layer of changes, links and removals included."""
        script = (
            'cd "$1/changes" && find . -mindepth 1 | while read -r f; do [ -d "$f" ] && [ -d "/$f" ] || echo "$f"; done'
        )
        enter = ["nsenter", "--target", self._init, "--mount", "--"]
        listed = self._processes.check([*enter, "sh", "-c", script, "sh", str(self._base)], timeout=PATIENCE)
        return {line.removeprefix(".") for line in listed.splitlines()}


def until(condition: Callable[[], bool], why: Callable[[], str]) -> None:
    """Wait for a condition; fails with `why` when patience is over."""
    runtime = ThreadRuntime()
    deadline = runtime.monotonic() + PATIENCE
    while not condition():
        assert runtime.monotonic() < deadline, why()
        runtime.sleep(0.02)
