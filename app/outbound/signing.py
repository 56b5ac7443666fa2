"""Signatures of webhooks, as Standard Webhooks defines them, and the secrets that they are made with.

In: the master secret, an owner, a message; out: the owner's secret, and headers. It must not know what is sent where.
"""

import base64
import hmac
from contextlib import suppress
from datetime import datetime
from typing import Final

from standardwebhooks import Webhook

_PREFIX: Final = "whsec_"
_KEY_BYTES: Final = range(24, 65)  # as the specification has it


def checked_secret(secret: str) -> str:
    """The secret as it is. Raises ValueError, without the secret in it, for one that is none."""
    with suppress(ValueError):
        if len(_key(secret)) in _KEY_BYTES:
            return secret
    raise ValueError(
        f"must be {_PREFIX} and the base64 of 24 to 64 bytes, such as: {_PREFIX}$(openssl rand -base64 32)"
    )


def signing_secret(master: str, owner: str) -> str:
    """The secret that the owner verifies our webhooks with: the master itself for "", else one derived from it."""
    if not owner:
        return master
    derived = hmac.digest(_key(master), f"webhook:{owner}".encode(), "sha256")
    return _PREFIX + base64.b64encode(derived).decode()


def signed_headers(secret: str, message_id: str, at: datetime, body: str) -> dict[str, str]:
    """The three headers of a message sent `at` (with its time zone)."""
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": Webhook(secret).sign(message_id, at, body),
    }


def _key(secret: str) -> bytes:
    if not secret.startswith(_PREFIX):
        raise ValueError(f"does not begin with {_PREFIX}")
    return base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
