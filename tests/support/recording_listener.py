"""A decoding listener that records the decided words."""

from collections.abc import Collection, Sequence

from model.decoding.streaming import DecidedWord


class RecordingListener:
    """Records every step, follows some images, and abandons each image of `patience` after that many steps."""

    def __init__(self, patience: dict[int, int] | None = None, followed: Collection[int] = ()) -> None:
        self.steps: list[Sequence[DecidedWord]] = []
        self.followed = followed
        self._patience = patience or {}

    def step(self, decided_words: Sequence[DecidedWord]) -> Collection[int]:
        self.steps.append(decided_words)
        return [image for image, steps in self._patience.items() if steps == len(self.steps)]
