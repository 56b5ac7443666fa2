"""The health checks of containers: a web process that requires keys, and a worker."""

import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from redis import Redis
from support.command import free_port, start_command
from support.running import running

from jobs import keys

FORWARDED_FOR = {"X-Forwarded-For": "203.0.113.9"}


def probe(module: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)


def test_a_web_process_that_requires_keys_can_be_probed(redis_url: str) -> None:
    port = str(free_port())
    assert probe("app.probe", WORDLIGHT_PORT=port).returncode == 1
    api = start_command("api", REDIS_URL=redis_url, WORDLIGHT_HOST="0.0.0.0", WORDLIGHT_PORT=port)
    api.wait_for_line("startup complete")
    for host in ("0.0.0.0", "127.0.0.1", ""):
        assert probe("app.probe", WORDLIGHT_HOST=host, WORDLIGHT_PORT=port).returncode == 0
    unready = probe("app.probe", "/readyz", WORDLIGHT_PORT=port)
    assert unready.returncode == 1
    assert "no-worker" in unready.stderr
    assert probe("app.probe", "/v1/captions", WORDLIGHT_PORT=port).returncode == 1  # needs a key
    api.end()


def test_a_worker_is_probed_by_its_heartbeat(tiny_captioner: Path) -> None:
    with running(tiny_captioner) as service:
        environment = {"REDIS_URL": service.redis_url, "WORDLIGHT_TAKEOVER_SECONDS": "30"}
        assert probe("worker.probe", **environment).returncode == 0
        (worker,) = service.workers
        assert worker.end() == 0
        gone = probe("worker.probe", **environment)
    assert gone.returncode == 1
    assert "no worker on this machine" in gone.stderr


def test_the_probe_ignores_workers_of_other_machines(redis_url: str, redis: Redis) -> None:
    now = int(redis.time()[0]) * 1000
    for host in ("elsewhere", f"{socket.gethostname()}-2"):
        redis.zadd(keys.WORKERS, {f"{host}-17-0123abcd": now})
    assert probe("worker.probe", REDIS_URL=redis_url, WORDLIGHT_TAKEOVER_SECONDS="30").returncode == 1
    redis.zadd(keys.WORKERS, {f"{socket.gethostname()}-17-0123abcd": now})
    assert probe("worker.probe", REDIS_URL=redis_url, WORDLIGHT_TAKEOVER_SECONDS="30").returncode == 0


def test_the_patient_probe_tolerates_an_unreachable_queue() -> None:
    url = f"redis://127.0.0.1:{free_port()}/0"
    assert probe("worker.probe", REDIS_URL=url).returncode == 1
    assert probe("worker.probe", "--patient", REDIS_URL=url).returncode == 0


@pytest.mark.parametrize(("trusted", "status"), [("127.0.0.0/8", 401), ("10.0.0.0/8", 503)])
def test_only_trusted_proxies_set_the_client_address(redis_url: str, trusted: str, status: int) -> None:
    """Only this machine may probe without a key, so the status shows which client address is used."""
    port = str(free_port())
    api = start_command(
        "api",
        REDIS_URL=redis_url,
        WORDLIGHT_REQUIRE_KEYS="true",
        WORDLIGHT_PORT=port,
        WORDLIGHT_TRUSTED_PROXIES=trusted,
    )
    api.wait_for_line("startup complete")
    assert httpx.get(f"http://127.0.0.1:{port}/readyz", headers=FORWARDED_FOR).status_code == status
    api.end()
