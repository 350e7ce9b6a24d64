"""Third-party plugins that misbehave, in a whole cluster: the node stays in service, and people are told."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from pvc.core import keys
from pvc.core.context import Context
from pvc.core.coordination import Op, Put
from pvc.core.declaration import API, Declaration
from pvc.core.hookspecs import hookimpl
from pvc.core.model import Finding, Operation, Phase, Severity
from pvc.core.observers import VmEvent
from pvc.core.pluginreports import FIGURES, SELDOM, read_reports
from pvc.core.plugins import ANSWERS_WITHIN, Plugins
from pvc.core.pluginstatus import PluginReport, PluginState
from pvc.core.threads import ThreadRuntime
from pvc.core.turns import Entered
from pvc.testing.cluster import SimCluster
from pvc.testing.coordinator import FakeEnsemble
from tests.core.test_plugins import EVENT, Part, saying, surroundings


@contextmanager
def cluster_with(*made: Callable[[], object], nodes: int = 2) -> Iterator[SimCluster]:
    """A cluster whose nodes have these plugins, named lamp, lamp2 ..."""
    names = [f"lamp{number or ''}" for number in range(len(made))]
    with SimCluster(
        nodes,
        plugins=("flushlock", *names),
        ready=lambda _node: {name: make() for name, make in zip(names, made, strict=True)},
    ) as cluster:
        cluster.start()
        cluster.define("web1", "hv1")
        cluster.settle()
        yield cluster


def report(cluster: SimCluster, name: str = "lamp", node: str = "hv1") -> PluginReport:
    reports = read_reports(cluster.client, node)
    assert reports is not None
    return next(report for report in reports.plugins if report.name == name)


def texts(cluster: SimCluster, node: str = "hv1") -> str:
    return "\n".join(f"{f.source}: {f.severity.value}: {f.text}" for f in cluster.health(node))


def flush(cluster: SimCluster, node: str = "hv1") -> Operation:
    cluster.ask("flush", node)
    return cluster.finish(node)


class Rude(BaseException):
    """Not even an Exception."""


class Gate(Part):
    """An open gate; `wrong` is what one of its methods does instead."""

    def __init__(self, **wrong: Any) -> None:
        super().__init__("lamp")
        self.left = 0
        for name, answer in wrong.items():
            setattr(self, name, lambda _operation, answer=answer: _done(answer))

    def recover(self) -> None:
        """From now on it is open."""
        del self.enter

    def guard(self, operation: Operation) -> Sequence[Any]:
        return []

    def leave(self, operation: Operation) -> None:
        self.left += 1


def _done(answer: Any) -> Any:
    if isinstance(answer, BaseException):
        raise answer
    return answer


# What a hook raises.


@pytest.mark.parametrize("error", [ValueError("no bulb"), SystemExit(3), KeyboardInterrupt(), Rude("no bulb")])
def test_whatever_a_hook_raises_stays_with_its_plugin_and_is_shown(error: BaseException) -> None:
    with cluster_with(lambda: saying("pvc_node_facts", error)) as cluster:
        cluster.run(60)
        assert "plugin lamp: warning: failed in pvc_node_facts: " in texts(cluster)
        told = report(cluster)
        assert (told.state, told.failures > 1) == (PluginState.LOADED, True)
        assert told.last_error.startswith("pvc_node_facts: ")
        assert told.last_error_at is not None
        assert flush(cluster).phase is Phase.DONE


@pytest.mark.parametrize("error", [ValueError("no bulb"), SystemExit(3), Rude("no bulb")])
def test_whatever_a_service_raises_is_tried_again_and_shown_with_its_plugin(error: BaseException) -> None:
    class Failing(Part):
        def step(self) -> float:
            raise error

    class Plugin:
        @hookimpl
        def pvc_services(self, context: Context) -> Sequence[Any]:
            return [Failing("lamp", wake=context.runtime.signal())]

    with cluster_with(Plugin) as cluster:
        cluster.run(60)
        (service,) = report(cluster).services
        assert (service.name, service.state) == ("lamp", "failing")
        assert service.failures > 1
        assert "service lamp: warning: failed" in texts(cluster)


def test_a_finding_of_a_failing_plugin_does_not_change_each_time_it_fails_again() -> None:
    with cluster_with(lambda: saying("pvc_health", ValueError("no bulb"))) as cluster:
        cluster.run(30)
        written: list[str] = []
        cluster.on_commit(lambda _session, ops, _made: written.extend(op.path for op in ops))
        cluster.run(60)
        assert [path for path in written if path.endswith("/facts")] == []
        assert sum("failed in pvc_health" in line for line in cluster.log.lines) == 2  # once for each node


def test_a_hook_that_answers_again_is_no_finding_any_more_and_its_failures_stay_counted() -> None:
    answers: list[Any] = [ValueError("no bulb")] * 2

    class Plugin:
        @hookimpl
        def pvc_health(self) -> Sequence[Finding]:
            found: Sequence[Finding] = _done(answers.pop() if answers else [])
            return found

    with cluster_with(Plugin, nodes=1) as cluster:
        cluster.run(60)
        assert cluster.health("hv1") == ()
        assert (report(cluster).failures, report(cluster).last_error) == (2, "pvc_health: no bulb")


# What does not return.


class Hanging:
    """Its health hook does not return as long as `hangs`."""

    def __init__(self) -> None:
        self.asked = 0
        self.hangs = False

    @hookimpl
    def pvc_health(self, context: Context) -> Sequence[Finding]:
        self.asked += self.hangs
        while self.hangs:
            context.runtime.sleep(1.0)
        return []

    @hookimpl
    def pvc_node_facts(self) -> Mapping[str, Any]:
        return {"lamp": "on"}


def test_a_hook_that_hangs_is_given_up_and_its_plugin_not_asked_until_it_returns() -> None:
    plugin = Hanging()
    with cluster_with(lambda: plugin, nodes=1) as cluster:
        plugin.hangs = True
        assert cluster.run_until(lambda: "does not return from pvc_health" in texts(cluster), 60)
        cluster.run(SELDOM * 2)
        assert report(cluster).state is PluginState.STUCK
        assert plugin.asked == 1
        assert report(cluster).hooks["pvc_health"].longest == ANSWERS_WITHIN
        cluster.define("web2", "hv1")
        cluster.settle()  # all else goes on
        calls = report(cluster).hooks["pvc_health"].calls
        plugin.hangs = False
        cluster.run(SELDOM * 2)
        assert report(cluster).state.value == "loaded"
        assert cluster.health("hv1") == ()
        assert report(cluster).hooks["pvc_health"].calls > calls
        assert any("has returned from pvc_health, too late" in line for line in cluster.log.lines)


def test_a_hook_that_hangs_at_the_start_does_not_keep_the_daemon_from_starting() -> None:
    class Plugin:
        @hookimpl
        def pvc_services(self, context: Context) -> Sequence[Any]:
            context.runtime.signal().wait(None)
            return []

    with cluster_with(Plugin, nodes=1) as cluster:
        cluster.run(60)
        assert report(cluster).state is PluginState.STUCK
        assert "does not return from pvc_services" in texts(cluster)


def test_a_hook_that_hangs_is_given_up_on_real_threads_as_well() -> None:
    runtime = ThreadRuntime()
    go_on = runtime.signal()

    class Plugin:
        @hookimpl
        def pvc_vm_observers(self) -> Sequence[Any]:
            return [self]

        def vm_changed(self, event: VmEvent) -> None:
            go_on.wait(30.0)

    plugins = Plugins(logging.getLogger("test"))
    plugins.load(["lamp"], {"lamp": Plugin()})
    quick = _Impatient(runtime)
    context = surroundings(plugins)
    plugins.bind(
        Context(
            **{
                **{name: getattr(context, name) for name in Context.__dataclass_fields__},
                "runtime": quick,
                "coordinator": FakeEnsemble(runtime).connect("x"),
            }
        )
    )
    quick.hurry = True
    plugins.vm_changed(EVENT)
    (status,) = plugins.status()
    assert status.stuck
    go_on.set()
    assert quick.task.join(10.0)
    assert not status.stuck


class _Impatient(ThreadRuntime):
    """Real threads, but whoever waits for a call waits a hundredth of a second at most."""

    def __init__(self, real: ThreadRuntime) -> None:
        self._real = real
        self.hurry = False

    def signal(self) -> Any:
        signal = self._real.signal()
        return _ImpatientSignal(signal) if self.hurry else signal

    def spawn(self, name: str, work: Callable[[], None]) -> Any:
        self.task = self._real.spawn(name, work)
        return self.task


@dataclass
class _ImpatientSignal:
    signal: Any

    def set(self) -> None:
        self.signal.set()

    def wait(self, timeout: float | None) -> bool:
        return bool(self.signal.wait(0.01))


def test_a_service_that_does_not_come_back_from_its_step_is_a_finding() -> None:
    class Sleeping(Part):
        def step(self) -> float:
            self.wake.wait(None)
            return 1.0

    class Plugin:
        @hookimpl
        def pvc_services(self, context: Context) -> Sequence[Any]:
            return [Sleeping("lamp", wake=context.runtime.signal())]

    with cluster_with(Plugin, nodes=1) as cluster:
        cluster.run(30)
        assert texts(cluster) == ""
        cluster.run(60)
        assert "service lamp: warning: does not come back from its step" in texts(cluster)


# What cannot be loaded.


@pytest.mark.parametrize(
    ("declaration", "why"),
    [
        (Declaration(api=API + 1), f"it needs hooks version {API + 1}, this pvc has {API}; update pvc"),
        (Declaration(api=0), f"it was written for hooks version 0, this pvc takes 1 to {API}; update it"),
        ({"api": 1}, "does not return a Declaration"),
        (Declaration(api="1"), "does not return a Declaration"),  # type: ignore[arg-type]  # what is tested
        (Declaration(needs="flushlock"), "needs='flushlock'; write a tuple of names"),  # type: ignore[arg-type]
        (Declaration(conflicts=None), "conflicts=None; write a tuple of names"),  # type: ignore[arg-type]
        (Declaration(summary=b"light"), "summary=b'light'; write text"),  # type: ignore[arg-type]
    ],
)
def test_a_plugin_for_other_hooks_is_left_out_and_told_what_to_do(declaration: object, why: str) -> None:
    with cluster_with(lambda: saying("pvc_declaration", declaration)) as cluster:
        cluster.run(30)
        assert report(cluster).state is PluginState.LEFT_OUT
        assert why in report(cluster).last_error
        assert "plugin lamp: critical: is left out: " in texts(cluster)
        assert why in texts(cluster)
        assert "lamp" not in cluster.node("hv1").plugins


def _exits(*_: object) -> None:
    raise SystemExit(3)


FAULTY_SCHEMAS: list[object] = [
    {"most": {"type": "no such type"}},
    {"most": 7},
    ["most"],
    {"most": {"type": "string", "default": 7}},
    {"most": {"type": "dict", "schema": {"light": {"type": "integer", "default": "much"}}}},
    {"most": {"default": "hunter2", "meta": {"secret": True}}},
    {"most": {"type": "string", "default": "x", "coerce": _exits}},
    {"most": {"type": "string", "default": "x", "check_with": _exits}},
]


@pytest.mark.parametrize("schema", [*FAULTY_SCHEMAS, None])
def test_a_plugin_with_a_faulty_schema_is_left_out_and_its_section_not_read(schema: object) -> None:
    with SimCluster(
        {"hv1": {"lamp": {"most": "anything"}}},
        plugins=("lamp",),
        ready=lambda _node: {"lamp": saying("pvc_config_schema", schema)},
    ) as cluster:
        cluster.start()
        cluster.run(30)
        left_out = report(cluster).state is PluginState.LEFT_OUT
        assert left_out == (schema is not None)  # None: it has no section
        assert ("plugin lamp: critical: is left out" in texts(cluster)) == left_out


def test_a_node_refuses_flushes_while_a_plugin_is_left_out_and_says_which_and_what_to_do() -> None:
    with cluster_with(lambda: saying("pvc_declaration", Declaration(api=99))) as cluster:
        forecast = cluster.forecast("flush", "hv1")
        assert "plugin lamp is switched on and cannot take part" in str(forecast.obstacles)
        operation = flush(cluster)
        assert operation.phase is Phase.FAILED
        assert "set plugins.lamp: false, and restart pvcd" in operation.message
        assert cluster.where() == {"web1": "hv1"}
        assert "this node's flushes are refused" in texts(cluster)


@pytest.mark.parametrize("hook", ["pvc_flush_gates", "pvc_flush_steps"])
@pytest.mark.parametrize("answer", [ValueError("no bulb"), SystemExit(1), "text", [object()]])
def test_a_node_whose_gates_or_steps_are_missing_stays_in_service_and_refuses_flushes(
    hook: str, answer: object
) -> None:
    with cluster_with(lambda: saying(hook, answer)) as cluster:
        operation = flush(cluster)
        assert operation.phase is Phase.FAILED
        assert f"plugin lamp is switched on and cannot take part: {hook}" in operation.message
        cluster.define("web2", "hv1")
        cluster.settle()


# Names that are taken.


def test_a_service_of_a_name_that_is_taken_is_left_out_and_both_owners_are_named() -> None:
    with cluster_with(
        lambda: saying("pvc_services", [Part("facts")]), lambda: saying("pvc_services", [Part("vms")])
    ) as cluster:
        cluster.run(30)
        assert (
            "plugin lamp: warning: failed in pvc_services: the name facts of a part of it is taken by pvc itself"
            in (texts(cluster))
        )
        assert "the name vms of a part of it is taken by plugin hypervisor" in texts(cluster)
        assert flush(cluster).phase is Phase.DONE


@pytest.mark.parametrize(("hook", "name"), [("pvc_flush_gates", "flushlock"), ("pvc_flush_steps", "vms")])
def test_a_gate_or_step_of_a_name_that_is_taken_has_flushes_refused(hook: str, name: str) -> None:
    with cluster_with(lambda: saying(hook, [Part(name)])) as cluster:
        operation = flush(cluster)
        assert operation.phase is Phase.FAILED
        assert f"the name {name} of a part of it is taken by plugin" in operation.message


def test_services_that_wait_for_each_other_in_a_circle_cost_their_plugin_only() -> None:
    circle = [Part("a", ("b",)), Part("b", ("a",))]
    with cluster_with(lambda: saying("pvc_services", circle)) as cluster:
        cluster.run(30)
        assert "circle" in texts(cluster)
        assert flush(cluster).phase is Phase.DONE


# Gates that fail.


@pytest.mark.parametrize("answer", [ValueError("no bulb"), SystemExit(1), None, "entered"])
def test_a_gate_that_fails_is_closed_and_the_flush_says_why_and_goes_on_when_it_is_better(answer: object) -> None:
    gate = Gate(enter=answer)
    with cluster_with(lambda: saying("pvc_flush_gates", [gate]), nodes=2) as cluster:
        cluster.ask("flush", "hv1")
        cluster.run(20)
        operation = cluster.operation("hv1")
        assert operation.phase is Phase.QUEUED
        assert "plugin lamp failed: its gate lamp, asked to enter: " in operation.waiting
        assert cluster.where() == {"web1": "hv1"}
        assert "failed in gate lamp: enter" in texts(cluster)
        gate.recover()
        assert cluster.finish("hv1").phase is Phase.DONE
        cluster.run(30)
        assert texts(cluster) == ""


def test_a_gate_that_fails_lets_the_deadline_of_the_flush_count() -> None:
    with cluster_with(lambda: saying("pvc_flush_gates", [Gate(enter=ValueError("no bulb"))])) as cluster:
        cluster.ask("flush", "hv1", deadline=cluster.client_process.now() + 30.0)
        operation = cluster.finish("hv1", 60)
        assert "its deadline passed before its turn came" in operation.message
        assert "no bulb" in operation.message


@pytest.mark.parametrize("answer", [ValueError("no bulb"), [Entered()], 7])
def test_nothing_moves_without_the_guard_of_a_gate(answer: object) -> None:
    with cluster_with(lambda: saying("pvc_flush_gates", [Gate(guard=answer)])) as cluster:
        cluster.ask("flush", "hv1")
        cluster.run(60)
        assert cluster.where() == {"web1": "hv1"}
        assert "its gate lamp, asked to guard" in texts(cluster)


def test_a_gate_that_cannot_be_left_holds_up_nobody() -> None:
    gate = Gate(leave=ValueError("no bulb"))
    with cluster_with(lambda: saying("pvc_flush_gates", [gate])) as cluster:
        assert flush(cluster).phase is Phase.DONE
        cluster.ask("unflush", "hv1")
        assert cluster.finish("hv1").phase is Phase.DONE
        assert "failed in gate lamp: leave" in texts(cluster)


# What is published.


def test_a_report_is_written_when_something_has_happened_and_seldom_otherwise() -> None:
    with cluster_with(lambda: saying("pvc_node_facts", {"lamp": "on"}), nodes=1) as cluster:
        written: list[float] = []

        def note(_session: str, ops: Sequence[Op], _made: tuple[str, ...]) -> None:
            written.extend(cluster.world.time for op in ops if isinstance(op, Put) and op.path.endswith("/plugins"))

        cluster.run(SELDOM)
        assert report(cluster).hooks["pvc_node_facts"].calls > 0
        cluster.on_commit(note)
        cluster.run(FIGURES - 2 * SELDOM)
        assert written == []
        cluster.run(3 * SELDOM)
        assert len(written) == 1


def test_a_report_names_origin_version_summary_and_services() -> None:
    with cluster_with(
        lambda: saying("pvc_declaration", Declaration(summary="light", needs=("hypervisor",)))
    ) as cluster:
        cluster.run(30)
        told = report(cluster)
        assert (told.entry_point, told.summary, told.needs, told.api) == ("given", "light", ("hypervisor",), 1)
        hypervisor = report(cluster, "hypervisor")
        assert hypervisor.built_in
        services = sorted((service.name, service.state) for service in hypervisor.services)
        assert services == [("secrets", "running"), ("vms", "running")]


def test_a_very_long_error_is_cut() -> None:
    with cluster_with(lambda: saying("pvc_health", ValueError("x" * 5000)), nodes=1) as cluster:
        cluster.run(30)
        znode = cluster.client.get(keys.node_plugins("hv1"))
        assert znode is not None
        assert len(znode.data) < 4000


def test_the_findings_of_a_plugin_that_is_well_are_none() -> None:
    with cluster_with(lambda: saying("pvc_health", [Finding("lamp", Severity.OK, "fine")]), nodes=1) as cluster:
        cluster.run(30)
        assert texts(cluster) == "lamp: ok: fine"
