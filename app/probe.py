"""`python -m app.probe PATH`: exits with 0 if the web process on this machine answers PATH with a 2xx.

For container health checks, which run inside the container because /healthz and /readyz need no key there. It runs
every few seconds and therefore imports neither the settings nor a web framework.
"""

import http.client
import os
import sys
from typing import Final

_SECONDS: Final = 3.0


def main() -> int:
    """Send the request, print the answer and return the exit status."""
    path = sys.argv[1] if len(sys.argv) > 1 else "/healthz"
    # A process that listens on all addresses also listens on the loopback address.
    host = os.environ.get("WORDLIGHT_HOST", "")
    host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    connection = http.client.HTTPConnection(host, int(os.environ.get("WORDLIGHT_PORT") or 8000), timeout=_SECONDS)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read().decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        print(f"{path}: {error}", file=sys.stderr)  # noqa: T201
        return 1
    finally:
        connection.close()
    print(f"{path}: {answer.status} {body}", file=sys.stderr)  # noqa: T201
    return 0 if 200 <= answer.status < 300 else 1


if __name__ == "__main__":
    sys.exit(main())
