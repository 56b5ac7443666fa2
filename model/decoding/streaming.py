"""Streaming: report each word as soon as it is decided, and let the listener abandon images."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from model.decoding.caption import Word
from model.decoding.detokenize import Detokenizer
from model.text.vocabulary import END


@dataclass(frozen=True, slots=True)
class DecidedWord:
    """A word that will not change.

    `image` is its index in the batch, `caption` in the image, and `position` in the sentence.
    """

    image: int
    caption: int
    position: int
    word: Word


@dataclass(frozen=True, slots=True)
class CertainTokens:
    """Tokens that became certain together: they continue the first caption of the image in a `row` of the batch."""

    row: int
    tokens: Sequence[int]  # T
    logprobs: Sequence[float]  # T
    weights: Sequence[Sequence[float]]  # (T, L)


class DecodingListener(Protocol):
    """The interface of listeners to decoding."""

    @property
    def followed(self) -> Collection[int]:
        """The images whose words are wanted early even if that takes extra work, as in beam search."""
        ...

    def step(self, decided_words: Sequence[DecidedWord]) -> Collection[int]:
        """Receive the words that a decoding step has decided. Returns the images to abandon, for good.

        Called after every step. `decided_words` includes the words of a forced prefix. Beam search reports only images
        in `followed`, and of each only the words with which all beams begin, including those decided before the image
        was followed. They belong to the first caption. The last words are rarely reported.
        """
        ...


class ListenerBridge:
    """Translate the tensors of a decoding loop to words for a listener."""

    def __init__(
        self, listener: DecodingListener, detokenizer: Detokenizer, images: int, captions: int, device: torch.device
    ) -> None:
        """`captions` is the number of sentences per image that are reported at every step; 0 for a search."""
        self._listener, self._captions = listener, captions
        self._images = list(range(images))  # the image in each row of the batch
        self._open = {
            (image, caption): _OpenWord(detokenizer, image)
            for image in range(images)
            for caption in range(captions or 1)
        }
        self.abandoned: set[int] = set()
        # The same as a mask on the device.
        self.abandoned_rows = torch.zeros((images, 1), dtype=torch.bool, device=device)

    @property
    def followed(self) -> list[int]:
        """The rows of the batch for which `step` wants certain tokens."""
        followed = () if self._captions else self._listener.followed
        if not followed:
            return []
        return [row for row, image in enumerate(self._images) if image in followed and image not in self.abandoned]

    def step(
        self, tokens: torch.Tensor, logprobs: torch.Tensor, weights: torch.Tensor, certain: Sequence[CertainTokens] = ()
    ) -> None:
        """Report `tokens` (B, R), their `logprobs` (B, R) and attention `weights` (B, R, L).

        R is the number of captions, or 1 while all captions share a forced prefix. Ended rows hold <end>. A search
        reports `certain` instead, because its rows may still change.
        """
        decided_words = self._decided(tokens, logprobs, weights) if self._captions else self._certain(certain)
        abandoned = self.abandoned.union(self._listener.step(decided_words))
        if abandoned != self.abandoned:
            self.abandoned = abandoned
            self.abandoned_rows[[row for row, image in enumerate(self._images) if image in abandoned]] = True

    def keep(self, rows: torch.Tensor) -> None:
        """Keep only these rows of the batch, in this order. The other images are finished."""
        self._images = [self._images[row] for row in rows.tolist()]
        self.abandoned_rows = self.abandoned_rows[rows]

    def _decided(self, tokens: torch.Tensor, logprobs: torch.Tensor, weights: torch.Tensor) -> list[DecidedWord]:
        # Packed into one tensor, so that a GPU synchronises once a step. float32 holds every token exactly.
        packed = torch.cat([tokens.unsqueeze(2).float(), logprobs.unsqueeze(2), weights], dim=2).tolist()
        decided_words = []
        for image, rows in zip(self._images, packed, strict=True):
            if image in self.abandoned:
                continue
            for caption in range(self._captions):
                token, logprob, *attention = rows[caption if len(rows) > 1 else 0]
                word = self._open[image, caption].add(int(token), logprob, attention)
                if word is not None:
                    decided_words.append(DecidedWord(image, caption, *word))
        return decided_words

    def _certain(self, certain: Sequence[CertainTokens]) -> list[DecidedWord]:
        decided_words = []
        for run in certain:
            image = self._images[run.row]
            for token, logprob, attention in zip(run.tokens, run.logprobs, run.weights, strict=True):
                word = self._open[image, 0].add(token, logprob, list(attention))
                if word is not None:
                    decided_words.append(DecidedWord(image, 0, *word))
        return decided_words


class _OpenWord:
    """The current word of a sentence: one token or, with characters, several."""

    def __init__(self, detokenizer: Detokenizer, image: int) -> None:
        self._detokenizer, self._image, self._position = detokenizer, image, 0
        self._steps: list[tuple[int, float, list[float]]] = []

    def add(self, token: int, logprob: float, attention: list[float]) -> tuple[int, Word] | None:
        """Add a token. Returns the position and the word if the token completes one."""
        if token != END:
            self._steps.append((token, logprob, attention))
        vocabulary = self._detokenizer.vocabulary
        if not self._steps or not (token == END or vocabulary.completes(token)):
            return None
        tokens, logprobs, weights = zip(*self._steps, strict=True)
        (span,) = vocabulary.spans(tokens)
        decided = self._position, self._detokenizer.word(self._image, self._position, span, tokens, logprobs, weights)
        self._position += 1
        self._steps.clear()
        return decided
