"""Tickets: 32 hexadecimal digits that let a client follow one job without a key.

A browser's EventSource needs them because it cannot send headers. A ticket is an HMAC of the job's id with the secret
that all web processes share.
"""

import hashlib
import hmac

_DIGITS = 32


def ticket(secret: bytes, job_id: str) -> str:
    """Make the ticket of a job. It is valid as long as the job can be read."""
    return hmac.new(secret, b"ticket:" + job_id.encode(), hashlib.sha256).hexdigest()[:_DIGITS]


def is_ticket(secret: bytes, job_id: str, offered: str) -> bool:
    """Tell whether `offered` is the ticket of this job, in constant time."""
    return hmac.compare_digest(ticket(secret, job_id).encode(), offered.encode())
