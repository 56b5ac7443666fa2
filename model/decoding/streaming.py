"""Looking on while sentences are written: each word as soon as it is decided, and a way to say "never mind".

In: what a decoding step has decided, as tensors; out: words, for whoever watches. It must not know how they were
chosen, or what the watcher does with them.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from model.decoding.caption import Word
from model.decoding.detokenize import Detokenizer
from model.text.vocabulary import END


@dataclass(frozen=True, slots=True)
class DecidedWord:
    """A word that stands: `image` counts in the batch, `caption` within the image, `position` within the sentence."""

    image: int
    caption: int
    position: int
    word: Word


@dataclass(frozen=True, slots=True)
class CertainTokens:
    """Tokens that are certain together: those that go on the first caption of the image in a `row` of the batch."""

    row: int
    tokens: Sequence[int]  # T
    logprobs: Sequence[float]  # T
    weights: Sequence[Sequence[float]]  # (T, L)


class DecodingListener(Protocol):
    """Somebody who looks on."""

    @property
    def followed(self) -> Collection[int]:
        """The images of the batch whose words are wanted early where that takes extra work, as in beam search."""
        ...

    def step(self, decided_words: Sequence[DecidedWord]) -> Collection[int]:
        """Called after every decoding step; returns the images of the batch that nobody wants any more.

        `decided_words` holds the words that are over with this step, those of a forced prefix included. In beam search
        these are of images that are `followed`, and of the first caption: words with which all beams begin, those from
        before the image was followed too. The last words are rarely among them. An image is given up for good.
        """
        ...


class ListenerBridge:
    """Between a loop that decodes, which knows tensors, and a watch, which knows words."""

    def __init__(
        self, listener: DecodingListener, detokenizer: Detokenizer, images: int, captions: int, device: torch.device
    ) -> None:
        """`captions` is how many sentences of each image are decided word by word: 0 in a search."""
        self._watch, self._captions = listener, captions
        self._images = list(range(images))  # what each row of images is
        self._open = {
            (image, caption): _OpenWord(detokenizer, image)
            for image in range(images)
            for caption in range(captions or 1)
        }
        self.abandoned: set[int] = set()
        self.abandoned_rows = torch.zeros((images, 1), dtype=torch.bool, device=device)  # the same, for the device

    @property
    def followed(self) -> list[int]:
        """The rows of images of which to tell `step` what is certain."""
        followed = () if self._captions else self._watch.followed
        if not followed:
            return []
        return [row for row, image in enumerate(self._images) if image in followed and image not in self.abandoned]

    def step(
        self, tokens: torch.Tensor, logprobs: torch.Tensor, weights: torch.Tensor, certain: Sequence[CertainTokens] = ()
    ) -> None:
        """Report `tokens` (B, R), their `logprobs` (B, R) and attention `weights` (B, R, L).

        There is a row for each caption, or, as long as they are all the same, one for all of them; rows that have
        ended hold <end>. In a search these are open, and what is reported is `certain`.
        """
        decided_words = self._decided(tokens, logprobs, weights) if self._captions else self._certain(certain)
        abandoned = self.abandoned.union(self._watch.step(decided_words))
        if abandoned != self.abandoned:
            self.abandoned = abandoned
            self.abandoned_rows[[row for row, image in enumerate(self._images) if image in abandoned]] = True

    def keep(self, rows: torch.Tensor) -> None:
        """From now on, only these rows of images are reported, in this order; the others are finished."""
        self._images = [self._images[row] for row in rows.tolist()]
        self.abandoned_rows = self.abandoned_rows[rows]

    def _decided(self, tokens: torch.Tensor, logprobs: torch.Tensor, weights: torch.Tensor) -> list[DecidedWord]:
        # Packed, so that a GPU is asked once a step; float32 holds every token exactly.
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
        for one in certain:
            image = self._images[one.row]
            for token, logprob, attention in zip(one.tokens, one.logprobs, one.weights, strict=True):
                word = self._open[image, 0].add(token, logprob, list(attention))
                if word is not None:
                    decided_words.append(DecidedWord(image, 0, *word))
        return decided_words


class _OpenWord:
    """The word at hand of one sentence: one token or, where tokens are characters, several."""

    def __init__(self, detokenizer: Detokenizer, image: int) -> None:
        self._speller, self._image, self._position = detokenizer, image, 0
        self._steps: list[tuple[int, float, list[float]]] = []

    def add(self, token: int, logprob: float, attention: list[float]) -> tuple[int, Word] | None:
        """One token further: the word that is over with it, and its position, if one is."""
        if token != END:
            self._steps.append((token, logprob, attention))
        vocabulary = self._speller.vocabulary
        if not self._steps or not (token == END or vocabulary.completes(token)):
            return None
        tokens, logprobs, weights = zip(*self._steps, strict=True)
        (span,) = vocabulary.spans(tokens)
        decided_words = self._position, self._speller.word(self._image, self._position, span, tokens, logprobs, weights)
        self._position += 1
        self._steps.clear()
        return decided_words
