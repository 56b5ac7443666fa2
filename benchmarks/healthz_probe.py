"""How long a web process takes to answer GET /healthz, which is no work: what is measured is how busy its loop is.

In: a port, in the command line; out: latencies in seconds, one a line, until it is told to end. To be run in a process
of its own, so that nothing of the measuring program delays it. It asks every 20 ms, whether or not it has had
its answer by then: latency counts from when it was time to ask.
"""

import http.client
import sys
import time

_EVERY_SECONDS = 0.02


def ask() -> None:
    """Ask for ever."""
    connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=60)
    due = time.monotonic()
    while True:
        time.sleep(max(0.0, due - time.monotonic()))
        connection.request("GET", "/healthz")
        connection.getresponse().read()
        print(f"{time.monotonic() - due:.6f}", flush=True)
        due += _EVERY_SECONDS
