"""The events of a job, as they are read again from where a connection broke.

In: server-sent events; out: Event. It must not know how they are received.
"""

from dataclasses import dataclass
from typing import Final

import httpx2

from jobs.job import Said, Status
from wordlight.client.errors import ClientError
from wordlight.client.retries import Pause, Retries

_TERMINAL: Final = frozenset(status.value for status in Status if status.terminal)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a job: it took a `status`, or a word of it was `said`."""

    id: str
    status: Status | None = None
    said: Said | None = None


class Following:
    """Where a client is in the events of one job."""

    def __init__(self, after: str, patience: float) -> None:
        """`after` is the id of the last event that is known, "" for all of them."""
        self._last, self._patience = after, patience
        self._retries = Retries(patience)
        self.over = False

    @property
    def headers(self) -> dict[str, str]:
        """What asks for the events that are not known yet."""
        return {"Accept": "text/event-stream"} | ({"Last-Event-ID": self._last} if self._last else {})

    def read(self, sent: httpx2.ServerSentEvent) -> Event | None:
        """The event, if it is one that we know of; a service that is newer may tell more."""
        self._last = sent.id
        self._retries = Retries(self._patience)
        if sent.event in _TERMINAL:
            self.over = True
        if sent.event == "word":
            return Event(sent.id, said=Said.model_validate_json(sent.data))
        if sent.event in set(Status):
            return Event(sent.id, status=Status(sent.event))
        return None

    def pause(self, error: ClientError) -> Pause:
        """How long to wait before going on where the connection broke. Raises the error at last."""
        return self._retries.pause(error)
