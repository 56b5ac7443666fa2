"""A decoder with adaptive attention and a word detector. It attends to the picture, to detected words, or to neither.

Adaptive attention with a visual sentinel follows Lu, Xiong, Parikh and Socher, "Knowing When to Look" (2017, section
2.3). There is one query, key and value projection over a grid with twice the resolution of the encoder's last. The
context is an input of the next step (input feeding: Luong, Pham and Manning, 2015, section 3.3).

A word that the detector finds at the attended places becomes more probable, in the spirit of copying (Yao et al.,
2017). So the decoder can use words that its training captions never name, and its attention shows where it found them.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import isqrt
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import nn
from torch.nn import functional

from model.network.cells import LSTMCell, State
from model.network.decoder import BaseDecoder
from model.network.encoded_images import EPSILON, AdaptiveEncodedImages, EncodedImages, bilinear_matrix
from model.network.repeated_attention import RepeatedAttention
from model.network.word_detector import noisy_or
from model.text.vocabulary import PAD


class AdaptiveConfig(BaseModel):
    """Sizes of the adaptive decoder.

    Annotations have the size of hidden states: the context is an input of the LSTM and is stored with its state.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["adaptive"] = "adaptive"
    # The last stages of the encoder. The stages before them give the fine grid.
    tail_stages: int = Field(3, gt=0)
    # The word detector: its words, how many of them are learnt from captions and labels, and the number of ImageNet
    # classes. With classes, it works on a second tail that training never changes. With 0, it works on the trained one.
    words: int = Field(0, ge=0)
    learnt: int = Field(0, ge=0)
    classes: int = Field(1000, ge=0)
    # The names of the labels, such as "traffic light". They are the last of the words.
    labels: tuple[str, ...] = ()
    embedding_size: int = Field(512, gt=0)
    hidden_size: int = Field(512, gt=0)
    attention_size: int = Field(256, gt=0)
    dropout: float = Field(0.5, ge=0, lt=1)


@dataclass(frozen=True, slots=True)
class Features:
    """Encoder output for a batch of images."""

    fine: torch.Tensor  # (B, C', F, F): activations of the trunk
    grid: torch.Tensor  # (B, C, R, R): activations of the tail, with F = 2 R - 1
    words: torch.Tensor  # (B, R * R, N): the probability that a place shows a word
    # (B, R * R, N): their logits, with a gradient, for training; None if the detector works on the second tail
    logits: torch.Tensor | None = None


@dataclass(frozen=True, slots=True)
class StepOutput:
    """Output of one recurrent step for R rows, from which the next word is scored."""

    embedded: torch.Tensor  # (B, R, E): the previous word
    hidden: torch.Tensor  # (B, R, H), after dropout
    context: torch.Tensor  # (B, R, H)
    weights: torch.Tensor  # (B, R, L): attention; sums to the share that goes to the picture
    sentinel: torch.Tensor  # (B, R): the rest, which goes to the sentinel


