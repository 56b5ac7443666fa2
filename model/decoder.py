"""The decoder: an LSTM that writes a sentence, looking at the annotation grid anew for every word.

Show, Attend and Tell (Xu et al., 2015), section 3.1: additive attention, gating scalar, deep output; with the
embedding shared between input and output (Press and Wolf, 2017). One step is a plain function of tensors, so that
training, writing and scoring all run the same code. It must not know of pixels or of how words are chosen.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import nn

from model.attention import AdditiveAttention
from model.vocabulary import PAD


class DecoderConfig(BaseModel):
    """Sizes of the decoder's layers."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    embedding_size: int = Field(512, gt=0)
    hidden_size: int = Field(512, gt=0)
    annotation_size: int = Field(512, gt=0)
    attention_size: int = Field(256, gt=0)
    dropout: float = Field(0.5, ge=0, lt=1)


@dataclass(frozen=True, slots=True)
class Memory:
    """What is known of a batch of images, computed once and shared by all rows of each image."""

    annotations: torch.Tensor  # (B, L, D)
    keys: torch.Tensor  # (B, L, A)
    rows: int  # of the annotation grid: L = rows * cols, row by row
    cols: int

    @property
    def images(self) -> int:
        """How many images these are: B."""
        return self.annotations.shape[0]

    def select(self, index: Sequence[int]) -> "Memory":
        """What is known of some of the images, in the order of `index`."""
        chosen = torch.tensor(index, dtype=torch.long, device=self.annotations.device)
        return Memory(self.annotations[chosen], self.keys[chosen], self.rows, self.cols)


@dataclass(frozen=True, slots=True)
class State:
    """The LSTM's state for R rows (beams, or captions) of each of B images."""

    hidden: torch.Tensor  # (B, R, H)
    cell: torch.Tensor  # (B, R, H)

    def rows(self, index: torch.Tensor) -> "State":
        """The states of the rows `index` (B, K) of each image."""
        wide = index.unsqueeze(2).expand(-1, -1, self.hidden.shape[2])
        return State(self.hidden.gather(1, wide), self.cell.gather(1, wide))


class Decoder(nn.Module):
    """Annotation grid and words so far in; scores of the next word, and where it looked, out."""

    def __init__(self, config: DecoderConfig, channels: int, vocabulary_size: int) -> None:
        super().__init__()
        embedding, hidden, annotation = config.embedding_size, config.hidden_size, config.annotation_size
        self.annotate = nn.Sequential(
            nn.Dropout(config.dropout / 2),
            nn.Linear(channels, annotation),
            nn.LayerNorm(annotation),
            nn.ReLU(),
        )
        self.attention = AdditiveAttention(hidden, annotation, config.attention_size)
        self.gate = nn.Linear(hidden, 1)
        self.initial = nn.Linear(annotation, 2 * hidden)
        self.embedding = nn.Embedding(vocabulary_size, embedding, padding_idx=PAD)
        self.lstm = nn.LSTMCell(embedding + annotation, hidden)
        self.deep_hidden = nn.Linear(hidden, embedding)
        self.deep_context = nn.Linear(annotation, embedding, bias=False)
        self.output_bias = nn.Parameter(torch.zeros(vocabulary_size))
        self.dropout = nn.Dropout(config.dropout)
        nn.init.normal_(self.embedding.weight, std=embedding**-0.5)

    def memorise(self, grid: torch.Tensor) -> Memory:
        """The encoder's grid (B, C, R, R) to annotations and attention keys."""
        annotations = self.annotate(grid.flatten(2).transpose(1, 2))  # (B, L, D)
        return Memory(annotations, self.attention.keys(annotations), rows=grid.shape[2], cols=grid.shape[3])

    def start(self, memory: Memory, rows: int) -> State:
        """The state before the first word: read off the mean annotation, the same for all `rows` of an image."""
        state = torch.tanh(self.initial(memory.annotations.mean(dim=1)))  # (B, 2H)
        hidden, cell = state.unsqueeze(1).expand(-1, rows, -1).chunk(2, dim=2)
        return State(hidden, cell)

    def step(self, tokens: torch.Tensor, state: State, memory: Memory) -> tuple[torch.Tensor, State, torch.Tensor]:
        """One word further: previous `tokens` (B, R) to logits (B, R, V), the new state, and attention (B, R, L)."""
        embedded = self.dropout(self.embedding(tokens))  # (B, R, E)
        context, weights = self.attention(state.hidden, memory.keys, memory.annotations)  # (B, R, D), (B, R, L)
        context = torch.sigmoid(self.gate(state.hidden)) * context
        inputs = torch.cat([embedded, context], dim=2)
        hidden, cell = self.lstm(inputs.flatten(0, 1), (state.hidden.flatten(0, 1), state.cell.flatten(0, 1)))
        hidden, cell = hidden.view(*tokens.shape, -1), cell.view(*tokens.shape, -1)  # (B, R, H)
        deep = self.dropout(torch.tanh(embedded + self.deep_hidden(self.dropout(hidden)) + self.deep_context(context)))
        logits = nn.functional.linear(deep, self.embedding.weight, self.output_bias)
        return logits.float(), State(hidden, cell), weights

    def forward(self, memory: Memory, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Teacher forcing: the true words `tokens` (B, R, T) are the inputs, whatever the decoder would have said.

        Returns logits (B, R, T, V) for the word after each of them, and attention weights (B, R, T, L).
        """
        state = self.start(memory, tokens.shape[1])
        logits, attention = [], []
        for previous in tokens.unbind(dim=2):
            scores, state, weights = self.step(previous, state, memory)
            logits.append(scores)
            attention.append(weights)
        return torch.stack(logits, dim=2), torch.stack(attention, dim=2)
