"""The outcome for a photograph: its captions, or an error."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.job import Caption, ImageSize, ModelInfo


class CannotContinue(Exception):
    """The whole run fails, because every other photograph would fail too. The message is one line."""


@dataclass(frozen=True, slots=True)
class Captioned:
    """A photograph with its captions, best first, and the captioner that wrote them."""

    path: Path
    captions: list[Caption]
    model: ModelInfo
    image: ImageSize

    @property
    def best(self) -> Caption:
        """The first caption."""
        return self.captions[0]

    def as_dict(self) -> dict[str, Any]:
        """Convert to plain JSON data."""
        return {
            "path": str(self.path),
            "captions": [caption.model_dump() for caption in self.captions],
            "image": self.image.model_dump(),
            "model": self.model.model_dump(),
        }


@dataclass(frozen=True, slots=True)
class Failed:
    """A photograph without a caption, and one line that says why."""

    path: Path
    error: str

    def as_dict(self) -> dict[str, Any]:
        """Convert to plain JSON data."""
        return {"path": str(self.path), "error": self.error}


Outcome = Captioned | Failed
