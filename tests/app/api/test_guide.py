"""The examples of docs/api.md: runs each one and compares its output with the document.

Addresses and ports are replaced by those of the tests. The tiny captioner writes other words, so the tests compare
status codes, header names, the fields of JSON and their types, and the values of the fields in EXACT.
"""

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from support.command import free_port
from support.documents import ROOT, Command, commands, sections
from support.programs import installed
from support.running import Running, running

# The first test trains the tiny captioner and starts two processes.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

GUIDE = sections(ROOT / "docs/api.md")
SECRET = "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
KEYED = "Keys and limits"
EXACT = {"status", "type", "title", "field", "strategy"}
# Null for a captioner without calibration, such as the tiny one.
NULLABLE = {"confidence", "confident"}
STATUS = re.compile(r"HTTP/1\.1 (\d{3}) .*")
HEADER = re.compile(r"([a-z][a-z-]+): (.*)")
STATUS_OF_CURL = re.compile(r"^status (\d{3})$", re.MULTILINE)
END = "-- end of command --"


@pytest.fixture(scope="module")
def _tools() -> None:
    """Skip the examples without curl or jq; fail if WORDLIGHT_REQUIRE_CURL is set."""
    for tool in ("curl", "jq"):
        installed(
            tool,
            without=f"NO {tool}: the API guide was not tested (Debian: apt-get install curl jq)",
            required="WORDLIGHT_REQUIRE_CURL",
        )


@pytest.fixture(scope="module")
def open_service(_tools: None, tiny_captioner: Path) -> Iterator[Running]:
    """A service without keys that may send requests to this machine."""
    with running(
        tiny_captioner,
        WORDLIGHT_IMAGE_URLS="true",
        WORDLIGHT_WEBHOOK_SECRET=SECRET,
        WORDLIGHT_OUTBOUND_NETWORKS="127.0.0.0/8",
    ) as service:
        yield service


