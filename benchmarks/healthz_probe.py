"""Print the latency of GET /healthz every 20 ms, in seconds, until terminated.

`/healthz` does no work, so this measures how busy the web process's event loop is. It runs as its own process, so that
the measuring program does not delay it. A latency starts when the request was due, even if the one before is late.
"""

import http.client
import sys
import time

_EVERY_SECONDS = 0.02


def ask() -> None:
    """Probe the port in the first argument forever."""
    connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=60)
    due = time.monotonic()
    while True:
        time.sleep(max(0.0, due - time.monotonic()))
        connection.request("GET", "/healthz")
        connection.getresponse().read()
        print(f"{time.monotonic() - due:.6f}", flush=True)
        due += _EVERY_SECONDS
