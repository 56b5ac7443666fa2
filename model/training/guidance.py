"""Where a word should be looked for: at the places that the word detector sees it in. In: attention; out: a loss.

Attention correctness as a loss (Liu, Mao, Sha and Yuille, 2017), but without boxes: what guides it is what the encoder
itself sees. Function words, which no place shows, are to look at what has been said. It must not know of the decoder.
"""

import torch

from model.adaptive import Glance
from model.adaptive_memory import AdaptiveMemory
from model.function_words import FUNCTION_WORDS
from model.vocabulary import END, PAD, Vocabulary

_SEEN = 0.2  # a word that no place shows with this probability guides nothing
_FUNCTION_WEIGHT = 0.3  # there are so many of them


def function_tokens(vocabulary: Vocabulary) -> torch.Tensor:
    """Which tokens (V,) are function words; <end> is one."""
    return torch.tensor([token == END or word in FUNCTION_WORDS for token, word in enumerate(vocabulary.words)])


def guidance_loss(
    glances: Glance, memory: AdaptiveMemory, targets: torch.Tensor, function: torch.Tensor
) -> torch.Tensor:
    """The sum over all `targets` (B, R, T) of how surprising a place would be, drawn from where the word is seen.

    `glances` are those of B x (R * T) rows.
    """
    attention = glances.weights.clamp_min(1e-8).log().view(*targets.shape, -1)  # (B, R, T, L)
    words = memory.words.shape[2]
    image, row, step = (memory.seen_as[targets] < words).nonzero(as_tuple=True)
    shown = memory.words[image, :, memory.seen_as[targets[image, row, step]]]  # (n, l)
    clear = shown.amax(dim=1) > _SEEN
    image, row, step, shown = image[clear], row[clear], step[clear], shown[clear] ** 2
    places = shown if memory.coarse is None else shown @ memory.coarse.t()  # (n, L)
    places = places / places.sum(dim=1, keepdim=True)
    looking = -(places * attention[image, row, step]).sum()
    unseen = function[targets] & (targets != PAD)
    not_looking = -glances.sentinel.clamp_min(1e-8).log().view(targets.shape)[unseen].sum()
    return looking + _FUNCTION_WEIGHT * not_looking