@pytest.fixture(scope="module")
def keyed_service(_tools: None, tiny_captioner: Path) -> Iterator[Running]:
    with running(tiny_captioner, WORDLIGHT_REQUIRE_KEYS="true") as service:
        yield service


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with what the examples need of a checkout."""
    for name in ("app", "README.md"):
        (tmp_path / name).symlink_to(ROOT / name)
    # curl writes the status code of each response to stderr.
    (tmp_path / ".curlrc").write_text('write-out = "%{stderr}status %{http_code}\\n"\nmax-time = 70\n')
    return tmp_path


@pytest.mark.parametrize("section", [title for title, blocks in GUIDE.items() if blocks and title])
def test_examples(section: str, request: pytest.FixtureRequest, folder: Path) -> None:
    service: Running = request.getfixturevalue("keyed_service" if section == KEYED else "open_service")
    ports = {"9001": str(free_port()), "9002": str(free_port())}

    def localised(text: str) -> str:
        text = text.replace("http://127.0.0.1:8000", service.url).replace(".venv/bin/wordlight", "wordlight")
        return re.sub("900[12]", lambda port: ports[port[0]], text)

    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("WORDLIGHT_")},
        "REDIS_URL": service.redis_url,
        "WORDLIGHT_WEBHOOK_SECRET": SECRET,
        "CURL_HOME": str(folder),
        "PYTHONPATH": str(ROOT),
        "NO_PROXY": "127.0.0.1",
    }
    with ExitStack() as stack:
        for block in GUIDE[section]:
            if block.language == "python" and "serve_forever" in block.text:
                stack.callback(_end, _serving(localised(block.text), environment, folder, int(ports["9002"])))
            elif block.language == "python":
                done = _run([sys.executable, "-W", "error", "-c", localised(block.text)], environment, folder)
                assert done.returncode == 0, done.stderr
                assert done.stdout
        script = [
            command for block in GUIDE[section] if block.language == "console" for command in commands(block.text)
        ]
        _check(script, localised, environment, folder)


def test_every_example_is_run() -> None:
    languages = {block.language for blocks in GUIDE.values() for block in blocks}
    assert languages == {"console", "python", "sh"}
    settings = [block.text for blocks in GUIDE.values() for block in blocks if block.language == "sh"]
    assert all("make serve" in text for text in settings)  # starting the service, which fixtures do here


def _serving(program: str, environment: dict[str, str], folder: Path, port: int) -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, "-c", program], env=environment, cwd=folder)
    while process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            break
        except ConnectionRefusedError:
            os.sched_yield()
    assert process.poll() is None
    return process


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait(30)


def _run(words: list[str], environment: dict[str, str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, env=environment, cwd=folder, capture_output=True, text=True, check=False, timeout=110)


def _check(script: list[Command], localised: Any, environment: dict[str, str], folder: Path) -> None:
    """Run the commands in one shell, in order, and compare the output of each."""
    lines = ["wordlight() { " + f"{sys.executable} -m wordlight" + ' "$@"; }', localised("URL=http://127.0.0.1:8000")]
    for command in script:
        lines += [localised(command.line), f"printf '\\n{END} %s\\n' $?; printf '\\n{END}\\n' >&2"]
    done = _run(["bash", "-c", "\n".join(lines)], environment, folder)
    outputs, errors = done.stdout.split(f"\n{END} ")[: len(script) + 1], done.stderr.split(f"\n{END}\n")
    assert len(outputs) == len(script) + 1, done.stderr
    # After each end marker, stdout has the exit status of that command, then the output of the next.
    for number, command in enumerate(script):
        output = outputs[number] if number == 0 else outputs[number].partition("\n")[2]
        status = outputs[number + 1].partition("\n")[0]
        seen = f"{command.line}\n{output}\n{errors[number]}"
        assert status == "0", seen
        _compare(command.output, output, [int(code) for code in STATUS_OF_CURL.findall(errors[number])], seen)


def _compare(shown: str, output: str, codes: list[int], seen: str) -> None:
    lines = [line for line in _unwrapped(shown) if line != "…"]
    expected = [int(match[1]) for line in lines if (match := STATUS.fullmatch(line))]
    if expected:
        assert codes[-1:] == expected, seen
    elif shown.startswith('{"type": "urn:wordlight:problem:'):
        assert codes[-1] == json.loads(_plain(lines[0]))["status"], seen
    else:
        assert all(200 <= code < 300 for code in codes), seen
    output_lines = output.splitlines()
    answers = [json.loads(line) for line in output_lines if line[:1] in ("[", "{", '"')]
    data = [json.loads(line.removeprefix("data: ")) for line in output_lines if line.startswith("data: ")]
    for line in lines:
        where = f"{line}\n{seen}"
        if STATUS.fullmatch(line):
            continue
        if line[0] in ("[", "{", '"'):
            assert any(_alike(json.loads(_plain(line)), answer) for answer in answers), where
        elif line.startswith("data: "):
            assert any(_alike(json.loads(_plain(line.removeprefix("data: "))), one) for one in data), where
        elif (header := HEADER.fullmatch(line)) and expected:
            assert re.search(rf"^{header[1]}: .", output, re.MULTILINE | re.IGNORECASE), where
        else:
            pattern = ".*".join(map(re.escape, line.split("…")))
            assert re.search(rf"^{pattern}\r?$", output, re.MULTILINE), where


def _unwrapped(shown: str) -> list[str]:
    """Split an output into lines; an indented line continues the previous one."""
    return re.sub(r"\n +", " ", shown).splitlines()


def _plain(line: str) -> str:
    """Remove each "…", which marks an omission, from JSON."""
    line = re.sub(r",\s*…(?=[\]}])", "", line)
    return re.sub(r"(?<=[\[{])…(?=[\]}])", "", line)


def _alike(shown: Any, answer: Any) -> bool:
    """Tell whether `answer` has everything that is shown, with the same types; a list may be longer."""
    if isinstance(shown, dict):
        return isinstance(answer, dict) and all(
            name in answer and _alike_field(name, value, answer[name]) for name, value in shown.items()
        )
    if isinstance(shown, list):
        return isinstance(answer, list) and len(answer) >= len(shown) and all(map(_alike, shown, answer))
    if isinstance(shown, bool) or isinstance(answer, bool):
        return type(shown) is type(answer)
    if isinstance(shown, int | float):
        return isinstance(answer, int | float)
    return type(shown) is type(answer)


def _alike_field(name: str, shown: Any, answer: Any) -> bool:
    if name in NULLABLE and answer is None:
        return True
    if name in EXACT and isinstance(shown, str | int):
        return bool(shown == answer)
    return _alike(shown, answer)
