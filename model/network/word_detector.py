"""A detector of words at each place of a picture.

Word detection follows Fang et al., "From Captions to Visual Concepts and Back" (2015, section 3). Words are learnt from
captions and labels. A detector with `classes` also detects words for ImageNet's classes with the encoder's own
classifier, even if no training caption has them.
"""

from collections.abc import Sequence

import torch
from torch import nn

_MIN_PROBABILITY = 0.02  # less probable classes are noise: there are 1,000 of them
_FULL_TRUST = 1 / 3  # a class this probable in the whole picture is fully trusted in every place


class WordDetector(nn.Module):
    """Detect N words. The first `learnt` of them have a detector trained on captions and labels.

    `classes` is the number of classes of the classifier; 0: there is no classifier, and all words are learnt.
    `word_of_class` holds the word of each class, or N for none.
    """

    def __init__(self, channels: int, words: int, learnt: int, classes: int) -> None:
        super().__init__()
        self.words = words
        self.learnt = nn.Linear(channels, learnt)
        self.classifier = nn.Linear(channels, classes) if classes else None
        self.register_buffer("word_of_class", torch.full((classes,), words, dtype=torch.long))
        self.word_of_class: torch.Tensor

    def set_class_words(self, word_of_class: Sequence[int]) -> None:
        """Set the word of each class; N for none."""
        self.word_of_class.copy_(torch.tensor(word_of_class))

    def forward(self, grid: torch.Tensor) -> torch.Tensor:
        """Return the probability (B, R * R, N) that a place shows a word, from an annotation grid (B, C, R, R)."""
        learnt = torch.sigmoid(self.logits(grid))  # (B, L, M)
        if self.classifier is None:
            return learnt
        classified = self._words_of_classes(self.classifier, _places(grid))  # (B, L, N)
        return torch.cat(
            [torch.maximum(learnt, classified[:, :, : learnt.shape[2]]), classified[:, :, learnt.shape[2] :]], dim=2
        )

    def logits(self, grid: torch.Tensor) -> torch.Tensor:
        """Return the logits (B, R * R, M) of the learnt words at each place, from an annotation grid (B, C, R, R)."""
        logits: torch.Tensor = self.learnt(_places(grid))
        return logits.float()

    def _words_of_classes(self, classifier: nn.Linear, places: torch.Tensor) -> torch.Tensor:
        """Return the classifier's word probabilities of each place, scaled by its certainty about the whole picture."""
        here = self._sum_by_word(classifier(places).float().softmax(dim=2))  # (B, L, N)
        whole = self._sum_by_word(classifier(places.mean(dim=1, keepdim=True)).float().softmax(dim=2))  # (B, 1, N)
        certainty = torch.maximum(whole, here.mean(dim=1, keepdim=True))
        return here * (certainty / _FULL_TRUST).clamp(max=1)

    def _sum_by_word(self, classes: torch.Tensor) -> torch.Tensor:
        """Sum class probabilities (B, L, 1000) to word probabilities (B, L, N)."""
        likely = torch.where(classes > _MIN_PROBABILITY, classes, 0.0)
        sums = classes.new_zeros((*classes.shape[:2], self.words + 1))
        return sums.index_add(2, self.word_of_class, likely)[:, :, : self.words]


def _places(grid: torch.Tensor) -> torch.Tensor:
    """Flatten a grid (B, C, R, R) to places (B, R * R, C), row by row."""
    return grid.flatten(2).transpose(1, 2)


def noisy_or(scores: torch.Tensor) -> torch.Tensor:
    """Return the probability (B, N) that any place shows a word, from `scores` (B, L, N) of the places: a noisy OR."""
    return 1 - (1 - scores.float()).clamp_min(1e-4).log().sum(dim=1).exp()
