"""The decoder: a recurrent network that writes a sentence, looking at the annotation grid anew for every word.

One decoder, configured: Show and Tell (Vinyals et al., 2015) is an LSTM without attention; Show, Attend and Tell (Xu et
al., 2015, section 3.1) an LSTM with additive attention, gating scalar and deep output; top-down attention (Anderson et
al., 2018) two LSTMs, one on either side of the attention; semantic attention (You et al., 2016) looks at words that
the picture is found to show. The embedding is shared between input and output (Press and Wolf, 2017), unless it is not
`tied`. One step is a plain function of tensors, so that training, writing and scoring all run the same code. It must
not know of pixels or of how words are chosen.
"""

from collections.abc import Iterable
from math import isqrt
from typing import Any, ClassVar, Literal, Protocol, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import nn

from model.attention import ATTENTIONS, AttentionName
from model.attributes import Attributes, AttributesConfig
from model.cells import CELLS, CellName, Parts
from model.memory import AttributedMemory, Memory
from model.sentinel import Sentinel
from model.state import State
from model.vocabulary import PAD


class DecoderConfig(BaseModel):
    """The parts of a decoder, and their sizes.

    `depth` is the number of recurrent layers. `gate` is Show, Attend and Tell's scalar that says how much of the
    context counts for a word; where there is no attention there is none. `arrangement` is how layers and attention
    follow each other: "stacked", it looks first, and each layer takes the hidden state of the one below; "top-down", it
    looks between a layer that asks where and a layer that says what (Decoder._top_down). `tied` is whether words are
    scored by their embeddings, or by vectors of their own. `attributes` are words that the picture is found to show,
    which the decoder attends to beside the grid. With a `sentinel`, attention may go to what has been said in the place
    of the picture.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    cell: CellName = "lstm"
    depth: int = Field(1, ge=1, le=3)
    arrangement: Literal["stacked", "top-down"] = "stacked"
    attention: AttentionName = "additive"
    gate: bool = True
    sentinel: bool = False
    embedding_size: int = Field(512, gt=0)
    hidden_size: int = Field(512, gt=0)
    annotation_size: int = Field(512, gt=0)
    attention_size: int = Field(256, gt=0)
    tied: bool = True
    attributes: AttributesConfig | None = None
    dropout: float = Field(0.5, ge=0, lt=1)

    @model_validator(mode="after")
    def _looks_between_two_layers(self) -> Self:
        if self.arrangement == "top-down" and (self.depth != 2 or self.attention == "none"):
            raise ValueError("a top-down decoder has two layers, and attention between them")
        return self

    @model_validator(mode="after")
    def _remembers_what_it_said(self) -> Self:
        if self.sentinel and (self.cell != "lstm" or self.attention == "none"):
            raise ValueError("a sentinel is read off an LSTM's memory, and attended to beside the picture")
        return self


class Stepping(Protocol):
    """A decoder to those who write with it."""

    @property
    def output_bias(self) -> torch.Tensor:
        """One number for each token: (V,)."""
        ...

    def start(self, memory: Memory, rows: int) -> State:
        """The state before the first word, the same for all `rows` of an image."""
        ...

    def step(self, tokens: torch.Tensor, state: State, memory: Memory) -> tuple[torch.Tensor, State, torch.Tensor]:
        """One word further: previous `tokens` (B, R) to logits (B, R, V), the new state, and attention (B, R, L)."""
        ...


class AnyDecoder(nn.Module):
    """A decoder to those who train it: Stepping, and all steps at once."""

    output_bias: nn.Parameter
    # The weights that take the encoder's channels, of the grid first: as many as they have columns.
    of_channels: ClassVar[tuple[str, ...]]

    def remember(self, tensors: Iterable[torch.Tensor]) -> Memory:
        """The memory of square pictures whose `Memory.tensors` these are."""
        raise NotImplementedError

    def start(self, memory: Memory, rows: int) -> State:
        """See Stepping."""
        raise NotImplementedError

    def step(self, tokens: torch.Tensor, state: State, memory: Memory) -> tuple[torch.Tensor, State, torch.Tensor]:
        """See Stepping."""
        raise NotImplementedError

    def forward(self, memory: Memory, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Teacher forcing: the true words `tokens` (B, R, T) are the inputs, whatever the decoder would have said.

        Returns logits (B, R, T, V) for the word after each of them, and attention weights (B, R, T, L).
        """
        raise NotImplementedError


