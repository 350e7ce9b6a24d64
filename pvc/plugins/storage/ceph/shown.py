"""Ceph as listings show it."""

from typing import Any

from pvc.core.commands import Size
from pvc.core.coordination import Coordinator
from pvc.core.records import Garbage, decode
from pvc.plugins.storage import keys
from pvc.plugins.storage.ceph.cluster import FLAGS, NOOUT
from pvc.plugins.storage.ceph.noout import Noout
from pvc.plugins.storage.ceph.published import CephState
from pvc.plugins.storage.ceph.requests import Sight, read_sight

OSD_COLUMNS = ("osd", "node", "state", "class", "size", "used", "used_percent", "weight")
FLAG_COLUMNS = ("flag", "set", "by")


def ceph_rows(coordinator: Coordinator) -> list[dict[str, Any]]:
    """The Ceph cluster in one row, for `pvc storage status`; none where no node knows of one. Raises Disconnected."""
    sight = read_sight(coordinator)
    state = sight.state
    return [] if state is None else [_state_row(state, sight)]


def osd_rows(coordinator: Coordinator) -> list[dict[str, Any]]:
    """All OSDs; of those on no node only what all nodes see. Raises Disconnected."""
    sight = read_sight(coordinator)
    state = sight.state or CephState()
    trusted = sight.state is not None and not state.problem
    rows = []
    for seat in sight.seats:
        up = seat.osd.up if not trusted or seat.alive else seat.id not in state.down
        inside = seat.osd.inside if not trusted or seat.alive else seat.id not in state.out
        size, used = seat.osd.size, seat.osd.used
        rows.append(
            {
                "osd": seat.id,
                "node": seat.node,
                "state": _standing(up, inside),
                "class": seat.osd.kind or None,
                "size": None if size is None else Size(size),
                "used": None if used is None else Size(used),
                "used_percent": None if not size or used is None else 100 * used // size,
                "weight": seat.osd.weight,
            }
        )
    for id in state.strangers:
        bare = dict.fromkeys(("node", "class", "size", "used", "used_percent", "weight"))
        rows.append({"osd": id, **bare, "state": _standing(id not in state.down, id not in state.out)})
    return sorted(rows, key=lambda row: row["osd"])


def flag_rows(coordinator: Coordinator) -> list[dict[str, Any]]:
    """Ceph's flags, whether they are set, and whose flush has set noout. Raises Disconnected."""
    state = read_sight(coordinator).state
    if state is None or state.problem:
        return [{"flag": flag, "set": None, "by": None} for flag in FLAGS]
    return [
        {"flag": flag, "set": flag in state.flags, "by": _setters(coordinator) if flag == NOOUT else None}
        for flag in FLAGS
    ]


def _setters(coordinator: Coordinator) -> str | None:
    znode = coordinator.get(keys.NOOUT)
    if znode is None:
        return None
    try:
        return f"flush of {', '.join(decode(Noout, znode.data, keys.NOOUT).nodes)}"
    except Garbage:
        return None


def _state_row(state: CephState, sight: Sight) -> dict[str, Any]:
    cut_off = [f"{node}: {one.problem}" for node, one in sorted(sight.states.items()) if one.problem]
    if state.problem:
        return {"health": None, "problems": cut_off}
    return {
        "health": state.health,
        "checks": list(state.checks),
        "total": Size(state.total),
        "free": Size(state.free),
        "osds": state.osds,
        "osds_up": state.osds - len(state.down),
        "osds_in": state.osds - len(state.out),
        "monitors": f"{state.quorum} of {state.monitors}",
        "manager": state.mgr,
        "recovery": _recovery(state),
        "slow_operations": state.slow,
        "flags": list(state.flags),
        "problems": cut_off,
    }


def _recovery(state: CephState) -> str | None:
    parts = [
        f"{count} {what}" for count, what in ((state.degraded, "degraded"), (state.misplaced, "misplaced")) if count
    ]
    if not parts:
        return None
    percent = 100 * (state.degraded + state.misplaced) / state.copies if state.copies else 0.0
    speed = f", {state.rate} objects/s" if state.rate else ""
    return f"{', '.join(parts)} of {state.copies} copies ({percent:.1f} %){speed}"


def _standing(up: bool, inside: bool) -> str:
    return f"{'up' if up else 'down'}, {'in' if inside else 'out'}"
