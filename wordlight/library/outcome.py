"""What becomes of a photograph: its captions, or why there are none. Plain data."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.job import Caption, ImageSize, ModelInfo


class CannotGoOn(Exception):
    """No other photograph would fare better. The message is one line."""


@dataclass(frozen=True, slots=True)
class Captioned:
    """A photograph with its captions, the best first, and who wrote them."""

    path: Path
    captions: list[Caption]
    model: ModelInfo
    image: ImageSize

    @property
    def best(self) -> Caption:
        """The caption to be shown."""
        return self.captions[0]

    def as_dict(self) -> dict[str, Any]:
        """The same as plain JSON data."""
        return {
            "path": str(self.path),
            "captions": [caption.model_dump() for caption in self.captions],
            "image": self.image.model_dump(),
            "model": self.model.model_dump(),
        }


@dataclass(frozen=True, slots=True)
class Failed:
    """A photograph that has no caption, and one line that says why."""

    path: Path
    error: str

    def as_dict(self) -> dict[str, Any]:
        """The same as plain JSON data."""
        return {"path": str(self.path), "error": self.error}


Outcome = Captioned | Failed
