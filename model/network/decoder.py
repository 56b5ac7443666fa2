"""The decoder of the family: a recurrent network that writes a sentence and attends to the image for every word.

One decoder, configured: Show and Tell (Vinyals et al., 2015) is an LSTM without attention; Show, Attend and Tell (Xu et
al., 2015, section 3.1) is an LSTM with additive attention, gating scalar and deep output. Input and output share one
embedding (Press and Wolf, 2017). One step is a plain function of tensors: training, writing and scoring run the same
code.
"""

from collections.abc import Iterable
from math import isqrt
from typing import ClassVar, Protocol

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import nn

from model.network.attention import ATTENTIONS, AttentionName
from model.network.cells import CELLS, CellName, Parts, State
from model.network.encoded_images import EncodedImages
from model.text.vocabulary import PAD


class DecoderConfig(BaseModel):
    """The parts of a decoder and their sizes.

    `depth` is the number of recurrent layers. `gate` is Show, Attend and Tell's scalar that weighs the context of each
    word; a decoder without attention has none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    cell: CellName = "lstm"
    depth: int = Field(1, ge=1, le=3)
    attention: AttentionName = "additive"
    gate: bool = True
    embedding_size: int = Field(512, gt=0)
    hidden_size: int = Field(512, gt=0)
    annotation_size: int = Field(512, gt=0)
    attention_size: int = Field(256, gt=0)
    dropout: float = Field(0.5, ge=0, lt=1)


class StepDecoder(Protocol):
    """The interface of a decoder for writing and scoring."""

    @property
    def output_bias(self) -> torch.Tensor:
        """The bias of each token's logit: (V,)."""
        ...

    def start(self, encoded: EncodedImages, rows: int) -> State:
        """Compute the state before the first word. All `rows` of an image share it."""
        ...

    def step(
        self, tokens: torch.Tensor, state: State, encoded: EncodedImages
    ) -> tuple[torch.Tensor, State, torch.Tensor]:
        """Take one step: from the previous `tokens` (B, R) to logits (B, R, V), the state, and attention (B, R, L)."""
        ...


