"""Web process, queue server and worker on three hosts. The link of each is cut and restored while jobs run."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from redis import Redis
from support.command import start_command
from support.namespaces import Network, NoNamespaces
from support.restartable_valkey import RestartableValkey
from support.workers import JPEG, PICTURES

from jobs import keys

pytestmark = pytest.mark.slow


@pytest.fixture
def network() -> Iterator[Network]:
    try:
        net = Network("app", "queue", "worker", "client")
    except NoNamespaces as error:
        pytest.skip(f"NO NAMESPACES: cut links were not tested (needs root and iproute2): {error}")
    yield net
    net.close()


@pytest.mark.parametrize("cut", ["app", "queue", "worker"])
def test_no_job_is_lost_when_a_link_is_cut_and_restored(
    network: Network, cut: str, slow_captioner: Path, tmp_path: Path
) -> None:
    queue = RestartableValkey(tmp_path, network.address("queue"), network.command("queue"))
    network.on("client", queue.start)
    settings = {"REDIS_URL": queue.url, "WORDLIGHT_TAKEOVER_SECONDS": "2"}
    made = start_command("keys", "create", "tester", prefix=network.command("app"), **settings)
    assert made.process.wait(60) == 0
    secret = next(word for line in made.lines for word in line.split() if word.startswith("wl_"))
    worker = start_command(
        "worker",
        prefix=network.command("worker"),
        WORDLIGHT_MODEL=str(slow_captioner),
        WORDLIGHT_THREADS="1",
        WORDLIGHT_BATCH_SIZE="2",
        **settings,
    )
    app = start_command("api", prefix=network.command("app"), WORDLIGHT_HOST=network.address("app"), **settings)
    worker.wait_for_line("on cpu")
    app.wait_for_line("startup complete")
    client = httpx.Client(
        base_url=f"http://{network.address('app')}:8000",
        headers=JPEG | {"Authorization": f"Bearer {secret}"},
        timeout=60,
    )
    path = "/v1/captions?beam_size=20&max_words=100"
    accepted = []
    for number in range(12):
        data = PICTURES[number % len(PICTURES)] + bytes(number)
        answer = network.on("client", lambda data=data: client.post(path, content=data))
        assert answer.status_code == 202, answer.text
        accepted.append(answer.json()["id"])

    network.unplug(cut)
    if cut == "queue":
        answer = network.on("client", lambda: client.post(path, content=PICTURES[0]))
        assert answer.status_code == 503, answer.text
    elif cut == "app":
        with pytest.raises(httpx.TransportError):
            network.on("client", lambda: client.get(f"/v1/captions/{accepted[0]}", timeout=3))
    else:
        # Wait longer than the takeover time: then /readyz reports that there is no worker.
        answer = network.on("client", lambda: client.get("/readyz"))
        while answer.status_code != 503:
            answer = network.on("client", lambda: client.get(f"/v1/captions/{accepted[-1]}?wait=1"))
            answer = network.on("client", lambda: client.get("/readyz"))
    network.plug_in(cut)

    for job_id in accepted:
        status = ""
        while status not in ("succeeded", "failed", "canceled", "expired"):
            try:
                answer = network.on("client", lambda job_id=job_id: client.get(f"/v1/captions/{job_id}?wait=30"))
            except httpx.TransportError:
                continue  # the link is not up yet
            status = answer.json()["status"]
            assert answer.status_code == 503 or status in ("queued", "processing", "succeeded")
    with Redis.from_url(queue.url) as redis:
        for job_id in accepted:
            rows = network.on("client", lambda job_id=job_id: redis.xrange(keys.events(job_id)))
            assert Counter(fields[b"event"] for _, fields in rows)[b"succeeded"] == 1
        assert network.on("client", lambda: redis.zcard(keys.ACTIVE)) == 0
    client.close()
    assert worker.end() == 0
    app.end()
    queue.kill()
