"""Which words each place of a picture shows, before any sentence is begun. In: two annotation grids; out: scores.

Word detection as in Fang et al., "From Captions to Visual Concepts and Back" (2015), with one addition: beside words
that were learnt from captions there are words that ImageNet's classes go by, which the encoder's own classifier finds,
though no caption of the training set may hold them. It must not know of the decoder.
"""

from collections.abc import Sequence

import torch
from torch import nn

_FAINTEST = 0.02  # a class less probable than this is noise: there are 1,000 of them
_SURE = 1 / 3  # a class this probable, over the whole picture, is believed in every place


class WordDetector(nn.Module):
    """The words are numbered from 0 to N; `learnt` of them, the first, have a detector trained on captions.

    `classes` says which word each of the classifier's classes goes by, or N for none.
    """

    def __init__(self, channels: int, words: int, learnt: int, classes: int) -> None:
        super().__init__()
        self.words = words
        self.learnt = nn.Linear(channels, learnt)
        self.classifier = nn.Linear(channels, classes) if classes else None
        self.register_buffer("word_of_class", torch.full((classes,), words, dtype=torch.long))
        self.word_of_class: torch.Tensor

    def name_classes(self, word_of_class: Sequence[int]) -> None:
        """Set the word of each class, N for none."""
        self.word_of_class.copy_(torch.tensor(word_of_class))

    def forward(self, grid: torch.Tensor) -> torch.Tensor:
        """ImageNet's annotation grid (B, C, R, R) to the probability (B, R * R, N) that a place shows a word."""
        places = grid.flatten(2).transpose(1, 2)  # (B, L, C)
        learnt = torch.sigmoid(self.learnt(places).float())  # (B, L, M)
        if self.classifier is None:
            return learnt
        known = self._known(places)  # (B, L, N)
        return torch.cat([torch.maximum(learnt, known[:, :, : learnt.shape[2]]), known[:, :, learnt.shape[2] :]], dim=2)

    def logits(self, grid: torch.Tensor) -> torch.Tensor:
        """A grid (B, C, R, R) to how surely each place shows each word that was learnt: (B, R * R, M)."""
        return self.learnt(grid.flatten(2).transpose(1, 2)).float()

    def _known(self, places: torch.Tensor) -> torch.Tensor:
        """What the classifier says of each place, believed as far as it says so of the picture as a whole."""
        assert self.classifier is not None
        here = self._named(self.classifier(places).float().softmax(dim=2))  # (B, L, N)
        whole = self._named(self.classifier(places.mean(dim=1, keepdim=True)).float().softmax(dim=2))  # (B, 1, N)
        sure = torch.maximum(whole, here.mean(dim=1, keepdim=True))
        return here * (sure / _SURE).clamp(max=1)

    def _named(self, classes: torch.Tensor) -> torch.Tensor:
        """Probabilities of classes (B, L, 1000) to those of words (B, L, N)."""
        clear = torch.where(classes > _FAINTEST, classes, 0.0)
        named = classes.new_zeros((*classes.shape[:2], self.words + 1))
        return named.index_add(2, self.word_of_class, clear)[:, :, : self.words]


def anywhere(scores: torch.Tensor) -> torch.Tensor:
    """The probability (B, N) that a word is shown somewhere, from `scores` (B, L, N) of the places: a noisy OR."""
    return 1 - (1 - scores.float()).clamp_min(1e-4).log().sum(dim=1).exp()
