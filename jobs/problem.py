"""A problem as in RFC 9457: the body of an HTTP error, and the error of a failed job."""

from pydantic import BaseModel, ConfigDict

# A stable name, not an address to visit. Clients compare the last part.
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
        """Create a problem of a kind such as "queue-full"."""
        return cls(type=_TYPES + kind, title=title, status=status, detail=detail)

    @property
    def kind(self) -> str:
        """The kind, such as "queue-full"."""
        return self.type.removeprefix(_TYPES)
