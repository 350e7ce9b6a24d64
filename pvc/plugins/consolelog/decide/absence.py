"""Why a VM has no console log, and what to do about it."""

from dataclasses import dataclass

SERIAL = "<serial type='pty'/>"


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a VM without a log."""

    name: str
    has_console: bool
    """Its definition has a serial console."""
    runs: bool
    node: str
    """Where it runs, or should."""
    publishes: bool
    """The plugin runs on that node, as far as the node's record says."""


def no_console(name: str) -> str:
    """What to do about a VM without a serial console."""
    return (
        f"{name} has no serial console: add {SERIAL} to the <devices> of its XML (`pvc vm dump {name}`), define it "
        "anew, start it, and have its guest use the console (for Linux: console=ttyS0 on the kernel command line)"
    )


def why_no_log(facts: Facts) -> str:
    """One sentence about the cause, the first one that applies, with what to do."""
    if not facts.has_console:
        return no_console(facts.name)
    if not facts.publishes:
        return (
            f"nothing of {facts.name} has been published: the plugin consolelog is not on on {facts.node}; set "
            f"plugins.consolelog: true in pvc.yaml there, restart pvcd, and restart {facts.name}"
        )
    if not facts.runs:
        return f"nothing of {facts.name} has been published: it does not run; start it with `pvc vm start {facts.name}`"
    return (
        f"nothing of {facts.name} has been published: it was started before its console was logged; have it "
        f"restarted with `pvc vm restart {facts.name}`, or see `pvc node info {facts.node}` for what is wrong there"
    )
