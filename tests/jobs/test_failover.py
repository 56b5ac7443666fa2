"""Sentinel failover with real processes: jobs that a replica has end exactly once, on the new primary."""

import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from support.api import start_api
from support.command import Command
from support.queue_servers import Certificates, Node, SentinelGroup, certificates, sentinel_group, wait_until
from support.queueing import history
from support.running import follow
from support.workers import JPEG, PICTURES, start_worker, wait_until_ended

from jobs import keys
from jobs.settings import QueueSettings

_ACCEPTED = {202, 200}  # 200: the job ended while the web process waited for a replica


@pytest.fixture(params=[False, True], ids=["plain", "tls"])
def tls(request: pytest.FixtureRequest, tmp_path: Path) -> Certificates | None:
    """The certificates for queue servers with TLS; None without TLS."""
    return certificates(tmp_path) if request.param else None


@pytest.fixture
def sentinels(tls: Certificates | None, tmp_path: Path) -> Iterator[SentinelGroup]:
    with sentinel_group(tmp_path, tls=tls) as group:
        yield group


def send_until(client: httpx.Client, done: threading.Event) -> tuple[list[str], Counter[int]]:
    """Send pictures until `done` is set. Return the ids of accepted jobs and the count of each status."""
    accepted, answers = [], Counter[int]()
    number = 0
    while not done.is_set():
        # Different options, so that no job gets the result of another.
        body, words = PICTURES[number % len(PICTURES)], number // len(PICTURES) % 100 + 1
        answer = client.post(f"/v1/captions?max_words={words}", content=body, headers=JPEG)
        number += 1
        answers[answer.status_code] += 1
        if answer.status_code in _ACCEPTED:
            accepted.append(answer.json()["id"])
    return accepted, answers


def submit_until_accepted(client: httpx.Client, beam_size: int) -> str:
    """Send a picture until it is accepted; return the job's id. `beam_size` makes it differ from other jobs."""
    while True:
        answer = client.post(f"/v1/captions?beam_size={beam_size}", content=PICTURES[0], headers=JPEG)
        if answer.status_code in _ACCEPTED:
            return str(answer.json()["id"])
        assert (answer.status_code, answer.json()["type"]) == (503, "urn:wordlight:problem:queue-unreachable")


def assert_no_tracebacks(*commands: Command) -> None:
    for command in commands:
        command.end()
        assert "Traceback" not in (output := "\n".join(command.lines)), output


def assert_all_succeed_once(settings: QueueSettings, job_ids: list[str]) -> None:
    wait_until_ended(settings, job_ids)
    for job_id in job_ids:
        names = Counter(history(settings, job_id))
        assert names["succeeded"] == 1, names


def submitted(node: Node) -> int:
    """Return the number of accepted jobs."""
    return int(node.client.hget(keys.COUNTS, "jobs_submitted") or 0)


def replicas_are_healthy(group: SentinelGroup) -> bool:
    """Whether a Sentinel would promote one of the replicas."""
    replicas = group.sentinels[0].client.execute_command("SENTINEL SLAVES", "queue")
    return all(state["flags"] == {"slave"} or state["flags"] == "slave" for state in replicas)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_no_replicated_job_is_lost_when_the_primary_dies(sentinels: SentinelGroup, tiny_captioner: Path) -> None:
    settings = QueueSettings(redis_url=sentinels.url)
    worker = start_worker(settings, tiny_captioner)
    worker.wait_for_line("on cpu", timeout=120)
    api, url = start_api(REDIS_URL=sentinels.url, WORDLIGHT_REPLICAS="1", WORDLIGHT_MAX_JOBS="100000")
    done = threading.Event()
    with httpx.Client(base_url=url, timeout=60) as client, ThreadPoolExecutor() as threads:
        before = submit_until_accepted(client, 7)
        sending = threads.submit(send_until, client, done)
        try:
            wait_until(lambda: submitted(sentinels.primary) > 20)
            sentinels.primary.kill()
            wait_until(lambda: sentinels.announced_port() != sentinels.primary.public_port)
            after = submit_until_accepted(client, 8)
        finally:
            done.set()
        accepted, answers = sending.result()
        assert answers[503] > 0
        assert set(answers) <= _ACCEPTED | {503}
        assert_all_succeed_once(settings, [before, *accepted, after])
        # The listener for notifications has found the new primary too.
        assert follow(client, f"/v1/captions/{after}/events")[-1].name == "succeeded"
    assert_no_tracebacks(worker, api)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_clients_follow_a_planned_failover(sentinels: SentinelGroup, tiny_captioner: Path) -> None:
    settings = QueueSettings(redis_url=sentinels.url)
    worker = start_worker(settings, tiny_captioner)
    worker.wait_for_line("on cpu", timeout=120)
    api, url = start_api(REDIS_URL=sentinels.url)
    with httpx.Client(base_url=url, timeout=60) as client:
        before = submit_until_accepted(client, 7)
        wait_until_ended(settings, [before])
        # The old primary stays alive and becomes a replica.
        wait_until(lambda: replicas_are_healthy(sentinels))
        sentinels.sentinels[0].client.execute_command("SENTINEL FAILOVER", "queue")
        wait_until(lambda: sentinels.primary.info("replication")["role"] == "slave")
        after = submit_until_accepted(client, 8)
        assert_all_succeed_once(settings, [before, after])
        assert follow(client, f"/v1/captions/{after}/events")[-1].name == "succeeded"
    assert_no_tracebacks(worker, api)
