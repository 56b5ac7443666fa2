"""The visual sentinel: what a decoder may attend to in the place of the picture. In: a word and a state; out: a vector.

Adaptive attention: Lu, Xiong, Parikh and Socher, "Knowing When to Look" (2017), section 3.2. It must not know of the
picture.
"""

import torch
from torch import nn

from model.cells import Parts


class Sentinel(nn.Module):
    """What has been said, as one more annotation.

    s = P (sigmoid(W x + U h) * tanh(c)), of the word x that is heard and the state h, c of the LSTM that asks.
    """

    def __init__(self, word_size: int, hidden_size: int, annotation_size: int) -> None:
        super().__init__()
        self.gate = nn.Linear(word_size + hidden_size, hidden_size)
        self.project = nn.Linear(hidden_size, annotation_size, bias=False)

    def forward(self, words: torch.Tensor, state: Parts) -> torch.Tensor:
        """Words (B, R, E) and the state of a layer (B, R, H), to (B, R, D)."""
        hidden, memory = state
        gate = torch.sigmoid(self.gate(torch.cat([words, hidden], dim=2)))
        return self.project(gate * torch.tanh(memory))  # type: ignore[no-any-return]