class BaseDecoder(nn.Module):
    """The base of all decoders. For training it adds all steps at once to StepDecoder."""

    output_bias: nn.Parameter
    # The weights whose columns are the encoder's channels: those of the grid first.
    of_channels: ClassVar[tuple[str, ...]]

    def from_tensors(self, tensors: Iterable[torch.Tensor]) -> EncodedImages:
        """Make the encoded images of square images from its `EncodedImages.tensors`."""
        raise NotImplementedError

    def start(self, encoded: EncodedImages, rows: int) -> State:
        """See StepDecoder."""
        raise NotImplementedError

    def step(
        self, tokens: torch.Tensor, state: State, encoded: EncodedImages
    ) -> tuple[torch.Tensor, State, torch.Tensor]:
        """See StepDecoder."""
        raise NotImplementedError

    def forward(self, encoded: EncodedImages, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Run all steps with the true words `tokens` (B, R, T) as inputs: teacher forcing.

        Returns logits (B, R, T, V) for the word after each input, and attention weights (B, R, T, L).
        """
        raise NotImplementedError


class Decoder(BaseDecoder):
    """See the module and DecoderConfig."""

    of_channels = ("annotate.1.weight",)

    def __init__(self, config: DecoderConfig, channels: int, vocabulary_size: int) -> None:
        super().__init__()
        embedding, hidden, annotation = config.embedding_size, config.hidden_size, config.annotation_size
        looks = config.attention != "none"
        self.annotate = nn.Sequential(
            nn.Dropout(config.dropout / 2),
            nn.Linear(channels, annotation),
            nn.LayerNorm(annotation),
            nn.ReLU(),
        )
        self.attention = ATTENTIONS[config.attention](hidden, annotation, config.attention_size) if looks else None
        self.gate = nn.Linear(hidden, 1) if looks and config.gate else None
        cell = CELLS[config.cell]
        self.shape = (cell.parts, config.depth, hidden)  # of the state of one row
        self.initial = nn.Linear(annotation, cell.parts * config.depth * hidden)
        self.embedding = nn.Embedding(vocabulary_size, embedding, padding_idx=PAD)
        sizes = [embedding + annotation if looks else embedding, *[hidden] * (config.depth - 1)]
        self.cells = nn.ModuleList(cell(size, hidden) for size in sizes)
        self.deep_hidden = nn.Linear(hidden, embedding)
        self.deep_context = nn.Linear(annotation, embedding, bias=False) if looks else None
        self.output_bias = nn.Parameter(torch.zeros(vocabulary_size))
        self.dropout = nn.Dropout(config.dropout)
        nn.init.normal_(self.embedding.weight, std=embedding**-0.5)

    def encode(self, grid: torch.Tensor) -> EncodedImages:
        """Compute annotations and attention keys from the encoder's grid (B, C, R, R)."""
        annotations = self.annotate(grid.flatten(2).transpose(1, 2))  # (B, L, D)
        keys = annotations[:, :, :0] if self.attention is None else self.attention.keys(annotations)
        return EncodedImages(annotations, keys, rows=grid.shape[2], cols=grid.shape[3])

    def from_tensors(self, tensors: Iterable[torch.Tensor]) -> EncodedImages:
        """See BaseDecoder."""
        annotations, keys = tensors
        side = isqrt(annotations.shape[1])
        return EncodedImages(annotations, keys, rows=side, cols=side)

    def start(self, encoded: EncodedImages, rows: int) -> State:
        """Compute the state before the first word from the mean annotation. All `rows` of an image share it.

        A decoder without attention sees nothing else of the image, as in Show and Tell, which fed the image to the
        network once, as a first word.
        """
        state = torch.tanh(self.initial(encoded.annotations.mean(dim=1)))  # (B, parts * layers * H)
        return State(state.view(-1, 1, *self.shape).unbind(dim=2)).widened(rows)

    def step(
        self, tokens: torch.Tensor, state: State, encoded: EncodedImages
    ) -> tuple[torch.Tensor, State, torch.Tensor]:
        """See BaseDecoder."""
        embedded = self.dropout(self.embedding(tokens))  # (B, R, E)
        context, weights = self._look(state.top, encoded)  # (B, R, D) or None, (B, R, L)
        inputs = embedded if context is None else torch.cat([embedded, context], dim=2)
        state = self._advance(inputs, state)
        deep = embedded + self.deep_hidden(self.dropout(state.top))
        if self.deep_context is not None:
            deep = deep + self.deep_context(context)
        deep = self.dropout(torch.tanh(deep))
        logits = nn.functional.linear(deep, self.embedding.weight, self.output_bias)
        return logits.float(), state, weights

    def _advance(self, inputs: torch.Tensor, state: State) -> State:
        """Take all layers one step further: each layer above the first takes the hidden state of the one below."""
        layers: list[Parts] = []
        for number, (cell, before) in enumerate(zip(self.cells, state.layers, strict=True)):
            layers.append(cell(self.dropout(layers[-1][0]) if number else inputs, before))
        return State.of_layers(layers)

    def _look(self, queries: torch.Tensor, encoded: EncodedImages) -> tuple[torch.Tensor | None, torch.Tensor]:
        """Compute gated context vectors (B, R, D) and attention weights (B, R, L) from hidden states (B, R, H).

        Without attention there is no context, and the weights are even.
        """
        if self.attention is None:
            places = encoded.annotations.shape[1]
            return None, encoded.annotations.new_full((*queries.shape[:2], places), 1 / places, dtype=torch.float32)
        context, weights = self.attention(queries, encoded.keys, encoded.annotations)
        if self.gate is not None:
            context = torch.sigmoid(self.gate(queries)) * context
        return context, weights

    def forward(self, encoded: EncodedImages, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See BaseDecoder."""
        state = self.start(encoded, tokens.shape[1])
        logits, attention = [], []
        for previous in tokens.unbind(dim=2):
            scores, state, weights = self.step(previous, state, encoded)
            logits.append(scores)
            attention.append(weights)
        return torch.stack(logits, dim=2), torch.stack(attention, dim=2)
