"""A recurrent decoder that writes a sentence and attends to the annotation grid at every word.

The configuration selects the model. Show and Tell (Vinyals et al., 2015) is an LSTM without attention. Show, Attend and
Tell (Xu et al., 2015, section 3.1) is an LSTM with additive attention, a gating scalar and a deep output. Input and
output share one embedding (Press and Wolf, 2017). A step is a plain function of tensors: training, generation and
scoring run the same code.
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
    """Parts and sizes of a decoder.

    `depth` is the number of recurrent layers. `gate` adds the gating scalar of Show, Attend and Tell, which weighs the
    context of each word. A decoder without attention has no gate.
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
    """The interface that generation uses: a decoder that takes one step at a time."""

    @property
    def output_bias(self) -> torch.Tensor:
        """The bias of the output layer, one number for each token: (V,)."""
        ...

    def start(self, encoded: EncodedImages, rows: int) -> State:
        """Return the state before the first word, shared by all `rows` of an image."""
        ...

    def step(
        self, tokens: torch.Tensor, state: State, encoded: EncodedImages
    ) -> tuple[torch.Tensor, State, torch.Tensor]:
        """Take one step: previous `tokens` (B, R) to logits (B, R, V), the new state, and attention (B, R, L)."""
        ...


class BaseDecoder(nn.Module):
    """Base class of trainable decoders: a StepDecoder that can also compute all steps at once."""

    output_bias: nn.Parameter
    # Names of the weights that take encoder features. Their columns tell how many channels the encoder has.
    channel_weights: ClassVar[tuple[str, ...]]

    def from_tensors(self, tensors: Iterable[torch.Tensor]) -> EncodedImages:
        """Rebuild the encoding of square pictures from its `EncodedImages.tensors`."""
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
        """Apply teacher forcing: the inputs are the true words `tokens` (B, R, T).

        Returns logits (B, R, T, V) for the word after each of them, and attention weights (B, R, T, L).
        """
        raise NotImplementedError


class Decoder(BaseDecoder):
    """Score the next word, and report the attention, from the annotation grid and the words so far."""

    channel_weights = ("annotate.1.weight",)

    def __init__(self, config: DecoderConfig, channels: int, vocabulary_size: int) -> None:
        super().__init__()
        embedding, hidden, annotation = config.embedding_size, config.hidden_size, config.annotation_size
        has_attention = config.attention != "none"
        self.annotate = nn.Sequential(
            nn.Dropout(config.dropout / 2),
            nn.Linear(channels, annotation),
            nn.LayerNorm(annotation),
            nn.ReLU(),
        )
        self.attention = (
            ATTENTIONS[config.attention](hidden, annotation, config.attention_size) if has_attention else None
        )
        self.gate = nn.Linear(hidden, 1) if has_attention and config.gate else None
        cell = CELLS[config.cell]
        self.shape = (cell.parts, config.depth, hidden)  # of the state of one row
        self.initial = nn.Linear(annotation, cell.parts * config.depth * hidden)
        self.embedding = nn.Embedding(vocabulary_size, embedding, padding_idx=PAD)
        sizes = [embedding + annotation if has_attention else embedding, *[hidden] * (config.depth - 1)]
        self.cells = nn.ModuleList(cell(size, hidden) for size in sizes)
        self.deep_hidden = nn.Linear(hidden, embedding)
        self.deep_context = nn.Linear(annotation, embedding, bias=False) if has_attention else None
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

        For a decoder without attention this is the only view of the image. Show and Tell instead feeds the image once,
        as the first word.
        """
        state = torch.tanh(self.initial(encoded.annotations.mean(dim=1)))  # (B, parts * layers * H)
        return State(state.view(-1, 1, *self.shape).unbind(dim=2)).widened(rows)

    def step(
        self, tokens: torch.Tensor, state: State, encoded: EncodedImages
    ) -> tuple[torch.Tensor, State, torch.Tensor]:
        """See BaseDecoder."""
        embedded = self.dropout(self.embedding(tokens))  # (B, R, E)
        context, weights = self._attend(state.top, encoded)  # (B, R, D) or None, (B, R, L)
        inputs = embedded if context is None else torch.cat([embedded, context], dim=2)
        state = self._advance(inputs, state)
        deep = embedded + self.deep_hidden(self.dropout(state.top))
        if self.deep_context is not None:
            deep = deep + self.deep_context(context)
        deep = self.dropout(torch.tanh(deep))
        logits = nn.functional.linear(deep, self.embedding.weight, self.output_bias)
        return logits.float(), state, weights

    def _advance(self, inputs: torch.Tensor, state: State) -> State:
        """Advance all layers by one step. The input of a layer above the first is the hidden state of the one below."""
        layers: list[Parts] = []
        for number, (cell, before) in enumerate(zip(self.cells, state.layers, strict=True)):
            layers.append(cell(self.dropout(layers[-1][0]) if number else inputs, before))
        return State.of_layers(layers)

    def _attend(self, queries: torch.Tensor, encoded: EncodedImages) -> tuple[torch.Tensor | None, torch.Tensor]:
        """Compute gated context vectors (B, R, D) and attention weights (B, R, L) from hidden states (B, R, H).

        Without attention there is no context, and the weights are uniform.
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
