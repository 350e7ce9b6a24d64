"""The plugin in a whole cluster: real daemons on simulated time, and real posts to a server on this machine."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from pvc.testing.commandline import FakeCommandLine
from pvc.testing.pytest_plugin import MakeCluster

from pvc_webhook.cli import add_commands
from pvc_webhook.plugin import WebhookPlugin

# Simulated time begins on Tuesday, 2023-11-14, at 22:13:20 UTC.
OPEN = ["Tue 22:00-23:00"]
CLOSED = ["Wed 01:00-02:00"]


class Receiver:
    """A server that keeps what is posted to it. `ill`: it answers 503 instead."""

    def __init__(self) -> None:
        self.posts: list[dict[str, Any]] = []
        self.tries = 0
        self.ill = False
        receiver = self

        class Answer(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.tries += 1
                if not receiver.ill:
                    receiver.posts.append(json.loads(body))
                self.send_response(503 if receiver.ill else 204)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                """Not on the terminal."""

        self.server = HTTPServer(("127.0.0.1", 0), Answer)
        self.url = f"http://127.0.0.1:{self.server.server_port}/pvc"

    def seen(self) -> list[str]:
        return [f"{post['node']} {post.get('phase') or post['state']}" for post in self.posts]


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    receiver = Receiver()
    thread = threading.Thread(target=receiver.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield receiver
    receiver.server.shutdown()
    thread.join()
    receiver.server.server_close()


def test_a_flush_and_an_unflush_are_posted_from_beginning_to_end(pvc_cluster: MakeCluster, receiver: Receiver) -> None:
    cluster = pvc_cluster(3, plugins=["webhook"], config={"webhook": {"url": receiver.url}})
    cluster.define("web1", "hv1")
    cluster.settle()
    cluster.ask("flush", "hv1", reason="new fan")
    cluster.finish("hv1")
    cluster.run(5)
    assert receiver.seen()[-1] == "hv1 done" or receiver.seen()[-1] == "hv1 flushed"
    assert {"hv1 done", "hv1 flushed"} <= set(receiver.seen())
    done = next(post for post in receiver.posts if post.get("phase") == "done")
    assert (done["event"], done["kind"], done["by"], done["reason"]) == ("operation", "flush", "tester", "new fan")
    assert done["message"] == "hv1 is flushed: 1 VM moved, none left"
    assert len({post["id"] for post in receiver.posts}) == len(receiver.posts)
    cluster.ask("unflush", "hv1")
    cluster.finish("hv1")
    cluster.run(5)
    assert {"hv1 ready"} <= set(receiver.seen())
    assert not any(seen.startswith("hv2") for seen in receiver.seen())


def test_only_what_is_asked_for_is_posted(pvc_cluster: MakeCluster, receiver: Receiver) -> None:
    cluster = pvc_cluster(2, plugins=["webhook"], config={"webhook": {"url": receiver.url, "events": ["node"]}})
    cluster.ask("flush", "hv1")
    cluster.finish("hv1")
    cluster.run(5)
    assert {post["event"] for post in receiver.posts} == {"node"}


def test_a_receiver_that_is_ill_is_asked_more_and_more_seldom_and_gets_all_in_the_end(
    pvc_cluster: MakeCluster, receiver: Receiver
) -> None:
    receiver.ill = True
    cluster = pvc_cluster(2, plugins=["webhook"], config={"webhook": {"url": receiver.url}})
    cluster.ask("flush", "hv1")
    assert cluster.finish("hv1").phase.value == "done"  # nobody waits for the receiver
    cluster.run(120)
    assert 5 <= receiver.tries <= 8  # after 1, 2, 4, 8, 16, 32, 64 s
    assert "answers 503" in cluster.health("hv1")[0].text
    receiver.ill = False
    cluster.run(600)
    assert {"hv1 done", "hv1 flushed"} <= set(receiver.seen())
    assert cluster.health("hv1") == ()


def test_a_restarted_daemon_repeats_nothing_that_had_ended(pvc_cluster: MakeCluster, receiver: Receiver) -> None:
    cluster = pvc_cluster(2, plugins=["webhook"], config={"webhook": {"url": receiver.url}})
    cluster.ask("flush", "hv1")
    cluster.finish("hv1")
    cluster.run(5)
    before = receiver.seen()
    cluster.restart_daemon("hv1")
    cluster.run(60)
    assert receiver.seen() == before


def test_a_queue_that_is_full_drops_the_oldest_and_says_how_many(
    pvc_cluster: MakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pvc_webhook.reporter.QUEUE", 2)
    posts: list[dict[str, Any]] = []
    well = False

    def post(body: bytes) -> None:
        if not well:
            raise OSError("nobody there")
        posts.append(json.loads(body))

    cluster = pvc_cluster(2, plugins={"webhook": lambda: WebhookPlugin(post)})
    for kind in ("flush", "unflush", "flush"):
        cluster.ask(kind, "hv1")
        cluster.finish("hv1")
        cluster.run(5)
    well = True
    cluster.run(600)
    assert 2 <= len(posts) <= 3  # what was being posted is beside the queue
    assert posts[0]["dropped"] > 0
    assert "dropped" not in posts[1]


def test_no_flush_begins_outside_of_the_windows_and_unflushes_always_do(pvc_cluster: MakeCluster) -> None:
    cluster = pvc_cluster(2, plugins=["webhook"], config={"webhook": {"windows": CLOSED}})
    assert "opens Wed 2023-11-15 01:00" in str(cluster.forecast("flush", "hv1").obstacles)
    cluster.ask("flush", "hv1")
    operation = cluster.finish("hv1")
    assert operation.phase.value == "failed"
    assert "outside of the maintenance windows (Wed 01:00-02:00, UTC)" in operation.message
    cluster.ask("unflush", "hv1")
    assert cluster.finish("hv1").phase.value == "done"


def test_a_flush_begins_inside_of_a_window_and_goes_on_when_it_closes(pvc_cluster: MakeCluster) -> None:
    cluster = pvc_cluster(2, plugins=["webhook"], config={"webhook": {"windows": ["Tue 22:00-22:14"]}})
    cluster.define("web1", "hv1", memory=4096)
    cluster.settle()
    cluster.fabric.set_copy_seconds(cluster.vm("web1").uuid, 50.0)
    cluster.ask("flush", "hv1")
    assert cluster.finish("hv1").phase.value == "done"
    assert cluster.world.time > 50.0


def test_the_command_shows_the_windows_of_every_node(pvc_cluster: MakeCluster) -> None:
    cluster = pvc_cluster(2, plugins=["webhook"], config={"webhook": {"windows": OPEN}})
    cli = FakeCommandLine(cluster.client, cluster.client_process)
    add_commands(cli)
    cli.run("window show")
    assert [(row["node"], row["windows"], row["open"], row["opens"]) for row in cli.rows] == [
        ("hv1", OPEN, True, None),
        ("hv2", OPEN, True, None),
    ]
    cluster.run(3600)
    cli.run("window show", node="hv1")
    assert [(row["open"], row["opens"]) for row in cli.rows] == [(False, 1_700_604_000.0)]


@pytest.mark.parametrize(
    "section",
    [{"url": "ftp://x"}, {"windows": ["nights"]}, {"timezone": "Europe/Atlantis"}, {"events": ["everything"]}],
)
def test_a_section_that_cannot_be_used_is_refused(pvc_cluster: MakeCluster, section: dict[str, Any]) -> None:
    from pvc.core.config.problems import ConfigError

    with pytest.raises(ConfigError, match="webhook"):
        pvc_cluster(1, plugins=["webhook"], config={"webhook": section})
