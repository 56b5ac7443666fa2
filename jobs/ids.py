"""Names of jobs and batches: unguessable, in the order of time, and known as ours after everything else is forgotten.

An id is the hex form of 6 bytes of time (ms), 8 random bytes, and 4 bytes of HMAC-SHA256 over these and the owner. So
a service that has long deleted a job can still tell its owner "gone" instead of "never heard of", and keeps nothing
for it.
"""

import hashlib
import hmac
import re
import secrets
import time

_TIME, _RANDOM, _SEAL = 6, 8, 4
_FORM = re.compile(f"[0-9a-f]{{{2 * (_TIME + _RANDOM + _SEAL)}}}")


def new_id(secret: bytes, owner: str) -> str:
    """An id that nobody can guess."""
    name = int(time.time() * 1000).to_bytes(_TIME, "big") + secrets.token_bytes(_RANDOM)
    return (name + _seal(secret, owner, name)).hex()


def issued(secret: bytes, owner: str, job_id: str) -> bool:
    """Whether `new_id` once returned `job_id` for this owner."""
    if not _FORM.fullmatch(job_id):
        return False
    raw = bytes.fromhex(job_id)
    return hmac.compare_digest(raw[-_SEAL:], _seal(secret, owner, raw[:-_SEAL]))


def _seal(secret: bytes, owner: str, name: bytes) -> bytes:
    return hmac.new(secret, b"id:" + name + owner.encode(), hashlib.sha256).digest()[:_SEAL]
