"""The queue on every kind of server that REDIS_URL may name: a user with few rights, TLS, Sentinels, a cluster.

What other files test on a plain server is tested here once more on each of these; and a whole service runs on each.
"""

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import tiny
from command import free_port, start_command
from queue_servers import Node, behind_tls, certificates, cluster, one_server, watched
from queueing import submit
from running import follow
from test_admission import start_api
from test_api import encode
from test_api_keys import *  # noqa: F403
from test_queue import *  # noqa: F403
from test_rate_limits import *  # noqa: F403
from test_webhooks import SECRET

from jobs.connection import connect
from jobs.consumer import Consumer
from jobs.producer import TooFewReplicas
from jobs.settings import QueueSettings

DOCUMENT = Path(__file__).parent.parent / "docs" / "queue-server.md"
PASSWORD = "a-long-password"
_KINDS = ("tls", "sentinel", "tls-sentinel", "cluster", "tls-cluster")
# Commands that the tests alone use, to look at what there is and to make things happen.
_OF_TESTS = ("+ttl", "+scan", "+dump", "+xtrim", "+xgroup|destroy")


def documented_user() -> str:
    """The line for users.acl in the documentation, with a password."""
    (line,) = re.findall(r"^user wordlight .*$", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    return str(line).replace("PASSWORD", PASSWORD)


@dataclass(frozen=True)
class Server:
    """Some kind of queue server: what we are told of it, and all its processes."""

    url: str
    nodes: list[Node]


@pytest.fixture(
    scope="module",
    params=["user", *(pytest.param(kind, marks=pytest.mark.slow) for kind in _KINDS)],
)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp(request.param)
    with ExitStack() as stack:
        made = certificates(folder) if "tls" in request.param else None
        if "cluster" in request.param:
            nodes = stack.enter_context(cluster(folder, tls=made))
            yield Server(nodes.url, nodes.nodes)
        elif "sentinel" in request.param:
            watch = stack.enter_context(watched(folder, tls=made))
            yield Server(watch.url, [watch.primary])
        else:
            users = folder / "users.acl"
            users.write_text(f"{documented_user()} {' '.join(_OF_TESTS)}\n")
            node = stack.enter_context(one_server(folder, "--aclfile", str(users)))
            url = f"redis://wordlight:{PASSWORD}@127.0.0.1:{node.port}/0"
            if made:
                port = stack.enter_context(behind_tls(node.port, made))
                url = f"rediss://wordlight:{PASSWORD}@127.0.0.1:{port}/0{made.query}"
            yield Server(url, [node])


@pytest.fixture
def redis_url(server: Server) -> str:
    """The URL of the server, which is empty."""
    for node in server.nodes:
        node.client.flushall()
    return server.url


def wordlight(url: str, *arguments: str, status: int = 0) -> str:
    """What a command says that ends so."""
    done = subprocess.run(
        [sys.executable, "-m", "wordlight", *arguments],
        env=os.environ | {"REDIS_URL": url},
        capture_output=True,
        text=True,
    )
    assert done.returncode == status, done.stderr
    return done.stdout


def files(*pictures: bytes) -> list[tuple[str, tuple[str, bytes, str]]]:
    return [("images", (f"{number}.jpg", data, "image/jpeg")) for number, data in enumerate(pictures)]


def use_everything(url: str, captioner: Path) -> None:
    """What a service does in its life, with a web process and workers."""
    secret = wordlight(url, "keys", "create", "anna", "--limit", "100/minute").strip()
    wordlight(url, "keys", "create", "anna", status=1)
    wordlight(url, "keys", "create", "otto", "--scope", "metrics")
    wordlight(url, "keys", "revoke", "otto")
    environment = {
        "REDIS_URL": url,
        "WORDLIGHT_REQUIRE_KEYS": "true",
        "WORDLIGHT_MAX_PICTURES": "1",
        "WORDLIGHT_WEBHOOK_SECRET": SECRET,
        "WORDLIGHT_WEBHOOK_RETRY_SECONDS": "0",
        "WORDLIGHT_OUTBOUND_NETWORKS": "127.0.0.0/8",
        "WORDLIGHT_TAKEOVER_SECONDS": "1",
    }
    api, address = start_api(**environment)
    worker = start_command("worker", WORDLIGHT_MODEL=str(captioner), WORDLIGHT_THREADS="1", **environment)
    worker.wait_for_line("on cpu")
    headers = {"Authorization": f"Bearer {secret}"}
    first, second, third = (encode(tiny.picture("red", colour)) for colour in ("green", "blue", "white"))
    with httpx.Client(base_url=address, timeout=90, headers=headers) as client:
        # A job with a webhook where nobody listens: two tries.
        form = {"webhook_url": f"http://127.0.0.1:{free_port()}/"}
        waiting = {"Prefer": "wait=60", "Idempotency-Key": "once"}
        job = client.post("/v1/captions", data=form, files={"image": first}, headers=waiting).json()
        assert job["status"] == "succeeded", job
        assert client.post("/v1/captions", data=form, files={"image": first}, headers=waiting).json()["id"] == job["id"]
        while len(client.get(f"/v1/captions/{job['id']}/deliveries").json()) < 2:
            threading.Event().wait(0.1)
        names = [event.name for event in follow(client, f"/v1/captions/{job['id']}/events")]
        assert [names[0], names[1], names[-1]] == ["queued", "processing", "succeeded"]
        assert client.get(f"/v1/captions/{job['id']}/captions/0/sheet.png").status_code == 200
        # Who follows a job that is yet to come hears of it by a notice.
        asked = client.post(
            "/v1/captions?strategy=greedy", content=second, headers={"Content-Type": "image/jpeg"}
        ).json()
        assert follow(client, f"/v1/captions/{asked['id']}/events")[-1].name == "succeeded"
        # A batch with twins, while there is nobody to work.
        assert worker.end() == 0
        batch = client.post("/v1/batches", files=files(third, third, third)).json()
        ids = [job["id"] for job in batch["jobs"]]
        with connect(url) as redis:
            consumer = Consumer(redis, QueueSettings(redis_url=url, takeover_seconds=0.001))
            consumer.sweep()
            held = [claim.entry for claim in consumer.claim(1)]
            assert consumer.heartbeat(held) == set(held)
            consumer.leave(held)
        assert client.post(f"/v1/captions/{ids[2]}/cancel").json()["status"] == "canceled"
        assert "3 jobs" not in wordlight(url, "jobs", "list")
        assert "0 dead letters" in wordlight(url, "jobs", "dead")
        worker = start_command("worker", WORDLIGHT_MODEL=str(captioner), WORDLIGHT_THREADS="1", **environment)
        for job_id in ids[:2]:
            assert client.get(f"/v1/captions/{job_id}?wait=60").json()["status"] == "succeeded"
        assert client.delete(f"/v1/captions/{ids[0]}").status_code == 204
        assert len(client.get("/v1/captions").json()["jobs"]) == 4
        metrics = wordlight(url, "keys", "create", "meter", "--scope", "metrics").strip()
        told = client.get("/metrics", headers={"Authorization": f"Bearer {metrics}"}).text
        assert "wordlight_queue_up 1.0" in told
        assert client.get("/readyz").status_code == 200
    assert worker.end() == 0
    api.end()
    for command in (api, worker):
        assert "Traceback" not in (said := "\n".join(command.lines)), said
        assert PASSWORD not in said


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_whole_service_runs_on_it(redis_url: str, tiny_captioner: Path) -> None:
    use_everything(redis_url, tiny_captioner)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_documented_user_may_do_all_that_is_needed_and_no_more(tiny_captioner: Path, tmp_path: Path) -> None:
    users = tmp_path / "users.acl"
    users.write_text(documented_user() + "\n")
    with one_server(tmp_path, "--aclfile", str(users)) as node:
        url = f"redis://wordlight:{PASSWORD}@127.0.0.1:{node.port}/1"
        node.client.execute_command("CONFIG RESETSTAT")
        use_everything(url, tiny_captioner)
        with pytest.raises(TooFewReplicas):
            submit(QueueSettings(redis_url=url, replicas=1))
        denied = [entry["object"] for entry in node.client.acl_log()]
        assert denied == []
        # What the administrator has done since is in the figures, too, but is none of these.
        used = {name.removeprefix("cmdstat_") for name in node.info("commandstats")}
        granted = set(re.findall(r"\+([a-z|]+)", documented_user()))
        assert granted - used == set()
