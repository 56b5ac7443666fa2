"""A tiny decoder with adaptive attention, and encoder output for it."""

import torch

from model.network.adaptive import AdaptiveConfig, AdaptiveDecoder, Features
from model.text.vocabulary import Vocabulary

VOCABULARY = Vocabulary(["a", "dog", "dogs", "cat", "in", "snow", "the", "runs", "red"])
WORDS = 4  # dog, cat, snow, red
SEEN_AS = [WORDS] * 4 + [WORDS, 0, 0, 1, WORDS, 2, WORDS, WORDS, 3]
CONFIG = AdaptiveConfig(embedding_size=16, hidden_size=16, attention_size=8, dropout=0.0)


def make_decoder() -> AdaptiveDecoder:
    """Return a decoder with random weights, the same each time."""
    torch.manual_seed(0)
    decoder = AdaptiveDecoder(CONFIG, channels=6, fine_channels=5, words=WORDS, vocabulary_size=len(VOCABULARY))
    decoder.seen_as.copy_(torch.tensor(SEEN_AS))
    return decoder.eval()


def random_features(images: int, seed: int = 1) -> Features:
    """Return random encoder output for a batch of images."""
    generator = torch.Generator().manual_seed(seed)
    return Features(
        torch.randn(images, 5, 5, 5, generator=generator),
        torch.randn(images, 6, 3, 3, generator=generator),
        torch.rand(images, 9, WORDS, generator=generator),
    )
