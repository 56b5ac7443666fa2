"""Words that a picture is found to show, before any sentence is begun, and attention over them.

Semantic attention: You, Jin, Wang, Fang and Luo, "Image Captioning with Semantic Attention" (2016), without the terms
of their loss that spread it. In: an annotation grid of ImageNet's, and queries; out: the embeddings of words, and what
a query takes from them. It must not know what a step does.
"""

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import nn

from model.word_detector import WordDetector, anywhere


class AttributesConfig(BaseModel):
    """How many words are attended to, and the sizes of the word detector that finds them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    most: int = Field(10, ge=1)  # of the words, those that are likeliest to be shown
    # How many words the detector has, how many of them were learnt from captions, and ImageNet's classes.
    words: int = Field(0, ge=0)
    learnt: int = Field(0, ge=0)
    classes: int = Field(1000, gt=0)


class Attributes(nn.Module):
    """Finds the words, and lets the word before and the hidden state attend to them."""

    def __init__(self, config: AttributesConfig, channels: int, embedding_size: int, hidden_size: int) -> None:
        super().__init__()
        self.count = min(config.most, config.words)  # K
        self.embedding_size = embedding_size
        self.detector = WordDetector(channels, config.words, config.learnt, config.classes)
        self.detector.requires_grad_(False)  # training/detection.py trains it, before the decoder
        self.register_buffer("token_of_word", torch.zeros(config.words, dtype=torch.long))
        self.token_of_word: torch.Tensor
        self.heard = SemanticAttention(embedding_size, embedding_size)
        self.said = SemanticAttention(hidden_size, embedding_size)

    def find(self, grid: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        """The grid (B, C, R, R) to the attributes (B, K, E): `embedding` (V, E) of the words, times their probability.

        With its probability, a doubtful word weighs less in the sum and is asked for less.
        """
        with torch.no_grad():
            probabilities, words = anywhere(self.detector(grid)).topk(self.count, dim=1)  # (B, K)
        return probabilities.unsqueeze(2) * embedding[self.token_of_word[words]]

    def none(self, images: int) -> torch.Tensor:
        """The attributes of images of which nothing is seen."""
        return self.heard.scale.new_zeros(images, self.count, self.embedding_size)


class SemanticAttention(nn.Module):
    """What a query takes from attributes y: equations 4 to 6 of You et al. (2016).

    alpha_i = softmax_i(q . U y_i),  w * sum_i alpha_i y_i
    """

    def __init__(self, query_size: int, embedding_size: int) -> None:
        super().__init__()
        self.query = nn.Linear(query_size, embedding_size, bias=False)
        self.scale = nn.Parameter(torch.ones(embedding_size))

    def forward(self, queries: torch.Tensor, attributes: torch.Tensor) -> torch.Tensor:
        """Queries (B, R, Q) over attributes (B, K, E), to (B, R, E)."""
        weights = torch.softmax((self.query(queries) @ attributes.transpose(1, 2)).float(), dim=2)
        return self.scale * (weights.to(attributes.dtype) @ attributes)
