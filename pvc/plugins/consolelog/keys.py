"""The console log's paths."""

from pvc.core import keys


def console(uuid: str) -> str:
    """The header of a VM's console log; its children are the blocks."""
    return f"{keys.vm(uuid)}/console"


def block(uuid: str, number: int) -> str:
    """One block of chunks. Blocks are numbered without holes, so a reader needs no listing to know their names."""
    return f"{console(uuid)}/{number:012d}"
