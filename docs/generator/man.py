"""The manual pages pvc(1), pvcd(8) and pvc.yaml(5), from the same facts as the reference."""

from collections.abc import Iterable, Iterator

import pvc
from generator import roff, source, surroundings
from generator.commands import Command, Parameter, commands, daemon
from generator.pages import programs
from pvc.core.config.reference import Entry

EXAMPLE = (
    "node: hv1",
    'zookeeper: {hosts: ["hv1:2181", "hv2:2181", "hv3:2181"]}',
    "roles: {hypervisor: true}",
)
"""The three lines of a node that runs virtual machines and nothing else."""


def man_pages() -> dict[str, str]:
    """Every manual page, by the name of its file."""
    makers = {"pvc.1": _pvc, "pvcd.8": _pvcd, "pvc.yaml.5": _pvc_yaml}
    return {name: roff.page(make()) for name, make in makers.items()}


def _pvc() -> Iterator[str]:
    top, *rest = commands()
    yield from _head("pvc", 1, "manage a cluster of virtual machines")
    yield from _synopsis([top.usage])
    yield roff.heading("description")
    yield from roff.paragraph(
        "`pvc` shows and changes a cluster of hosts that run virtual machines. It talks to ZooKeeper only; the daemon "
        "of each host, pvcd(8), does what is asked for."
    )
    yield from roff.paragraph("Where the cluster is, it reads in pvc.yaml(5).")
    yield roff.heading("options")
    yield from roff.paragraph("Before the command:")
    yield from _parameters(top.options)
    yield roff.heading("commands")
    for command in rest:
        if not command.is_group:
            yield from _command(command)
    yield from _exit_status("pvc")
    yield from _environment("pvc")
    yield from _files()
    yield from _see_also("pvcd(8)", "pvc.yaml(5)", "virsh(1)")


def _pvcd() -> Iterator[str]:
    command = daemon()
    yield from _head("pvcd", 8, "daemon of one host of a cluster of virtual machines")
    yield from _synopsis([command.usage])
    yield roff.heading("description")
    yield from roff.paragraph(
        "`pvcd` runs in the foreground, registers its host as a node of the cluster in ZooKeeper, runs the plugins "
        "that pvc.yaml(5) switches on, and carries out what is asked for with pvc(1). It tells systemd when the node "
        "is registered."
    )
    yield from roff.paragraph("Stopping it touches no VM: they run on. After a restart it goes on where it was.")
    yield roff.heading("options")
    yield from _parameters(command.options)
    yield roff.heading("signals")
    yield from roff.item("SIGTERM, SIGINT", ["End."])
    yield from _exit_status("pvcd")
    yield from _environment("pvcd")
    yield from _files()
    yield from _see_also("pvc(1)", "pvc.yaml(5)", "libvirtd(8)")


def _pvc_yaml() -> Iterator[str]:
    yield from _head("pvc.yaml", 5, "configuration of pvc and pvcd")
    yield roff.heading("description")
    yield from roff.paragraph(
        "`/etc/pvc/pvc.yaml` is read by pvcd(8) on each node and by pvc(1) where it is typed. It is YAML. Every key "
        "may be left out. The section of a plugin is read only if the plugin is on. Write true and false bare."
    )
    yield from roff.paragraph(
        "`pvc config check` shows every problem of a file with its line, `pvc config show` what is in force. For a key "
        'marked "per VM" `pvc vm set` gives one VM a value of its own.'
    )
    section = None
    for entry in source.settings():
        head = entry.path.partition(".")[0] if "." in entry.path else "top level"
        if head != section:
            section = head
            yield roff.heading(f"keys: {section}" if section != "top level" else "keys: top level")
        yield from roff.item(entry.path, [" ".join(_setting(entry))])
    yield roff.heading("examples")
    yield from roff.paragraph("A node that runs virtual machines and nothing else:")
    yield from roff.literal(EXAMPLE)
    yield from _files()
    yield from _see_also("pvc(1)", "pvcd(8)")


def _head(name: str, section: int, purpose: str) -> Iterator[str]:
    yield '.\\" Made by docs/generate.py from the source of pvc.'
    yield roff.title(name, section, pvc.__version__)
    yield roff.heading("name")
    yield f"{roff.escaped(name)} \\- {roff.prose(purpose)}"


def _synopsis(usages: Iterable[str]) -> Iterator[str]:
    yield roff.heading("synopsis")
    for usage in usages:
        name, _, words = usage.partition(" ")
        yield from (".PP", f"\\fB{roff.escaped(name)}\\fP {roff.escaped(words)}")


def _command(command: Command) -> Iterator[str]:
    yield roff.subheading(command.usage)
    for text in command.help.split("\n\n"):
        yield from roff.paragraph(text)
    yield from _parameters(command.parameters)


def _parameters(parameters: Iterable[Parameter]) -> Iterator[str]:
    for each in parameters:
        names = ", ".join(each.names)
        yield from roff.item(f"{names} {each.value}".strip(), [each.help])


def _exit_status(program: str) -> Iterator[str]:
    yield roff.heading("exit status")
    for code, doc in source.exit_codes(programs()[program]).values():
        yield from roff.item(str(code), [doc])


def _environment(program: str) -> Iterator[str]:
    yield roff.heading("environment")
    for name, (who, meaning) in {**surroundings.ENVIRONMENT, **surroundings.ALIEN_ENVIRONMENT}.items():
        if program in [each.split()[0] for each in who.removeprefix("set by ").split(", ")]:
            yield from roff.item(name, [meaning])


def _files() -> Iterator[str]:
    yield roff.heading("files")
    for name, meaning in surroundings.FILES.items():
        yield from roff.item(name, [meaning])


def _see_also(*others: str) -> Iterator[str]:
    yield roff.heading("see also")
    yield from (".PP", ", ".join(f"\\fB{each.partition('(')[0]}\\fP({each.partition('(')[2]}" for each in others))


def _setting(entry: Entry) -> Iterator[str]:
    yield entry.help
    yield f"Allowed: {entry.allowed}."
    yield f"Default: {source.default_text(entry)}."
    if entry.per_vm:
        yield "Per VM."
