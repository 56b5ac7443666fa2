"""`wordlight serve` starts all processes, restarts them, keeps its data and stops cleanly."""

import os
import signal
import socket
from pathlib import Path

import httpx
import pytest
from support import tiny
from support.api import encode
from support.command import Command, Service, free_port, start_command

PICTURE = encode(tiny.picture("red", "green"))


def serve(home: Path, captioner: Path, port: int) -> Command:
    command = start_command("serve", WORDLIGHT_PORT=str(port), WORDLIGHT_HOME=str(home), WORDLIGHT_MODEL=str(captioner))
    command.wait_for_line(f"ready at http://127.0.0.1:{port}")
    return command


def processes_that_name(text: str) -> list[int]:
    """Return the ids of running processes with `text` in their command line or environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if text.encode() in (folder / "environ").read_bytes() + (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue  # it has ended, or belongs to another user
    return found


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGINT,
        pytest.param(signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param(signal.SIGHUP, marks=pytest.mark.slow),
    ],
)
def test_signals_stop_it_cleanly_and_jobs_survive(tmp_path: Path, tiny_captioner: Path, number: int) -> None:
    home, port = tmp_path / "home", free_port()
    first = serve(home, tiny_captioner, port)
    headers = {"Content-Type": "image/jpeg", "Prefer": "wait=60"}
    job = httpx.post(f"http://127.0.0.1:{port}/v1/captions", content=PICTURE, headers=headers, timeout=60).json()
    assert job["status"] == "succeeded"
    assert first.end(number) == 0
    assert processes_that_name(str(home)) == []
    second = serve(home, tiny_captioner, port)
    assert httpx.get(f"http://127.0.0.1:{port}/v1/captions/{job['id']}", timeout=60).json() == job
    assert second.end(number) == 0


def test_a_dead_worker_is_restarted(service: Service) -> None:
    line = service.command.wait_for_line("worker.main: ")
    pid = int(line.split("worker.main: ")[1].split(":")[0].split("-")[-2])
    os.kill(pid, signal.SIGKILL)
    service.command.wait_for_line("the worker ended (SIGKILL)")
    headers = {"Content-Type": "image/jpeg", "Prefer": "wait=60"}
    answer = httpx.post(f"{service.url}/v1/captions", content=PICTURE, headers=headers, timeout=90)
    assert answer.json()["status"] == "succeeded"


def test_several_workers_share_the_cores_and_stop_together(tmp_path: Path, tiny_captioner: Path) -> None:
    port, home = free_port(), tmp_path / "home"
    command = start_command(
        "serve",
        WORDLIGHT_PORT=str(port),
        WORDLIGHT_HOME=str(home),
        WORDLIGHT_MODEL=str(tiny_captioner),
        WORDLIGHT_WORKERS="2",
    )
    command.wait_for_line("ready at")
    ours, share = processes_that_name(str(home)), max(1, len(os.sched_getaffinity(0)) // 2)
    assert len(set(ours) & set(processes_that_name(f"WORDLIGHT_THREADS={share}"))) == 2
    headers = {"Content-Type": "image/jpeg", "Prefer": "wait=60"}
    answer = httpx.post(f"http://127.0.0.1:{port}/v1/captions", content=PICTURE, headers=headers, timeout=60)
    assert answer.json()["status"] == "succeeded"
    assert command.end() == 0
    assert processes_that_name(str(home)) == []


def test_a_taken_port_is_a_one_line_error(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        for subcommand in ("serve", "api"):
            command = start_command(subcommand, WORDLIGHT_PORT=str(port), WORDLIGHT_HOME=str(tmp_path))
            assert command.process.wait(60) == 1
            command.wait_for_line(f"wordlight: cannot listen on 127.0.0.1:{port}: Address already in use")
            command.wait_for_line("(end of output)")
            assert len(command.lines) == 2  # the line, and the end


def test_two_services_cannot_share_a_folder(tmp_path: Path, tiny_captioner: Path) -> None:
    first = serve(tmp_path, tiny_captioner, free_port())
    second = start_command("serve", WORDLIGHT_PORT=str(free_port()), WORDLIGHT_HOME=str(tmp_path))
    assert second.process.wait(60) == 1
    second.wait_for_line("wordlight: another wordlight uses the data folder")
    assert first.end() == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WORDLIGHT_PORT", "many"),
        ("REDIS_URL", "redis://localhost:abc"),
        ("WORDLIGHT_MAX_UPLOAD_BYTES", "99999999999"),
    ],
)
def test_an_invalid_setting_is_a_one_line_error(name: str, value: str) -> None:
    command = start_command("serve", **{name: value})
    assert command.process.wait(60) == os.EX_CONFIG
    command.wait_for_line(f"wordlight: {name}")
    command.wait_for_line("(end of output)")
    assert len(command.lines) == 2  # the line, and the end


def test_a_missing_captioner_ends_the_service_without_a_restart_loop(tmp_path: Path) -> None:
    command = start_command(
        "serve", WORDLIGHT_PORT=str(free_port()), WORDLIGHT_HOME=str(tmp_path), WORDLIGHT_MODEL="/nowhere"
    )
    assert command.process.wait(60) == 1
    command.wait_for_line("wordlight: no captioner in /nowhere")
    command.wait_for_line("wordlight: the worker cannot run with these settings")


def test_proxies_of_the_environment_are_ignored(tmp_path: Path, tiny_captioner: Path) -> None:
    port = free_port()
    command = start_command(
        "serve",
        WORDLIGHT_PORT=str(port),
        WORDLIGHT_HOME=str(tmp_path),
        WORDLIGHT_MODEL=str(tiny_captioner),
        http_proxy=f"http://127.0.0.1:{free_port()}",
    )
    command.wait_for_line("ready at")
    assert command.end() == 0
