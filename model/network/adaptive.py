"""The decoder with adaptive attention: it looks at the picture, at single words seen there, or at neither.

Adaptive attention with a visual sentinel (Lu, Xiong, Parikh and Socher, "Knowing When to Look", 2017), one query, key
and value, over a grid twice as fine as the encoder's last; the context is fed into the next step (Luong et al., 2015).
What a word detector finds at the places that a step attends to makes the words for it more probable: in the spirit of
copying (Yao et al., 2017), the decoder can say what its training captions never named, and where it says so from is
where it looked. It must not know of pixels or of how words are chosen.
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
from model.network.word_detector import noisy_or
from model.text.vocabulary import PAD


class AdaptiveConfig(BaseModel):
    """Sizes. The context is fed to the LSTM and kept with its state, so annotations are as large as hidden states."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["adaptive"] = "adaptive"
    tail_stages: int = Field(3, gt=0)  # of the encoder: what is before them makes the fine grid
    # Of the word detector: how many words it has, how many of them were learnt from captions, and ImageNet's classes.
    words: int = Field(0, ge=0)
    learnt: int = Field(0, ge=0)
    classes: int = Field(1000, gt=0)
    embedding_size: int = Field(512, gt=0)
    hidden_size: int = Field(512, gt=0)
    attention_size: int = Field(256, gt=0)
    dropout: float = Field(0.5, ge=0, lt=1)


@dataclass(frozen=True, slots=True)
class Features:
    """What the encoder sees of a batch of images."""

    fine: torch.Tensor  # (B, C', F, F): the trunk's activations
    grid: torch.Tensor  # (B, C, R, R): the tail's, with F = 2 R - 1
    words: torch.Tensor  # (B, R * R, N): which words each place of the grid shows


@dataclass(frozen=True, slots=True)
class StepOutput:
    """What one step of R rows leaves for the choice of a word."""

    embedded: torch.Tensor  # (B, R, E): the previous word
    hidden: torch.Tensor  # (B, R, H), after dropout
    context: torch.Tensor  # (B, R, H)
    weights: torch.Tensor  # (B, R, L): attention; sums to the share that went to the picture
    sentinel: torch.Tensor  # (B, R): the rest, which went to what has been said


