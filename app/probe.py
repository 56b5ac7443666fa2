"""`python -m app.probe PATH`: whether the web process on this machine answers PATH with a 2xx, told by the exit status.

For what keeps containers running. /healthz and /readyz are open to this machine alone, so the question is asked from
inside. It is asked every few seconds, and so loads next to nothing: neither settings nor a web framework.
"""

import http.client
import os
import sys
from typing import Final

_SECONDS: Final = 3.0


def main() -> int:
    """Ask; returns the exit status, and says what is wrong."""
    path = sys.argv[1] if len(sys.argv) > 1 else "/healthz"
    # One address of this machine: a process that listens on all of them listens on this one as well.
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
