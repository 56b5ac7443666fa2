"""When to repeat a request, and when to give up."""

import random
from typing import Final

from wordlight.client.errors import ClientError

PATIENCE: Final = 60.0  # seconds
FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 30.0


class Retries:
    """The pauses between repetitions of one request."""

    def __init__(self, patience: float) -> None:
        """`patience` limits the sum of all pauses, in seconds."""
        self._left = patience
        self._next = FIRST_PAUSE

    def pause(self, error: ClientError) -> float:
        """Return the seconds to wait before the next attempt. Raises `error` if that cannot help or comes too late.

        The pause is what the service says. If it says nothing, pauses double and are random, so that clients do not
        return all at once.
        """
        if not getattr(error, "retryable", True):
            raise error
        retry_after: float | None = getattr(error, "retry_after", None)
        seconds = (
            random.uniform(self._next / 2, self._next) if retry_after is None else retry_after + random.uniform(0, 0.5)
        )
        self._next = min(2 * self._next, _LONGEST_PAUSE)
        if seconds > self._left:
            raise error
        self._left -= seconds
        return seconds
