"""A listener of decoding steps that records what it is told."""

from collections.abc import Collection, Sequence

from model.decoding.streaming import DecidedWord


class RecordingListener:
    """Notes what it is told, follows some images, and gives up each image of `patience` after so many steps."""

    def __init__(self, patience: dict[int, int] | None = None, followed: Collection[int] = ()) -> None:
        self.steps: list[Sequence[DecidedWord]] = []
        self.followed = followed
        self._patience = patience or {}

    def step(self, decided_words: Sequence[DecidedWord]) -> Collection[int]:
        self.steps.append(decided_words)
        return [image for image, steps in self._patience.items() if steps == len(self.steps)]
