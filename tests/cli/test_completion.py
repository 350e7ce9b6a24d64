"""What the shell offers when TAB is pressed."""

import logging

from pvc.cli.application import Application
from pvc.core.config.document import parse
from pvc.core.config.settings import Config
from pvc.core.coordination import Coordinator, Disconnected
from pvc.core.plugins import Plugins
from pvc.core.threads import ThreadRuntime
from tests.cli.conftest import Keyboard


def test_names_of_nodes_and_vms_come_from_the_live_cluster(keyboard: Keyboard) -> None:
    session = keyboard.cluster.ensemble.connect("shell")
    application = Application(
        keyboard.cluster.client_process, parse("node: x\n", "pvc.yaml"), _plugins(), connect=lambda _config: session
    )
    assert application.complete_nodes("hv") == ["hv1", "hv2", "hv3"]
    assert application.complete_vms("vm2") == ["vm2"]


def test_a_cluster_that_does_not_answer_is_asked_briefly_and_offers_nothing() -> None:
    waited: list[float] = []

    def connect(config: Config) -> Coordinator:
        waited.append(config.zookeeper.connect_timeout)
        raise Disconnected("nobody there")

    application = Application(ThreadRuntime(), parse("node: x\n", "pvc.yaml"), _plugins(), connect=connect)
    assert application.complete_nodes("") == []
    assert waited and waited[0] < 2


def _plugins() -> Plugins:
    return Plugins(logging.getLogger("pvc.test"))
