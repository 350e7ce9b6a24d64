"""Which part of a VM's stream was printed on one node. Pure: the markers in the stream say where the VM was."""

from collections.abc import Sequence

from pvc.plugins.consolelog.ring import Chunk, Event, Marker


def printed_on(node: str, chunks: Sequence[Chunk], here: bool) -> tuple[list[Chunk], bool]:
    """The chunks that belong to the node, and whether the VM is there behind them; `here`: whether it was before them.

    A marker that brings it or takes it away belongs to the node, too.
    """
    found: list[Chunk] = []
    for chunk in chunks:
        before = here
        if isinstance(chunk.content, Marker):
            here = _place(chunk.content) == node
        if here or before:
            found.append(chunk)
    return found, here


def _place(marker: Marker) -> str:
    """Where the VM is after it."""
    return marker.target if marker.event is Event.MOVED else marker.node
