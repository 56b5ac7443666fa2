"""A problem, as RFC 9457 describes it: what an HTTP error carries, and what a failed job embeds. Plain data."""

from pydantic import BaseModel, ConfigDict

# Not an address to visit but a name that never changes: clients compare the last word.
_TYPES = "urn:wordlight:problem:"


class Problem(BaseModel):
    """What went wrong, for programs (`type`, `status`) and for people (`title`, `detail`)."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str

    @classmethod
    def of(cls, kind: str, title: str, status: int, detail: str) -> "Problem":
        """The problem of the given kind, such as "queue-full"."""
        return cls(type=_TYPES + kind, title=title, status=status, detail=detail)

    @property
    def kind(self) -> str:
        """What `of` was given, such as "queue-full"."""
        return self.type.removeprefix(_TYPES)
