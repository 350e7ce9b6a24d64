"""Whose an OSD is, what a node publishes of Ceph, and what it finds wrong with it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from pvc.core.model import Finding, Severity
from pvc.plugins.storage.ceph.cluster import FLAGS, Osd, Stoppable, Survey, Use
from pvc.plugins.storage.ceph.published import CephState, OsdState
from pvc.plugins.storage.schema import SECTION

PRECISION = 3
"""Digits of published room that count."""
NAMED = 5
"""Placement groups or OSDs that a text names; of more only the number is told."""
ADVICE: Mapping[str, str] = {
    "MON_DOWN": "start the monitors that are down",
    "MGR_DOWN": "start a manager daemon (`systemctl start ceph-mgr@NAME`)",
    "OSD_DOWN": "`pvc storage osd list` shows which; start them, or remove them if their disks are dead",
    "OSDMAP_FLAGS": "`pvc storage flag list` shows them; unset those that nobody needs",
    "OSD_NEARFULL": "add OSDs or remove volumes before it is full",
    "OSD_BACKFILLFULL": "add OSDs or remove volumes: Ceph cannot copy to full OSDs any more",
    "OSD_FULL": "add OSDs at once: Ceph refuses every write",
    "POOL_FULL": "raise the quota of the pool, or remove volumes",
    "POOL_NEARFULL": "raise the quota of the pool, or remove volumes",
    "SLOW_OPS": "look at the disks and the network of the OSDs named",
    "PG_AVAILABILITY": "VMs wait for their disks: bring back the OSDs that are down",
    "PG_DAMAGED": "see `ceph health detail`, and `ceph pg repair`",
    "PG_DEGRADED": "wait for the recovery, or bring back the OSDs that are down",
    "MON_CLOCK_SKEW": "see to the clocks of the monitors' machines (NTP)",
    "MON_DISK_LOW": "make room on the monitors' file systems",
    "MON_DISK_CRIT": "make room on the monitors' file systems at once",
}
"""What to do about Ceph's checks, by their names."""


def owner(osd: Osd, nodes: Mapping[str, str]) -> str:
    """The node that an OSD is on, of `nodes`: their addresses by name. That whose name its host in the CRUSH tree has;
    if it has no node's, that whose address the OSD has or had last; empty: none of them."""
    for name in nodes:
        if osd.host and _label(osd.host) == _label(name):
            return name
    return next((name for name, address in nodes.items() if address and address in osd.addresses), "")


def state_of(survey: Survey, strangers: Sequence[int], unstoppable: str) -> CephState:
    """What to publish of a survey."""
    return CephState(
        health=survey.health,
        checks=tuple(f"{check.code}: {check.text}" for check in survey.checks),
        total=survey.total,
        free=_rounded(survey.free),
        degraded=survey.degraded,
        misplaced=survey.misplaced,
        copies=survey.copies,
        rate=survey.rate,
        slow=survey.slow_operations,
        monitors=len(survey.monitors),
        quorum=len(survey.quorum),
        mgr=survey.mgr,
        osds=len(survey.osds),
        down=tuple(osd.id for osd in survey.osds if not osd.up),
        out=tuple(osd.id for osd in survey.osds if not osd.inside),
        strangers=tuple(strangers),
        flags=tuple(flag for flag in FLAGS if flag in survey.flags),
        unstoppable=unstoppable,
    )


def osd_states(osds: Iterable[Osd], usage: Mapping[int, Use]) -> dict[int, OsdState]:
    """What to publish of a node's OSDs."""
    bare = {osd.id: OsdState(osd.up, osd.inside, osd.kind, osd.weight) for osd in osds}
    return {
        id: replace(osd, size=usage[id].size, used=_rounded(usage[id].used)) if id in usage else osd
        for id, osd in bare.items()
    }


def findings(survey: Survey, own: Iterable[Osd], nearly_full: int) -> list[Finding]:
    """What is wrong with Ceph, in its own words, and with the OSDs of this node, each with what to do."""
    found = [
        Finding(SECTION, Severity.CRITICAL if check.error else Severity.WARNING, _complaint(check.code, check.text))
        for check in survey.checks
    ]
    missing = [name for name in survey.monitors if name not in survey.quorum]
    if missing and all(check.code != "MON_DOWN" for check in survey.checks):
        found.append(_warning(f"monitor {', '.join(missing)} is not in the quorum: {ADVICE['MON_DOWN']}"))
    for osd in own:
        if not osd.up:
            text = f"osd.{osd.id} of this node is down: `systemctl status ceph-osd@{osd.id}` tells why; start it"
            found.append(Finding(SECTION, Severity.CRITICAL, text))
        elif not osd.inside:
            advice = f"`pvc storage osd in {osd.id}` takes it back, `pvc storage osd remove {osd.id}` removes it"
            found.append(_warning(f"osd.{osd.id} of this node is out, it holds no data: {advice}"))
    if survey.total and 100 * (survey.total - survey.free) >= nearly_full * survey.total:
        used = 100 * (survey.total - survey.free) // survey.total
        found.append(_warning(f"Ceph is full to {used} %: add OSDs, or remove volumes"))
    return found


def silence(problem: str) -> Finding:
    """The finding of a Ceph that cannot be asked."""
    return Finding(SECTION, Severity.CRITICAL, f"{problem}; VMs with disks on it may stand still")


def why_not_stop(answer: Stoppable, pools: Mapping[int, str], ids: Sequence[int], leaving: Sequence[int] = ()) -> str:
    """Why the OSDs of a node may not be stopped, with the pools and placement groups that it would hit; empty: they
    may. `leaving`: OSDs of other nodes that were counted as stopped, though they are up."""
    if answer.safe:
        return ""
    named = _osds(ids)
    if leaving:
        named += f", and {_osds(leaving)} of nodes that are flushed or being flushed,"
    hit = dict.fromkeys(pools.get(_pool(group), f"pool {_pool(group)}") for group in answer.groups)
    where = f" of {_some([f'pool {name}' for name in hit])}" if hit else ""
    groups = f"placement groups {_some(answer.groups)}{where}" if answer.groups else answer.reason or "Ceph says no"
    return f"without {named} too few copies of data would be left to serve it: {groups}"


def _complaint(code: str, text: str) -> str:
    return f"Ceph: {text} ({code}): {ADVICE.get(code, 'see `ceph health detail`')}"


def _warning(text: str) -> Finding:
    return Finding(SECTION, Severity.WARNING, text)


def _some(names: Sequence[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")


def _osds(ids: Sequence[int]) -> str:
    return ", ".join(f"osd.{id}" for id in ids)


def _pool(group: str) -> int:
    head = group.partition(".")[0]
    return int(head) if head.isdigit() else -1


def _label(name: str) -> str:
    return name.partition(".")[0].lower()


def _rounded(size: int) -> int:
    unit: int = 10 ** max(0, len(str(size)) - PRECISION)
    return size // unit * unit
