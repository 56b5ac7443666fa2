"""Fuzz the upload path: send mutated pictures in mutated requests to a real web process.

    python tests/fuzz/uploads.py --inputs 100000 --seed 1

Prints a table of responses and a last line of JSON. The exit status is 1 if an input crashed the web process, got no
response or a 5xx (except for unsupported parts of HTTP), or left an error in the log; such inputs are saved. An
input depends only on its seed and number: `--seed S --only N` repeats it. The test suite sends 4,000 inputs.
"""

import argparse
import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path
from random import Random

from picture_mutations import mutate
from raw_client import NO_PROBLEM, NoAnswer, RawClient
from request_mutations import Request, choose
from small_pictures import small_pictures
from web_process import WebProcess, web_process

_SILENCE_SECONDS = 60.0  # longer than the limits on uploads and decoding
_LOOK_SECONDS = 0.25
_SETTLE_SECONDS = 30
_ENOUGH_FAILURES = 20
_NOT_SUPPORTED = {HTTPStatus.NOT_IMPLEMENTED, HTTPStatus.HTTP_VERSION_NOT_SUPPORTED}
_UNCHANGED = 0.1  # share of valid pictures, so that some uploads are accepted


def main() -> int:
    """Run the command line and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=100_000, metavar="N", help="number of inputs (default 100000)")
    parser.add_argument("--seed", type=int, default=1, help="different seeds give different inputs (default 1)")
    parser.add_argument("--only", type=int, metavar="N", help="send input number N only")
    parser.add_argument("--connections", type=int, default=6, metavar="N", help="parallel connections (default 6)")
    parser.add_argument(
        "--failures", type=Path, default=Path("fuzz-failures"), metavar="DIR", help="where to save failing inputs"
    )
    arguments = parser.parse_args()
    numbers = range(arguments.inputs) if arguments.only is None else [arguments.only]
    with web_process(WORDLIGHT_DECODE_SECONDS="5") as web:
        run = FuzzRun(web, arguments.seed, iter(numbers), arguments.failures)
        figures = run.run(arguments.connections)
    run.print_table()
    print(f"seed {arguments.seed}: {figures['inputs']} inputs, {figures['failures']} failures")
    print(json.dumps(figures))
    return 1 if figures["failures"] else 0


def make_input(seed: int, number: int) -> tuple[str, Request]:
    """Return the kind of input `number` of `seed`, and its request."""
    dice = Random(f"{seed}/{number}")
    pictures = small_pictures()
    names = list(pictures)
    picture = pictures[dice.choice(names)]
    if dice.random() > _UNCHANGED:
        picture = mutate(dice, picture, pictures[dice.choice(names)])
    case = choose(dice)
    return case.name, case.build(dice, picture)


class FuzzRun:
    """One run against one web process, with several client threads."""

    def __init__(self, web: WebProcess, seed: int, numbers: Iterator[int], failures: Path) -> None:
        self._web, self._seed, self._folder = web, seed, failures
        self._numbers = numbers
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._answers: Counter[tuple[str, str]] = Counter()  # (kind of request, response)
        self._inputs = 0
        self._failed: list[str] = []
        self._children: set[int] = set()

    def run(self, connections: int) -> dict[str, object]:
        """Send every input and return the figures."""
        usual = self._web.children()
        self._children |= usual
        before, files_before = self._web.memory_mib(), self._web.open_files()
        started = time.monotonic()
        watcher = threading.Thread(target=self._watch_children)
        watcher.start()
        with ThreadPoolExecutor(connections) as pool:
            for client in [pool.submit(self._send_all) for _ in range(connections)]:
                client.result()
        seconds = time.monotonic() - started
        self._over.set()
        watcher.join()
        if self._web.alive:
            self._check_afterwards(len(usual))
        else:
            self._failed.append(f"the web process ended with {self._web.process.returncode}")
            print(self._web.log_tail(), file=sys.stderr)
        after = self._web.memory_mib() if self._web.alive else {}
        by_answer: Counter[str] = Counter()
        for (_, answer), count in self._answers.items():
            by_answer[answer] += count
        return {
            "seed": self._seed,
            "inputs": self._inputs,
            "failures": len(self._failed),
            "answers": dict(sorted(by_answer.items())),
            "children_replaced": len(self._children) - len(usual),
            "rss_mib_before": round(before["now"], 1),
            "rss_mib_after": round(after.get("now", 0), 1),
            "rss_mib_peak": round(after.get("peak", 0), 1),
            "open_files_before": files_before,
            "open_files_after": self._web.open_files() if self._web.alive else 0,
            "inputs_per_second": round(self._inputs / seconds, 1),
            "seconds": round(seconds, 1),
        }

    def print_table(self) -> None:
        """Print the responses to each kind of request."""
        answers = sorted({answer for _, answer in self._answers})
        for kind in sorted({kind for kind, _ in self._answers}):
            said = {answer: self._answers[kind, answer] for answer in answers if (kind, answer) in self._answers}
            print(f"{kind:20} {sum(said.values()):7}  " + ", ".join(f"{answer}: {said[answer]}" for answer in said))
        for failure in self._failed:
            print(f"FAILED {failure}")

    def _send_all(self) -> None:
        with RawClient(self._web.port, _SILENCE_SECONDS) as client:
            while not self._over.is_set():
                with self._lock:
                    number = next(self._numbers, None)
                if number is None:
                    return
                self._send(client, number)

    def _send(self, client: RawClient, number: int) -> None:
        kind, request = make_input(self._seed, number)
        try:
            answers = client.send(request.data, request.owed)
        except NoAnswer as none:
            said = ["closed"]
            why, failed = str(none), request.owed or none.silent or not self._web.alive
        else:
            said = [f"{answer.status} {answer.kind}".strip() for answer in answers]
            why = ", ".join(said)
            failed = any(
                (answer.status >= 500 and answer.status not in _NOT_SUPPORTED) or answer.kind == NO_PROBLEM
                for answer in answers
            )
        with self._lock:
            self._inputs += 1
            self._answers.update((kind, each) for each in said)
            if failed:
                self._failed.append(f"input {number} ({kind}): {why}")
                self._folder.mkdir(parents=True, exist_ok=True)
                (self._folder / f"{self._seed}-{number}.http").write_bytes(request.data)
            if not self._web.alive or len(self._failed) >= _ENOUGH_FAILURES:
                self._over.set()

    def _watch_children(self) -> None:
        while not self._over.wait(_LOOK_SECONDS) and self._web.alive:
            self._children |= self._web.children()

    def _check_afterwards(self, usual_children: int) -> None:
        """Check that the web process still accepts pictures, has no extra children, and logged no error."""
        with RawClient(self._web.port, _SILENCE_SECONDS) as client:
            whole = small_pictures()["PNG"]
            head = b"POST /v1/captions HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
            head += b"Content-Length: %d\r\n\r\n"
            (answer,) = client.send(head % len(whole) + whole, owed=1)
            if answer.status not in (200, 202):
                self._failed.append(f"afterwards, the response to a valid picture was {answer.status} {answer.kind}")
        pause, deadline = threading.Event(), time.monotonic() + _SETTLE_SECONDS
        while len(self._web.children()) > usual_children and time.monotonic() < deadline:
            pause.wait(_LOOK_SECONDS)
        if len(self._web.children()) > usual_children:
            self._failed.append(f"{len(self._web.children())} children remain, not {usual_children}")
        self._failed += [f"in the log: {line}" for line in self._web.errors()[:_ENOUGH_FAILURES]]


if __name__ == "__main__":
    sys.exit(main())
