"""The events of a job, and where to resume them after a broken connection."""

from dataclasses import dataclass
from typing import Final

import httpx2

from jobs.job import Status, WordEvent
from wordlight.client.errors import ClientError
from wordlight.client.retries import Retries

_TERMINAL: Final = frozenset(status.value for status in Status if status.terminal)


@dataclass(frozen=True, slots=True)
class Event:
    """A job changed its `status`, or a word of a caption was `decided`."""

    id: str
    status: Status | None = None
    decided: WordEvent | None = None


class EventReader:
    """Reads the events of one job over several connections."""

    def __init__(self, after: str, patience: float) -> None:
        """`after` is the id of the last known event, or "" to read all events."""
        self._last, self._patience = after, patience
        self._retries = Retries(patience)
        self.over = False

    @property
    def headers(self) -> dict[str, str]:
        """The headers that ask for the events behind the last one."""
        return {"Accept": "text/event-stream"} | ({"Last-Event-ID": self._last} if self._last else {})

    def read(self, sent: httpx2.ServerSentEvent) -> Event | None:
        """Convert an event. Returns None for events that this version does not know."""
        self._last = sent.id
        self._retries = Retries(self._patience)
        if sent.event in _TERMINAL:
            self.over = True
        if sent.event == "word":
            return Event(sent.id, decided=WordEvent.model_validate_json(sent.data))
        if sent.event in set(Status):
            return Event(sent.id, status=Status(sent.event))
        return None

    def pause(self, error: ClientError) -> float:
        """Return the seconds to wait before the next connection. Raises `error` when patience ends."""
        return self._retries.pause(error)
