"""A captioner that takes next to no time, for measuring everything else. It was never trained: it writes nonsense."""

from pathlib import Path

import torch

from model.captioner import Captioner, CaptionerConfig
from model.decoder import DecoderConfig
from model.vocabulary import Vocabulary

_WORDS = ("a", "dog", "runs", "over", "green", "grass", "two", "children", "play", "water", "in", "the", "red")


def save_tiny_captioner(folder: Path) -> None:
    """Write it into `folder`; the same at every call."""
    torch.manual_seed(0)
    decoder = DecoderConfig(embedding_size=32, hidden_size=32, annotation_size=32, attention_size=16)
    config = CaptionerConfig(name="tiny", encoder="test_efficientnet", image_size=96, decoder=decoder)
    Captioner(config, Vocabulary(_WORDS)).save(folder)
