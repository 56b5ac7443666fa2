"""What counts as this very machine: names and addresses that no other machine can be reached by, or reach us from."""

import ipaddress


def is_loopback(host: str) -> bool:
    """Whether `host`, a name or an address without port or brackets, is localhost, of 127.0.0.0/8, or ::1."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