class Decoder(AnyDecoder):
    """Annotation grid and words so far in; scores of the next word, and where it looked, out."""

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
        self.arrangement = config.arrangement
        if config.arrangement == "top-down":
            sizes = [hidden + annotation + embedding, annotation + hidden]
        else:
            sizes = [embedding + annotation if looks else embedding, *[hidden] * (config.depth - 1)]
        self.cells = nn.ModuleList(cell(size, hidden) for size in sizes)
        self.deep_hidden = nn.Linear(hidden, embedding)
        self.deep_context = nn.Linear(annotation, embedding, bias=False) if looks else None
        self.output_bias = nn.Parameter(torch.zeros(vocabulary_size))
        self.dropout = nn.Dropout(config.dropout)
        nn.init.normal_(self.embedding.weight, std=embedding**-0.5)
        self.output = None if config.tied else nn.Linear(embedding, vocabulary_size, bias=False)
        if self.output is not None:
            nn.init.normal_(self.output.weight, std=embedding**-0.5)  # as the embedding, to differ in nothing else
        attributes = config.attributes
        self.attributes = Attributes(attributes, channels, embedding, hidden) if attributes is not None else None
        self.sentinel = Sentinel(embedding, hidden, annotation) if config.sentinel else None
        self.register_load_state_dict_pre_hook(_rename_single_lstm)  # type: ignore[no-untyped-call]

    def memorise(self, grid: torch.Tensor) -> Memory:
        """The encoder's grid (B, C, R, R) to annotations and attention keys."""
        attributes = None if self.attributes is None else self.attributes.find(grid, self.embedding.weight)
        return self._attended(self.annotate(grid.flatten(2).transpose(1, 2)), attributes, *grid.shape[2:])

    def remember(self, tensors: Iterable[torch.Tensor]) -> Memory:
        """See AnyDecoder."""
        annotations, keys, *attributes = tensors
        known = annotations, keys, isqrt(annotations.shape[1]), isqrt(annotations.shape[1])
        return AttributedMemory(*known, *attributes) if attributes else Memory(*known)

    def blank(self, images: int) -> Memory:
        """What is known of `images` images of which nothing is seen: one place, with an annotation of zeros."""
        annotations = self.output_bias.new_zeros(images, 1, self.initial.in_features)
        attributes = None if self.attributes is None else self.attributes.none(images)
        return self._attended(annotations, attributes, rows=1, cols=1)

    def _attended(self, annotations: torch.Tensor, attributes: torch.Tensor | None, rows: int, cols: int) -> Memory:
        """Annotations (B, L, D), their keys, and the attributes, if there are any."""
        keys = annotations[:, :, :0] if self.attention is None else self.attention.keys(annotations)
        if attributes is None:
            return Memory(annotations, keys, rows, cols)
        return AttributedMemory(annotations, keys, rows, cols, attributes)

    def start(self, memory: Memory, rows: int) -> State:
        """The state before the first word: read off the mean annotation, the same for all `rows` of an image.

        Without attention this is all that the decoder ever sees of the image, as in Show and Tell, which fed it to the
        network once, in the place of a first word.
        """
        state = torch.tanh(self.initial(memory.annotations.mean(dim=1)))  # (B, parts * layers * H)
        return State(state.view(-1, 1, *self.shape).unbind(dim=2)).widened(rows)

    def step(self, tokens: torch.Tensor, state: State, memory: Memory) -> tuple[torch.Tensor, State, torch.Tensor]:
        """See AnyDecoder."""
        embedded = self.dropout(self.embedding(tokens))  # (B, R, E)
        advance = self._top_down if self.arrangement == "top-down" else self._stacked
        heard = embedded
        if self.attributes is not None:
            assert isinstance(memory, AttributedMemory)
            heard = embedded + self.attributes.heard(embedded, memory.attributes)
        context, weights, state = advance(heard, state, memory)  # (B, R, D) or None, (B, R, L)
        deep = embedded + self.deep_hidden(self.dropout(state.top))
        if self.attributes is not None:
            assert isinstance(memory, AttributedMemory)
            deep = deep + self.attributes.said(self.dropout(state.top), memory.attributes)
        if self.deep_context is not None:
            deep = deep + self.deep_context(context)
        deep = self.dropout(torch.tanh(deep))
        words = self.embedding.weight if self.output is None else self.output.weight  # (V, E)
        logits = nn.functional.linear(deep, words, self.output_bias)
        return logits.float(), state, weights

    def _stacked(
        self, embedded: torch.Tensor, state: State, memory: Memory
    ) -> tuple[torch.Tensor | None, torch.Tensor, State]:
        """Look, then take all layers one step further; each takes the hidden state of the one below."""
        context, weights = self._look(embedded, state.layers[-1], memory)
        inputs = embedded if context is None else torch.cat([embedded, context], dim=2)
        layers: list[Parts] = []
        for number, (cell, before) in enumerate(zip(self.cells, state.layers, strict=True)):
            layers.append(cell(self.dropout(layers[-1][0]) if number else inputs, before))
        return context, weights, State.of_layers(layers)

    def _top_down(
        self, embedded: torch.Tensor, state: State, memory: Memory
    ) -> tuple[torch.Tensor | None, torch.Tensor, State]:
        """Top-down attention: Anderson et al. (2018), section 3.2.

        The attention layer hears the word, what the language layer said last, and what the whole image is like, and
        asks where to look; the language layer takes what is seen there, and the question.
        """
        asking, saying = state.layers
        attend, speak = self.cells
        whole = memory.annotations.mean(dim=1, keepdim=True).expand(-1, embedded.shape[1], -1)  # (B, R, D)
        asking = attend(torch.cat([saying[0], whole, embedded], dim=2), asking)
        context, weights = self._look(embedded, asking, memory)
        assert context is not None
        saying = speak(torch.cat([context, self.dropout(asking[0])], dim=2), saying)
        return context, weights, State.of_layers([asking, saying])

    def _look(self, embedded: torch.Tensor, asking: Parts, memory: Memory) -> tuple[torch.Tensor | None, torch.Tensor]:
        """The context vectors (B, R, D), gated, that a layer's state asks for, and the attention weights (B, R, L).

        Without attention there is no context, and the weights are even: it looked nowhere in particular. With a
        sentinel they sum to the share that went to the picture.
        """
        queries = asking[0]  # (B, R, H)
        if self.attention is None:
            places = memory.annotations.shape[1]
            return None, memory.annotations.new_full((*queries.shape[:2], places), 1 / places, dtype=torch.float32)
        sentinel = None if self.sentinel is None else self.sentinel(embedded, asking)
        context, weights = self.attention(queries, memory.keys, memory.annotations, sentinel)
        if self.gate is not None:
            context = torch.sigmoid(self.gate(queries)) * context
        return context, weights

    def forward(self, memory: Memory, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See AnyDecoder."""
        state = self.start(memory, tokens.shape[1])
        logits, attention = [], []
        for previous in tokens.unbind(dim=2):
            scores, state, weights = self.step(previous, state, memory)
            logits.append(scores)
            attention.append(weights)
        return torch.stack(logits, dim=2), torch.stack(attention, dim=2)


def _rename_single_lstm(_decoder: nn.Module, tensors: dict[str, Any], prefix: str, *_: object) -> None:
    """Weights saved when a decoder could only be one LSTM name it `lstm`."""
    for name in [name for name in tensors if name.startswith(f"{prefix}lstm.")]:
        tensors[name.replace(f"{prefix}lstm.", f"{prefix}cells.0.")] = tensors.pop(name)