class AdaptiveDecoder(BaseDecoder):
    """What the encoder sees and the words so far in; scores of the next word, and where it looked, out."""

    of_channels = ("of_grid.weight", "of_fine.weight")

    def __init__(
        self, config: AdaptiveConfig, channels: int, fine_channels: int, words: int, vocabulary_size: int
    ) -> None:
        super().__init__()
        embedding, hidden, attention = config.embedding_size, config.hidden_size, config.attention_size
        self.hidden_size = hidden
        self.of_grid = nn.Linear(channels, hidden)
        self.of_fine = nn.Linear(fine_channels, hidden)
        self.of_words = nn.Linear(words, hidden, bias=False)
        self.unseen = nn.Parameter(torch.zeros(hidden))  # in the place of a picture, where there is none
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
        # How much what is seen counts, where the step looks and anywhere, and for each word.
        self.trust = nn.Linear(hidden, 2)
        self.word_trust = nn.Parameter(torch.ones(words))
        self.dropout, self.light_dropout = nn.Dropout(config.dropout), nn.Dropout(config.dropout / 2)
        # How often a word is seen in a place, and in a picture, as a rule: only what is more than that is news.
        self.register_buffer("usual_here", torch.full((words,), 0.01))
        self.register_buffer("usual_anywhere", torch.full((words,), 0.05))
        # Which of the detector's words each word of the vocabulary is a form of ("dogs" of "dog"), N for none.
        self.register_buffer("seen_as", torch.full((vocabulary_size,), words, dtype=torch.long))
        self.usual_here: torch.Tensor
        self.usual_anywhere: torch.Tensor
        self.seen_as: torch.Tensor
        nn.init.normal_(self.embedding.weight, std=embedding**-0.5)
        nn.init.normal_(self.of_words.weight, std=0.3)
        nn.init.constant_(self.trust.bias, -1.0)

    def encode(self, features: Features, shown: torch.Tensor | None = None) -> AdaptiveEncodedImages:
        """What the encoder sees to annotations and attention keys.

        Of images that `shown` (B,) is false for, only the words that are seen in them are used: a way of training.
        """
        coarse = self.of_grid(self.light_dropout(_places(features.grid)))  # (B, l, H)
        fine = self.of_fine(self.light_dropout(_places(features.fine)))  # (B, L, H)
        if shown is not None:
            shown = shown[:, None, None]
            coarse, fine = torch.where(shown, coarse, 0.0), torch.where(shown, fine, self.unseen.to(fine.dtype))
        coarse = coarse + self.of_words(features.words.to(coarse.dtype))
        enlarge = bilinear_matrix(features.grid.shape[2], features.fine.shape[2], features.grid.device)  # (L, l)
        annotations = self._annotate(enlarge.to(coarse.dtype) @ coarse + fine)
        return self._encoded(annotations, features.words, enlarge, features.fine.shape[2], features.fine.shape[3])

    def from_tensors(self, tensors: Iterable[torch.Tensor]) -> AdaptiveEncodedImages:
        """See BaseDecoder."""
        annotations, keys, words, evidence = tensors
        fine, coarse = isqrt(annotations.shape[1]), isqrt(words.shape[1])
        enlarge = bilinear_matrix(coarse, fine, annotations.device)
        return AdaptiveEncodedImages(annotations, keys, fine, fine, words, evidence, enlarge, self.seen_as)

    def encode_words(self, words: torch.Tensor) -> AdaptiveEncodedImages:
        """A picture that nobody took: places (B, l, N) that show the given words, and nothing else."""
        return self._encoded(self._annotate(self.unseen + self.of_words(words)), words, None, 1, words.shape[1])

    def _annotate(self, seen: torch.Tensor) -> torch.Tensor:
        return functional.relu(self.norm(seen))

    def _encoded(
        self, annotations: torch.Tensor, words: torch.Tensor, coarse: torch.Tensor | None, rows: int, cols: int
    ) -> AdaptiveEncodedImages:
        evidence = torch.log((noisy_or(words) + EPSILON) / (self.usual_anywhere + EPSILON))
        return AdaptiveEncodedImages(
            annotations, self.key(annotations), rows, cols, words.float(), evidence, coarse, self.seen_as
        )

    def start(self, encoded: EncodedImages, rows: int) -> State:
        """The state before the first word: read off the mean annotation, the same for all `rows` of an image."""
        state = torch.tanh(self.initial(encoded.annotations.mean(dim=1)).float())  # (B, 3 H)
        return State(state.view(-1, 1, 3, 1, self.hidden_size).unbind(dim=2)).widened(rows)

    def step(
        self, tokens: torch.Tensor, state: State, encoded: EncodedImages
    ) -> tuple[torch.Tensor, State, torch.Tensor]:
        """One word further: previous `tokens` (B, R) to logits (B, R, V), the new state, and attention (B, R, L).

        The attention of a row sums to the share of it that went to the picture: little, for a word such as "of".
        """
        output, state = self.attend(tokens, state, encoded)
        return self.read(output, encoded), state, output.weights

    def attend(self, tokens: torch.Tensor, state: State, encoded: EncodedImages) -> tuple[StepOutput, State]:
        """The recurrent half of a step. In training the other half, `read`, is done for all steps at once."""
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
        # float(): half precision has too few digits for a softmax whose tail is shown to people.
        attention = (torch.cat([scores, sentinel_score], dim=2).float() * query.shape[2] ** -0.5).softmax(dim=2)
        weights, not_looking = attention[:, :, :-1], attention[:, :, -1:]
        context = weights.to(encoded.annotations.dtype) @ encoded.annotations
        context = context + not_looking.to(context.dtype) * self.sentinel_value(sentinel)
        parts = tuple(part.float().unsqueeze(2) for part in (new_hidden, new_cell, context))
        return StepOutput(embedded, dropped, context, weights, not_looking.squeeze(2)), State(parts)

    def read(self, output: StepOutput, encoded: EncodedImages, real: torch.Tensor | None = None) -> torch.Tensor:
        """Scores of the next word: logits (B, R, V), from what the step was about and from what it saw there.

        With `real` (B, R), only of the n rows for which that is true: (n, V).
        """
        assert isinstance(encoded, AdaptiveEncodedImages)
        seen = self.seen(output.weights, self.trust(output.hidden).float(), encoded)
        parts = (output.embedded, output.hidden, output.context, seen)
        embedded, hidden, context, seen = parts if real is None else (part[real] for part in parts)
        deep = embedded + self.deep_hidden(hidden) + self.deep_context(context)
        logits = functional.linear(self.dropout(torch.tanh(deep)), self.embedding.weight).float() + self.output_bias
        named = (self.seen_as < seen.shape[-1]).nonzero().squeeze(1)
        return logits.index_add(-1, named, seen.index_select(-1, self.seen_as[named]))

    def seen(self, weights: torch.Tensor, trust: torch.Tensor, encoded: AdaptiveEncodedImages) -> torch.Tensor:
        """How much more probable each of the detector's words (B, R, N) gets by being seen.

        From where a step looked, `weights` (B, R, L), and what `self.trust` says of its hidden state, (B, R, 2).
        """
        looked = weights / weights.sum(dim=2, keepdim=True).clamp_min(1e-6)
        looked = looked if encoded.coarse is None else looked @ encoded.coarse  # (B, R, l)
        here = torch.log((looked @ encoded.words + EPSILON) / (self.usual_here + EPSILON))
        trust = functional.softplus(trust)
        return (trust[:, :, :1] * here + trust[:, :, 1:] * encoded.evidence.unsqueeze(1)) * self.word_trust

    def forward(self, encoded: EncodedImages, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See BaseDecoder."""
        outputs = self.teacher_force(encoded, tokens)
        shape = tokens.shape
        return self.read(outputs, encoded).view(*shape, -1), outputs.weights.view(*shape, -1)

    def teacher_force(self, encoded: EncodedImages, tokens: torch.Tensor) -> StepOutput:
        """The glances of all steps of teacher forcing, as those of R * T rows, the steps of a row together."""
        state, outputs = self.start(encoded, tokens.shape[1]), []
        for previous in tokens.unbind(dim=2):
            output, state = self.attend(previous, state, encoded)
            outputs.append(output)
        return StepOutput(
            *(
                torch.stack([getattr(output, name) for output in outputs], dim=2).flatten(1, 2)
                for name in StepOutput.__slots__
            )
        )


def _places(grid: torch.Tensor) -> torch.Tensor:
    """A grid (B, C, R, R) as a list of places (B, R * R, C), row by row."""
    return grid.flatten(2).transpose(1, 2)
