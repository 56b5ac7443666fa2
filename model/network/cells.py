"""Recurrent cells, written out: an input and the previous state to the new state.

All cells have the same interface. Their parameters have the layout of torch.nn.RNNCell, LSTMCell and GRUCell, with the
gates below each other: one matrix product computes all gates of a step, and weights can be exchanged with PyTorch.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn
from torch.nn.functional import linear

# The state of a cell: the hidden state, which is also its output, and for an LSTM the cell state.
Parts = tuple[torch.Tensor, ...]  # each (..., H)


class Cell(nn.Module):
    """Base class of cells: two affine maps, W_ih x + b_ih and W_hh h + b_hh, with one block of rows for each gate."""

    gates: int
    parts: int

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.weight_ih = nn.Parameter(torch.empty(self.gates * hidden_size, input_size))
        self.weight_hh = nn.Parameter(torch.empty(self.gates * hidden_size, hidden_size))
        self.bias_ih = nn.Parameter(torch.empty(self.gates * hidden_size))
        self.bias_hh = nn.Parameter(torch.empty(self.gates * hidden_size))
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -(hidden_size**-0.5), hidden_size**-0.5)

    def forward(self, inputs: torch.Tensor, state: Parts) -> Parts:
        """Take one step: inputs (..., I) and the previous state to the new state. The hidden state comes first."""
        raise NotImplementedError

    def of_input(self, inputs: torch.Tensor) -> torch.Tensor:
        """W_ih x + b_ih: (..., gates * H)."""
        return linear(inputs, self.weight_ih, self.bias_ih)

    def of_hidden(self, hidden: torch.Tensor) -> torch.Tensor:
        """W_hh h + b_hh: (..., gates * H)."""
        return linear(hidden, self.weight_hh, self.bias_hh)


class RNNCell(Cell):
    """The simple recurrent network of Elman (1990).

    h' = tanh(W_ih x + b_ih + W_hh h + b_hh)
    """

    gates = 1
    parts = 1

    def forward(self, inputs: torch.Tensor, state: Parts) -> Parts:
        """See Cell."""
        (hidden,) = state
        return (torch.tanh(self.of_input(inputs) + self.of_hidden(hidden)),)


class GRUCell(Cell):
    """The gated recurrent unit of Cho et al. (2014), in the form of PyTorch and cuDNN: r is applied after W_hn.

    r = sigmoid(W_ir x + b_ir + W_hr h + b_hr)          reset: how much of the past the candidate sees
    z = sigmoid(W_iz x + b_iz + W_hz h + b_hz)          update: how much of the past stays
    n = tanh(W_in x + b_in + r * (W_hn h + b_hn))       candidate
    h' = (1 - z) * n + z * h
    """

    gates = 3
    parts = 1

    def forward(self, inputs: torch.Tensor, state: Parts) -> Parts:
        """See Cell."""
        (hidden,) = state
        r_input, z_input, n_input = self.of_input(inputs).chunk(3, dim=-1)
        r_hidden, z_hidden, n_hidden = self.of_hidden(hidden).chunk(3, dim=-1)
        r = torch.sigmoid(r_input + r_hidden)
        z = torch.sigmoid(z_input + z_hidden)
        n = torch.tanh(n_input + r * n_hidden)
        return ((1 - z) * n + z * hidden,)


class LSTMCell(Cell):
    """Long short-term memory: Hochreiter and Schmidhuber (1997), with the forget gate of Gers et al. (2000).

    i = sigmoid(W_ii x + b_ii + W_hi h + b_hi)          input gate: how much of the candidate is written
    f = sigmoid(W_if x + b_if + W_hf h + b_hf)          forget gate: how much of the memory stays
    g = tanh(W_ig x + b_ig + W_hg h + b_hg)             candidate
    o = sigmoid(W_io x + b_io + W_ho h + b_ho)          output gate: how much of the memory shows
    c' = f * c + i * g
    h' = o * tanh(c')
    """

    gates = 4
    parts = 2

    def forward(self, inputs: torch.Tensor, state: Parts) -> Parts:
        """See Cell."""
        hidden, memory = state
        i, f, g, o = (self.of_input(inputs) + self.of_hidden(hidden)).chunk(4, dim=-1)
        memory = torch.sigmoid(f) * memory + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(memory), memory


CellName = Literal["rnn", "gru", "lstm"]
CELLS: dict[CellName, type[Cell]] = {"rnn": RNNCell, "gru": GRUCell, "lstm": LSTMCell}


@dataclass(frozen=True, slots=True)
class State:
    """The state of all layers for R rows (beams, or captions) of each of B images.

    It has one tensor for each part that a cell keeps: the hidden state and, for an LSTM, the cell state.
    """

    parts: Parts  # each (B, R, layers, H)

    @property
    def top(self) -> torch.Tensor:
        """The hidden state of the last layer (B, R, H). It is the attention query, and words are scored from it."""
        return self.parts[0][:, :, -1]

    @property
    def layers(self) -> list[Parts]:
        """The state of each layer in the form that its cell takes: parts (B, R, H)."""
        return list(zip(*(part.unbind(dim=2) for part in self.parts), strict=True))

    @classmethod
    def of_layers(cls, layers: list[Parts]) -> "State":
        """Build a state from the states of its layers: the inverse of `layers`."""
        return cls(tuple(torch.stack(part, dim=2) for part in zip(*layers, strict=True)))

    def rows(self, index: torch.Tensor) -> "State":
        """Return the states of the rows `index` (B, K) of each image."""
        return State(
            tuple(part.gather(1, index[:, :, None, None].expand(-1, -1, *part.shape[2:])) for part in self.parts)
        )

    def images(self, index: torch.Tensor) -> "State":
        """Return the states of all rows of the images `index`."""
        return State(tuple(part[index] for part in self.parts))

    def widened(self, rows: int) -> "State":
        """Expand the single row of each image to `rows` rows, without a copy."""
        return State(tuple(part.expand(-1, rows, -1, -1) for part in self.parts))
