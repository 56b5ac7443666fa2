"""How long a web process takes to answer GET /healthz, which is no work: what is measured is how busy its loop is.

    python benchmarks/healthz_probe.py PORT        # until it is told to end (SIGTERM)

A process of its own, so that nothing of the measuring program delays it. Asks every 20 ms, whether or not it has had
its answer by then: latency counts from when it was time to ask. Each line: the latency in seconds.
"""

import http.client
import sys
import time

_EVERY_SECONDS = 0.02


def main() -> None:
    """Ask for ever."""
    connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=60)
    due = time.monotonic()
    while True:
        time.sleep(max(0.0, due - time.monotonic()))
        connection.request("GET", "/healthz")
        connection.getresponse().read()
        print(f"{time.monotonic() - due:.6f}", flush=True)
        due += _EVERY_SECONDS


if __name__ == "__main__":
    main()