class AdaptiveDecoder(BaseDecoder):
    """Score the next word, and report the attention, from image features and the words so far."""

    channel_weights = ("of_grid.weight", "of_fine.weight")

    def __init__(
        self, config: AdaptiveConfig, channels: int, fine_channels: int, words: int, vocabulary_size: int
    ) -> None:
        super().__init__()
        embedding, hidden, attention = config.embedding_size, config.hidden_size, config.attention_size
        self.hidden_size = hidden
        self.of_grid = nn.Linear(channels, hidden)
        self.of_fine = nn.Linear(fine_channels, hidden)
        self.of_words = nn.Linear(words, hidden, bias=False)
        self.unseen = nn.Parameter(torch.zeros(hidden))  # stands in for the fine grid of a hidden picture
        self.norm = nn.LayerNorm(hidden)
        self.key = nn.Linear(hidden, attention, bias=False)
        self.query = nn.Linear(hidden, attention)
        self.sentinel_gate = nn.Linear(embedding + 2 * hidden, hidden)
        self.sentinel_key = nn.Linear(hidden, attention, bias=False)
        self.sentinel_value = nn.Linear(hidden, hidden, bias=False)
        self.initial = nn.Linear(hidden, 3 * hidden)
        self.embedding = nn.Embedding(vocabulary_size, embedding, padding_idx=PAD)
        self.cell = LSTMCell(embedding + hidden, hidden)
        self.deep_hidden = nn.Linear(hidden, embedding)
        self.deep_context = nn.Linear(hidden, embedding, bias=False)
        self.output_bias = nn.Parameter(torch.zeros(vocabulary_size))
        # How much the evidence of the detector counts: at the attended places, in the whole picture, and for each word.
        self.trust = nn.Linear(hidden, 2)
        self.word_trust = nn.Parameter(torch.ones(words))
        self.dropout = nn.Dropout(config.dropout)
        # The usual probability of a word in one place and in a whole picture. Evidence is measured against it.
        self.register_buffer("usual_here", torch.full((words,), 0.01))
        self.register_buffer("usual_anywhere", torch.full((words,), 0.05))
        # For each token, the detector's word that it is a form of ("dogs": "dog"); N for none.
        self.register_buffer("seen_as", torch.full((vocabulary_size,), words, dtype=torch.long))
        self.usual_here: torch.Tensor
        self.usual_anywhere: torch.Tensor
        self.seen_as: torch.Tensor
        nn.init.normal_(self.embedding.weight, std=embedding**-0.5)
        nn.init.normal_(self.of_words.weight, std=0.3)
        nn.init.constant_(self.trust.bias, -1.0)

    def encode(self, features: Features, shown: torch.Tensor | None = None) -> AdaptiveEncodedImages:
        """Compute annotations and attention keys from encoder output.

        Where `shown` (B,) is false, the picture is hidden and only its detected words are used. Training uses this.
        """
        coarse = self.of_grid(_places(features.grid))  # (B, l, H)
        fine = self.of_fine(_places(features.fine))  # (B, L, H)
        if shown is not None:
            shown = shown[:, None, None]
            coarse, fine = torch.where(shown, coarse, 0.0), torch.where(shown, fine, self.unseen.to(fine.dtype))
        coarse = coarse + self.of_words(features.words.to(coarse.dtype))
        upsample = bilinear_matrix(features.grid.shape[2], features.fine.shape[2], features.grid.device)  # (L, l)
        annotations = self._annotate(upsample.to(coarse.dtype) @ coarse + fine)
        return self._encoded(annotations, features.words, upsample, features.fine.shape[2], features.fine.shape[3])

    def from_tensors(self, tensors: Iterable[torch.Tensor]) -> AdaptiveEncodedImages:
        """See BaseDecoder."""
        annotations, keys, words, evidence = tensors
        fine_side, coarse_side = isqrt(annotations.shape[1]), isqrt(words.shape[1])
        upsample = bilinear_matrix(coarse_side, fine_side, annotations.device)
        return AdaptiveEncodedImages(annotations, keys, fine_side, fine_side, words, evidence, upsample, self.seen_as)

    def encode_words(self, words: torch.Tensor) -> AdaptiveEncodedImages:
        """Encode imaginary pictures: places (B, l, N) that show the given words and nothing else."""
        return self._encoded(self._annotate(self.unseen + self.of_words(words)), words, None, 1, words.shape[1])

    def _annotate(self, features: torch.Tensor) -> torch.Tensor:
        return functional.relu(self.norm(features))

    def _encoded(
        self, annotations: torch.Tensor, words: torch.Tensor, upsample: torch.Tensor | None, rows: int, cols: int
    ) -> AdaptiveEncodedImages:
        evidence = torch.log((noisy_or(words) + EPSILON) / (self.usual_anywhere + EPSILON))
        return AdaptiveEncodedImages(
            annotations, self.key(annotations), rows, cols, words.float(), evidence, upsample, self.seen_as
        )

    def start(self, encoded: EncodedImages, rows: int) -> State:
        """Compute the state before the first word from the mean annotation. All `rows` of an image share it."""
        state = torch.tanh(self.initial(encoded.annotations.mean(dim=1)).float())  # (B, 3 H)
        return State(state.view(-1, 1, 3, 1, self.hidden_size).unbind(dim=2)).widened(rows)

    def step(
        self, tokens: torch.Tensor, state: State, encoded: EncodedImages
    ) -> tuple[torch.Tensor, State, torch.Tensor]:
        """Take one step: previous `tokens` (B, R) to logits (B, R, V), the new state, and attention (B, R, L).

        The attention of a row sums to the share that goes to the picture. For a word such as "of" it is small.
        """
        output, state = self.attend(tokens, state, encoded)
        return self.score_words(output, encoded), state, output.weights

    def attend(self, tokens: torch.Tensor, state: State, encoded: EncodedImages) -> tuple[StepOutput, State]:
        """Compute the recurrent half of a step.

        In training, the other half (`score_words`) runs once for all steps.
        """
        hidden, cell, context = (part[:, :, 0] for part in state.parts)  # each (B, R, H)
        embedded = self.dropout(self.embedding(tokens))
        inputs = torch.cat([embedded, context.to(embedded.dtype)], dim=2)
        new_hidden, new_cell = self.cell(inputs, (hidden, cell))
        gate = torch.sigmoid(self.sentinel_gate(torch.cat([inputs, hidden.to(inputs.dtype)], dim=2)))
        sentinel = gate * torch.tanh(new_cell)
        dropped = self.dropout(new_hidden)
        query = self.query(dropped)  # (B, R, A)
        scores = query @ encoded.keys.transpose(1, 2)  # (B, R, L)
        sentinel_score = (query * self.sentinel_key(sentinel)).sum(dim=2, keepdim=True)
        # float(): users see the small weights, and half precision has too few digits for them.
        attention = (torch.cat([scores, sentinel_score], dim=2).float() * query.shape[2] ** -0.5).softmax(dim=2)
        weights, sentinel_weight = attention[:, :, :-1], attention[:, :, -1:]
        context = weights.to(encoded.annotations.dtype) @ encoded.annotations
        context = context + sentinel_weight.to(context.dtype) * self.sentinel_value(sentinel)
        parts = tuple(part.float().unsqueeze(2) for part in (new_hidden, new_cell, context))
        return StepOutput(embedded, dropped, context, weights, sentinel_weight.squeeze(2)), State(parts)

    def score_words(self, output: StepOutput, encoded: EncodedImages, real: torch.Tensor | None = None) -> torch.Tensor:
        """Return logits (B, R, V) of the next word from the output of a step and the evidence at the attended places.

        With `real` (B, R), return only the n rows where it is true: (n, V).
        """
        assert isinstance(encoded, AdaptiveEncodedImages)
        evidence = self.word_evidence(output.weights, self.trust(output.hidden).float(), encoded)
        parts = (output.embedded, output.hidden, output.context, evidence)
        embedded, hidden, context, evidence = parts if real is None else (part[real] for part in parts)
        deep = embedded + self.deep_hidden(hidden) + self.deep_context(context)
        logits = functional.linear(self.dropout(torch.tanh(deep)), self.embedding.weight).float() + self.output_bias
        detectable = (self.seen_as < evidence.shape[-1]).nonzero().squeeze(1)
        return logits.index_add(-1, detectable, evidence.index_select(-1, self.seen_as[detectable]))

    def word_evidence(self, weights: torch.Tensor, trust: torch.Tensor, encoded: AdaptiveEncodedImages) -> torch.Tensor:
        """Return how much evidence adds to the logit of each of the detector's words: (B, R, N).

        `weights` (B, R, L) is the attention of a step and `trust` (B, R, 2) the output of `self.trust` for its hidden
        state.
        """
        attended = weights / weights.sum(dim=2, keepdim=True).clamp_min(1e-6)
        attended = attended if encoded.upsample is None else attended @ encoded.upsample  # (B, R, l)
        local = torch.log((attended @ encoded.words + EPSILON) / (self.usual_here + EPSILON))
        trust = functional.softplus(trust)
        return (trust[:, :, :1] * local + trust[:, :, 1:] * encoded.evidence.unsqueeze(1)) * self.word_trust

    def forward(self, encoded: EncodedImages, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See BaseDecoder."""
        outputs = self.teacher_force(encoded, tokens)
        shape = tokens.shape
        return self.score_words(outputs, encoded).view(*shape, -1), outputs.weights.view(*shape, -1)

    def teacher_force(self, encoded: EncodedImages, tokens: torch.Tensor) -> StepOutput:
        """Return the output of all steps of teacher forcing as R * T rows; the T steps of a row are adjacent.

        This is `attend` for every step, but faster: what depends on the words alone is one product for all steps, and
        the products with context and hidden state are one. Training takes most of its time here.
        """
        state = self.start(encoded, tokens.shape[1])
        hidden, cell, context = (part[:, :, 0] for part in state.parts)  # each (B, R, H)
        embedded = self.dropout(self.embedding(tokens))  # (B, R, T, E)
        size, gate = embedded.shape[3], self.sentinel_gate
        gates_of_words = functional.linear(
            embedded,
            torch.cat([self.cell.weight_ih[:, :size], gate.weight[:, :size]]),
            torch.cat([self.cell.bias_ih + self.cell.bias_hh, gate.bias]),
        )  # (B, R, T, 5 H)
        dtype = gates_of_words.dtype
        recurrent = torch.cat([self.cell.weight_ih[:, size:], self.cell.weight_hh], dim=1)  # (4 H, 2 H)
        recurrent = torch.cat([recurrent, gate.weight[:, size:]]).to(dtype)  # (5 H, 2 H); autocast would cast each step
        attention = RepeatedAttention(encoded.annotations.to(dtype), encoded.keys.to(dtype))
        context, hidden = context.to(dtype), hidden.to(dtype)
        steps = []
        for gates_of_word in gates_of_words.unbind(dim=2):
            gates = gates_of_word + functional.linear(torch.cat([context, hidden], dim=2), recurrent)
            i, f, g, o, s = gates.chunk(5, dim=2)
            cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
            squashed_cell = torch.tanh(cell)
            hidden = (torch.sigmoid(o) * squashed_cell).to(dtype)
            sentinel = (torch.sigmoid(s) * squashed_cell).to(dtype)
            dropped = self.dropout(hidden)
            query = self.query(dropped)
            sentinel_score = (query * self.sentinel_key(sentinel)).sum(dim=2, keepdim=True)
            context, weights, sentinel_weight = attention(query, sentinel_score.to(query.dtype))
            context = context + sentinel_weight.to(dtype) * self.sentinel_value(sentinel)
            steps.append((dropped, context, weights, sentinel_weight.squeeze(2)))
        parts = (embedded, *(torch.stack(part, dim=2) for part in zip(*steps, strict=True)))
        return StepOutput(*(part.flatten(1, 2) for part in parts))


def _places(grid: torch.Tensor) -> torch.Tensor:
    """Flatten a grid (B, C, R, R) to places (B, R * R, C), row by row."""
    return grid.flatten(2).transpose(1, 2)
