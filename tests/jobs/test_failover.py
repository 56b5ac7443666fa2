"""A primary dies and another server takes its place: what was accepted, as far as that was promised, is still done.

Real Sentinels, real clusters, real processes of ours, and kill -9.
"""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
import tiny
from command import Command
from queue_servers import Certificates, Cluster, Node, Watched, certificates, cluster, wait_until, watched
from queueing import history
from redis.exceptions import RedisError
from running import follow
from test_admission import start_api
from test_api import encode
from test_worker import start_worker, wait_until_ended

from jobs import keys
from jobs.settings import QueueSettings

JPEG = {"Content-Type": "image/jpeg"}
_TAKEN_IN = {202, 200}  # over, even, before it was answered: a worker may be quicker than the wait for a replica
PICTURES = [encode(tiny.picture(top, bottom)) for top in tiny.COLOURS for bottom in tiny.COLOURS if top != bottom]


@pytest.fixture(params=[False, True], ids=["plain", "tls"])
def tls(request: pytest.FixtureRequest, tmp_path: Path) -> Certificates | None:
    """What clients, web processes and workers too, need to be let in; None where nothing is needed."""
    return certificates(tmp_path) if request.param else None


@pytest.fixture
def sentinels(tls: Certificates | None, tmp_path: Path) -> Iterator[Watched]:
    with watched(tmp_path, tls=tls) as found:
        yield found


@pytest.fixture
def nodes(tls: Certificates | None, tmp_path: Path) -> Iterator[Cluster]:
    with cluster(tmp_path, replicas=True, tls=tls) as found:
        yield found


def send_until(client: httpx.Client, done: threading.Event) -> tuple[list[str], Counter[int]]:
    """Send pictures until told to stop; returns what was accepted, and how often which status was answered."""
    accepted, answers = [], Counter[int]()
    number = 0
    while not done.is_set():
        # Different options, so that none is answered by another's run.
        body, words = PICTURES[number % len(PICTURES)], number // len(PICTURES) % 100 + 1
        answer = client.post(f"/v1/captions?max_words={words}", content=body, headers=JPEG)
        number += 1
        answers[answer.status_code] += 1
        if answer.status_code in _TAKEN_IN:
            accepted.append(answer.json()["id"])
    return accepted, answers


def accepted_again(client: httpx.Client, beam_size: int) -> str:
    """The id of the next picture that is taken in, which may take a while; no other asks for that beam size."""
    while True:
        answer = client.post(f"/v1/captions?beam_size={beam_size}", content=PICTURES[0], headers=JPEG)
        if answer.status_code in _TAKEN_IN:
            return str(answer.json()["id"])
        assert (answer.status_code, answer.json()["type"]) == (503, "urn:wordlight:problem:queue-unreachable")


def assert_nothing_broke(*commands: Command) -> None:
    for command in commands:
        command.end()
        assert "Traceback" not in (said := "\n".join(command.lines)), said


def assert_all_succeed_once(settings: QueueSettings, job_ids: list[str]) -> None:
    wait_until_ended(settings, job_ids)
    for job_id in job_ids:
        names = Counter(history(settings, job_id))
        assert names["succeeded"] == 1, names


def submitted(node: Node) -> int:
    """How many jobs were taken in."""
    return int(node.client.hget(keys.COUNTS, "jobs_submitted") or 0)


def ask_to_take_over(replica: Node) -> None:
    """The others vote on it within a second or so, or never: then it is to be asked again."""
    with suppress(RedisError):  # it has taken over meanwhile
        replica.client.execute_command("CLUSTER FAILOVER")
    deadline = time.monotonic() + 6
    while time.monotonic() < deadline and replica.client.info("replication")["role"] != "master":
        threading.Event().wait(0.05)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_no_job_that_a_replica_had_is_lost_when_the_primary_dies(sentinels: Watched, tiny_captioner: Path) -> None:
    settings = QueueSettings(redis_url=sentinels.url)
    worker = start_worker(settings, tiny_captioner)
    worker.wait_for_line("on cpu", timeout=120)
    api, url = start_api(REDIS_URL=sentinels.url, WORDLIGHT_REPLICAS="1", WORDLIGHT_MAX_JOBS="100000")
    done = threading.Event()
    with httpx.Client(base_url=url, timeout=60) as client, ThreadPoolExecutor() as threads:
        before = accepted_again(client, 7)
        sending = threads.submit(send_until, client, done)
        try:
            wait_until(lambda: submitted(sentinels.primary) > 20)
            sentinels.primary.kill()
            wait_until(lambda: sentinels.primary_door() != sentinels.primary.door)
            after = accepted_again(client, 8)
        finally:
            done.set()
        accepted, answers = sending.result()
        assert answers[503] > 0
        assert set(answers) <= _TAKEN_IN | {503}
        assert_all_succeed_once(settings, [before, *accepted, after])
        # Who listens has found the new primary, too: words and ends are heard of.
        assert follow(client, f"/v1/captions/{after}/events")[-1].name == "succeeded"
    assert_nothing_broke(worker, api)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_replica_in_a_cluster_takes_over_with_all_that_waits(nodes: Cluster, tiny_captioner: Path) -> None:
    settings = QueueSettings(redis_url=nodes.url)
    api, url = start_api(REDIS_URL=nodes.url, WORDLIGHT_REPLICAS="1")
    with httpx.Client(base_url=url, timeout=60) as client:
        waiting = [client.post("/v1/captions", content=body, headers=JPEG).json()["id"] for body in PICTURES]
        owner = nodes.owner()
        owner.kill()
        # From now on there is no replica left to wait for: without that wish, all goes on.
        again, other = start_api(REDIS_URL=nodes.url)
        with httpx.Client(base_url=other, timeout=60) as second:
            after = accepted_again(second, 8)
            assert nodes.owner() is not owner
            worker = start_worker(settings, tiny_captioner)
            assert_all_succeed_once(settings, [*waiting, after])
            assert follow(client, f"/v1/captions/{waiting[0]}/events")[-1].name == "succeeded"
            assert client.post("/v1/captions?max_words=3", content=PICTURES[0], headers=JPEG).status_code == 503
    assert_nothing_broke(worker, again, api)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_slot_that_moves_to_another_node_is_followed(nodes: Cluster, tiny_captioner: Path) -> None:
    settings = QueueSettings(redis_url=nodes.url)
    worker = start_worker(settings, tiny_captioner)
    worker.wait_for_line("on cpu", timeout=120)
    api, url = start_api(REDIS_URL=nodes.url)
    with httpx.Client(base_url=url, timeout=60) as client:
        before = accepted_again(client, 7)
        wait_until_ended(settings, [before])
        # The replica asks its primary, which lives, to change places: nothing is lost, and old connections stay open.
        owner = nodes.owner()
        replica = nodes.nodes[nodes.nodes.index(owner) + 3]
        while nodes.owner() is not replica:
            ask_to_take_over(replica)
        after = accepted_again(client, 8)
        assert_all_succeed_once(settings, [before, after])
        assert follow(client, f"/v1/captions/{after}/events")[-1].name == "succeeded"
    assert_nothing_broke(worker, api)
