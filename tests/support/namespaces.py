"""A network of Linux namespaces, each with one address, joined by a switch whose links can be cut."""

import ctypes
import os
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

_SUBNET = "10.77.77"
_CLONE_NEWNET = 0x40000000

T = TypeVar("T")


class NoNamespaces(Exception):
    """Network namespaces cannot be created on this machine."""


class Network:
    """Hosts by name. They reach each other and nothing else."""

    def __init__(self, *hosts: str) -> None:
        self._tag = f"wl{os.getpid()}"
        self._hosts = hosts
        self._threads: dict[str, ThreadPoolExecutor] = {}
        try:
            self._ip("netns", "add", f"{self._tag}-switch")
        except (OSError, subprocess.CalledProcessError) as error:
            raise NoNamespaces(str(error)) from error
        self._ip("-n", f"{self._tag}-switch", "link", "add", "switch", "type", "bridge")
        self._ip("-n", f"{self._tag}-switch", "link", "set", "switch", "up")
        for host in hosts:
            space = self._space(host)
            self._ip("netns", "add", space)
            self._ip(
                *("-n", f"{self._tag}-switch", "link", "add", f"to-{host}", "type", "veth"),
                *("peer", "name", "eth0", "netns", space),
            )
            self._ip("-n", f"{self._tag}-switch", "link", "set", f"to-{host}", "master", "switch", "up")
            self._ip("-n", space, "addr", "add", f"{self.address(host)}/24", "dev", "eth0")
            self._ip("-n", space, "link", "set", "eth0", "up")
            self._ip("-n", space, "link", "set", "lo", "up")
            self._threads[host] = ThreadPoolExecutor(1, initializer=self._enter, initargs=(space,))

    def address(self, host: str) -> str:
        """The host's address."""
        return f"{_SUBNET}.{self._hosts.index(host) + 2}"

    def command(self, host: str) -> list[str]:
        """Return the prefix of a command that runs on `host`."""
        return ["ip", "netns", "exec", self._space(host)]

    def on(self, host: str, action: Callable[[], T]) -> T:
        """Run a function of this process in the network of `host`. Its new sockets belong to that network."""
        return self._threads[host].submit(action).result()

    def unplug(self, host: str) -> None:
        """Cut the link of `host`."""
        self._ip("-n", f"{self._tag}-switch", "link", "set", f"to-{host}", "down")

    def plug_in(self, host: str) -> None:
        """Restore the link of `host`."""
        self._ip("-n", f"{self._tag}-switch", "link", "set", f"to-{host}", "up")

    def close(self) -> None:
        """Remove the network. Its processes must have ended."""
        for thread in self._threads.values():
            thread.shutdown()
        for name in ("switch", *self._hosts):
            self._ip("netns", "delete", self._space(name))

    def _space(self, host: str) -> str:
        return f"{self._tag}-{host}"

    @staticmethod
    def _ip(*arguments: str) -> None:
        subprocess.run(["ip", *arguments], check=True, capture_output=True)

    @staticmethod
    def _enter(space: str) -> None:
        """Move this thread into a namespace."""
        handle = os.open(f"/run/netns/{space}", os.O_RDONLY)
        try:
            if ctypes.CDLL(None, use_errno=True).setns(handle, _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
        finally:
            os.close(handle)
