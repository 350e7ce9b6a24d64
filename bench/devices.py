"""How fast the devices of many networks are made, beside the same by `ip -batch`. Each way in a namespace of its own.

Run as a program inside a fresh network namespace, it makes them once and prints the seconds.
"""

import json
import sys

from bench.report import Result, result
from pvc.core.process import Processes, SystemProcesses
from pvc.core.runtime import Runtime
from pvc.core.threads import ThreadRuntime
from pvc.plugins.networking.decide.dataplane import View, plan
from pvc.plugins.networking.netlink import MARK, NetlinkDataplane
from pvc.plugins.networking.records import Network, NetworkKind

NETWORKS = 200
ADDRESS, PEERS = "10.99.0.1", {"hv2": "10.99.0.2", "hv3": "10.99.0.3"}
PATIENCE = 120.0


def measure(rounds: int) -> list[Result]:
    """The kernel's part of setting up NETWORKS networks, and its ratio to `ip -batch`, in turns."""
    processes = SystemProcesses()
    pairs = [(_inside(processes, "ours"), _inside(processes, "batch")) for _ in range(rounds)]
    batches = sorted(batch for _, batch in pairs)
    ratios = [ours / batch for ours, batch in pairs]
    return [
        result(f"devices of {NETWORKS} networks", [ours for ours, _ in pairs], "s", target=5.0),
        result("the same / `ip -batch`", ratios, "", target=5.0, baseline=batches[len(batches) // 2]),
    ]


def _inside(processes: Processes, way: str) -> float:
    return float(processes.check(["unshare", "-n", sys.executable, "-m", "bench.devices", way], timeout=PATIENCE))


def _prepare(processes: Processes) -> None:
    for words in ("link set lo up", "link add eth0 type veth peer name far", f"addr add {ADDRESS}/24 dev eth0"):
        processes.check(["ip", *words.split()], timeout=PATIENCE)
    processes.check(["ip", "link", "set", "eth0", "up"], timeout=PATIENCE)


def _ours(runtime: Runtime) -> float:
    """With both looks: at what there is, and whether all is well."""
    door = NetlinkDataplane()
    networks = {name: Network(name, NetworkKind.MANAGED, vni=100 + n) for n, name in enumerate(_names())}
    began = runtime.monotonic()
    wanted = plan(View(networks, door.look(), ADDRESS, PEERS))
    door.apply_many([change for changes in wanted.changes.values() for change in changes])
    left = plan(View(networks, door.look(), ADDRESS, PEERS))
    seconds = runtime.monotonic() - began
    assert not left.changes and not left.problems, (left.changes, left.problems)
    door.close()
    return seconds


def _batch(runtime: Runtime, processes: Processes) -> float:
    links, entries = [], []
    for number, name in enumerate(_names()):
        bridge, tunnel = f"pvb-{name}", f"pvx-{name}"
        quiet = "type bridge stp_state 0 forward_delay 0 mcast_snooping 0"
        links += [
            f"link add {bridge} group {MARK} {quiet}",
            f"link add {tunnel} group {MARK} type vxlan id {100 + number} local {ADDRESS} dstport 4789 nolearning",
            f"link set {tunnel} mtu 1450 master {bridge} up",
            f"link set {bridge} mtu 1450 up",
        ]
        entries.append(f"link set dev {tunnel} learning off")
        entries += [f"fdb append 00:00:00:00:00:00 dev {tunnel} dst {peer} self permanent" for peer in PEERS.values()]
    began = runtime.monotonic()
    for program, lines in (("ip", links), ("bridge", entries)):
        script = "\n".join(lines)
        processes.check(["sh", "-c", f"{program} -batch - <<'END'\n{script}\nEND"], timeout=PATIENCE)
    return runtime.monotonic() - began


def _names() -> list[str]:
    return [f"n{number}" for number in range(NETWORKS)]


def main(way: str) -> int:
    """Make the devices once, in one of the two ways."""
    runtime, processes = ThreadRuntime(), SystemProcesses()
    _prepare(processes)
    print(json.dumps(_ours(runtime) if way == "ours" else _batch(runtime, processes)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
