"""A whole service on each kind of queue server, and the rights of the documented user."""

import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import pytest
from support import tiny
from support.api import encode, start_api
from support.command import free_port, start_command
from support.queue_servers import PASSWORD, documented_user, one_server
from support.queueing import submit
from support.running import follow
from support.webhooks import SECRET

from jobs.connection import connect
from jobs.consumer import Consumer
from jobs.producer import TooFewReplicas
from jobs.settings import QueueSettings


def wordlight(url: str, *arguments: str, status: int = 0) -> str:
    """Run a command that ends with `status`; return its output."""
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
    """Start a web process and a worker, and use every feature that touches the queue."""
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
        # A job with a webhook that gets no answer: two attempts.
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
        # The follower of a waiting job is woken by a notification.
        waiting_job = client.post(
            "/v1/captions?strategy=greedy", content=second, headers={"Content-Type": "image/jpeg"}
        ).json()
        assert follow(client, f"/v1/captions/{waiting_job['id']}/events")[-1].name == "succeeded"
        # A batch of identical pictures, without a worker.
        assert worker.end() == 0
        batch = client.post("/v1/batches", files=files(third, third, third)).json()
        ids = [job["id"] for job in batch["jobs"]]
        with connect(url) as redis:
            consumer = Consumer(redis, QueueSettings(redis_url=url, takeover_seconds=0.001))
            consumer.sweep()
            entries = [claim.entry for claim in consumer.claim(1)]
            assert consumer.heartbeat(entries) == set(entries)
            consumer.leave(entries)
        assert client.post(f"/v1/captions/{ids[2]}/cancel").json()["status"] == "canceled"
        assert "3 jobs" not in wordlight(url, "jobs", "list")
        assert "0 dead letters" in wordlight(url, "jobs", "dead")
        worker = start_command("worker", WORDLIGHT_MODEL=str(captioner), WORDLIGHT_THREADS="1", **environment)
        for job_id in ids[:2]:
            assert client.get(f"/v1/captions/{job_id}?wait=60").json()["status"] == "succeeded"
        assert client.delete(f"/v1/captions/{ids[0]}").status_code == 204
        assert len(client.get("/v1/captions").json()["jobs"]) == 4
        metrics = wordlight(url, "keys", "create", "meter", "--scope", "metrics").strip()
        answer = client.get("/metrics", headers={"Authorization": f"Bearer {metrics}"}).text
        assert "wordlight_queue_up 1.0" in answer
        assert client.get("/readyz").status_code == 200
    assert worker.end() == 0
    api.end()
    for command in (api, worker):
        assert "Traceback" not in (output := "\n".join(command.lines)), output
        assert PASSWORD not in output


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.every_queue_server
def test_a_whole_service_runs_on_every_queue_server(redis_url: str, tiny_captioner: Path) -> None:
    use_everything(redis_url, tiny_captioner)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_documented_user_has_exactly_the_rights_that_are_used(tiny_captioner: Path, tmp_path: Path) -> None:
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
        # The figures include the commands of the test's own client. None of those is granted.
        used = {name.removeprefix("cmdstat_") for name in node.info("commandstats")}
        granted = set(re.findall(r"\+([a-z|]+)", documented_user()))
        assert granted - used == set()
