"""Tickets: whoever holds one may follow one job without a key, as EventSource must, which cannot send headers.

In: the secret that all web processes share, and a job's id; out: 32 hexadecimal digits that nobody else can make.
"""

import hashlib
import hmac

_DIGITS = 32


def ticket(secret: bytes, job_id: str) -> str:
    """The ticket of a job. It is good for as long as the job can be read."""
    return hmac.new(secret, b"ticket:" + job_id.encode(), hashlib.sha256).hexdigest()[:_DIGITS]


def is_ticket(secret: bytes, job_id: str, offered: str) -> bool:
    """Whether `offered` is the ticket of that job; takes as long for a near miss as for nonsense."""
    return hmac.compare_digest(ticket(secret, job_id).encode(), offered.encode())
