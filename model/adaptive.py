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

from model.adaptive_memory import FAINT, AdaptiveMemory, spread
from model.attending import Attending
from model.cells import LSTMCell
from model.decoder import AnyDecoder
from model.memory import Memory
from model.state import State
from model.vocabulary import PAD
from model.word_detector import anywhere


class AdaptiveConfig(BaseModel):
    """Sizes. The context is fed to the LSTM and kept with its state, so annotations are as large as hidden states."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["adaptive"] = "adaptive"
    tail_stages: int = Field(3, gt=0)  # of the encoder: what is before them makes the fine grid
    # Of the word detector: how many words it has, how many of them were learnt from captions, and ImageNet's classes.
    words: int = Field(0, ge=0)
    learnt: int = Field(0, ge=0)
    # 0: there is no second, untouched tail, and the detector is a head on the one that was trained.
    classes: int = Field(1000, ge=0)
    # Of the words, the last ones: kinds of things that people found in pictures ("traffic light").
    labels: tuple[str, ...] = ()
    embedding_size: int = Field(512, gt=0)
    hidden_size: int = Field(512, gt=0)
    attention_size: int = Field(256, gt=0)
    dropout: float = Field(0.5, ge=0, lt=1)


@dataclass(frozen=True, slots=True)
class Sight:
    """What the encoder sees of a batch of images."""

    fine: torch.Tensor  # (B, C', F, F): the trunk's activations
    grid: torch.Tensor  # (B, C, R, R): the tail's, with F = 2 R - 1
    words: torch.Tensor  # (B, R * R, N): which words each place of the grid shows
    logits: torch.Tensor | None = None  # the same before the sigmoid, with a gradient: for training


@dataclass(frozen=True, slots=True)
class Glance:
    """What one step of R rows leaves for the choice of a word."""

    embedded: torch.Tensor  # (B, R, E): the previous word
    hidden: torch.Tensor  # (B, R, H), after dropout
    context: torch.Tensor  # (B, R, H)
    weights: torch.Tensor  # (B, R, L): attention; sums to the share that went to the picture
    sentinel: torch.Tensor  # (B, R): the rest, which went to what has been said


class AdaptiveDecoder(AnyDecoder):
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
        self.dropout = nn.Dropout(config.dropout)
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

    def memorise(self, sight: Sight, shown: torch.Tensor | None = None) -> AdaptiveMemory:
        """What the encoder sees to annotations and attention keys.

        Of images that `shown` (B,) is false for, only the words that are seen in them are used: a way of training.
        """
        coarse = self.of_grid(_places(sight.grid))  # (B, l, H)
        fine = self.of_fine(_places(sight.fine))  # (B, L, H)
        if shown is not None:
            shown = shown[:, None, None]
            coarse, fine = torch.where(shown, coarse, 0.0), torch.where(shown, fine, self.unseen.to(fine.dtype))
        coarse = coarse + self.of_words(sight.words.to(coarse.dtype))
        enlarge = spread(sight.grid.shape[2], sight.fine.shape[2], sight.grid.device)  # (L, l)
        annotations = self._annotate(enlarge.to(coarse.dtype) @ coarse + fine)
        return self._memory(annotations, sight.words, enlarge, sight.fine.shape[2], sight.fine.shape[3])

    def remember(self, tensors: Iterable[torch.Tensor]) -> AdaptiveMemory:
        """See AnyDecoder."""
        annotations, keys, words, evidence = tensors
        fine, coarse = isqrt(annotations.shape[1]), isqrt(words.shape[1])
        enlarge = spread(coarse, fine, annotations.device)
        return AdaptiveMemory(annotations, keys, fine, fine, words, evidence, enlarge, self.seen_as)

    def imagine(self, words: torch.Tensor) -> AdaptiveMemory:
        """A picture that nobody took: places (B, l, N) that show the given words, and nothing else."""
        return self._memory(self._annotate(self.unseen + self.of_words(words)), words, None, 1, words.shape[1])

    def _annotate(self, seen: torch.Tensor) -> torch.Tensor:
        return functional.relu(self.norm(seen))

    def _memory(
        self, annotations: torch.Tensor, words: torch.Tensor, coarse: torch.Tensor | None, rows: int, cols: int
    ) -> AdaptiveMemory:
        evidence = torch.log((anywhere(words) + FAINT) / (self.usual_anywhere + FAINT))
        return AdaptiveMemory(
            annotations, self.key(annotations), rows, cols, words.float(), evidence, coarse, self.seen_as
        )

    def start(self, memory: Memory, rows: int) -> State:
        """The state before the first word: read off the mean annotation, the same for all `rows` of an image."""
        state = torch.tanh(self.initial(memory.annotations.mean(dim=1)).float())  # (B, 3 H)
        return State(state.view(-1, 1, 3, 1, self.hidden_size).unbind(dim=2)).widened(rows)

    def step(self, tokens: torch.Tensor, state: State, memory: Memory) -> tuple[torch.Tensor, State, torch.Tensor]:
        """One word further: previous `tokens` (B, R) to logits (B, R, V), the new state, and attention (B, R, L).

        The attention of a row sums to the share of it that went to the picture: little, for a word such as "of".
        """
        glance, state = self.glance(tokens, state, memory)
        return self.read(glance, memory), state, glance.weights

    def glance(self, tokens: torch.Tensor, state: State, memory: Memory) -> tuple[Glance, State]:
        """The recurrent half of a step. In training the other half, `read`, is done for all steps at once."""
        hidden, cell, context = (part[:, :, 0] for part in state.parts)  # each (B, R, H)
        embedded = self.dropout(self.embedding(tokens))
        inputs = torch.cat([embedded, context.to(embedded.dtype)], dim=2)
        new_hidden, new_cell = self.cell(inputs, (hidden, cell))
        gate = torch.sigmoid(self.sentinel_gate(torch.cat([inputs, hidden.to(inputs.dtype)], dim=2)))
        sentinel = gate * torch.tanh(new_cell)
        dropped = self.dropout(new_hidden)
        query = self.query(dropped)  # (B, R, A)
        scores = query @ memory.keys.transpose(1, 2)  # (B, R, L)
        sentinel_score = (query * self.sentinel_key(sentinel)).sum(dim=2, keepdim=True)
        # float(): half precision has too few digits for a softmax whose tail is shown to people.
        attention = (torch.cat([scores, sentinel_score], dim=2).float() * query.shape[2] ** -0.5).softmax(dim=2)
        weights, not_looking = attention[:, :, :-1], attention[:, :, -1:]
        context = weights.to(memory.annotations.dtype) @ memory.annotations
        context = context + not_looking.to(context.dtype) * self.sentinel_value(sentinel)
        parts = tuple(part.float().unsqueeze(2) for part in (new_hidden, new_cell, context))
        return Glance(embedded, dropped, context, weights, not_looking.squeeze(2)), State(parts)

    def read(self, glance: Glance, memory: Memory, real: torch.Tensor | None = None) -> torch.Tensor:
        """Scores of the next word: logits (B, R, V), from what the step was about and from what it saw there.

        With `real` (B, R), only of the n rows for which that is true: (n, V).
        """
        assert isinstance(memory, AdaptiveMemory)
        seen = self.seen(glance.weights, self.trust(glance.hidden).float(), memory)
        parts = (glance.embedded, glance.hidden, glance.context, seen)
        embedded, hidden, context, seen = parts if real is None else (part[real] for part in parts)
        deep = embedded + self.deep_hidden(hidden) + self.deep_context(context)
        logits = functional.linear(self.dropout(torch.tanh(deep)), self.embedding.weight).float() + self.output_bias
        named = (self.seen_as < seen.shape[-1]).nonzero().squeeze(1)
        return logits.index_add(-1, named, seen.index_select(-1, self.seen_as[named]))

    def seen(self, weights: torch.Tensor, trust: torch.Tensor, memory: AdaptiveMemory) -> torch.Tensor:
        """How much more probable each of the detector's words (B, R, N) gets by being seen.

        From where a step looked, `weights` (B, R, L), and what `self.trust` says of its hidden state, (B, R, 2).
        """
        looked = weights / weights.sum(dim=2, keepdim=True).clamp_min(1e-6)
        looked = looked if memory.coarse is None else looked @ memory.coarse  # (B, R, l)
        here = torch.log((looked @ memory.words + FAINT) / (self.usual_here + FAINT))
        trust = functional.softplus(trust)
        return (trust[:, :, :1] * here + trust[:, :, 1:] * memory.evidence.unsqueeze(1)) * self.word_trust

    def forward(self, memory: Memory, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See AnyDecoder."""
        glances = self.unroll(memory, tokens)
        shape = tokens.shape
        return self.read(glances, memory).view(*shape, -1), glances.weights.view(*shape, -1)

    def unroll(self, memory: Memory, tokens: torch.Tensor) -> Glance:
        """The glances of all steps of teacher forcing, as those of R * T rows, the steps of a row together."""
        start = self.start(memory, tokens.shape[1])
        hidden, cell, context = (part[:, :, 0] for part in start.parts)  # each (B, R, H)
        embedded = self.dropout(self.embedding(tokens))  # (B, R, T, E)
        # As in `glance`, but that all that does not depend on the steps before is one product for all steps, and what
        # the context and the hidden state are multiplied with is one matrix.
        size, gate = embedded.shape[3], self.sentinel_gate
        of_words = functional.linear(
            embedded,
            torch.cat([self.cell.weight_ih[:, :size], gate.weight[:, :size]]),
            torch.cat([self.cell.bias_ih + self.cell.bias_hh, gate.bias]),
        )  # (B, R, T, 5 H)
        of_state = torch.cat(
            [torch.cat([self.cell.weight_ih[:, size:], self.cell.weight_hh], dim=1), gate.weight[:, size:]]
        ).to(of_words.dtype)  # (5 H, 2 H); autocast would cast it anew in every step
        attend = Attending(memory.annotations.to(of_words.dtype), memory.keys.to(of_words.dtype))
        context, hidden = context.to(of_words.dtype), hidden.to(of_words.dtype)
        hiddens, contexts, all_weights, sentinels = [], [], [], []
        for of_word in of_words.unbind(dim=2):
            gates = of_word + functional.linear(torch.cat([context, hidden], dim=2), of_state)
            i, f, g, o, s = gates.chunk(5, dim=2)
            cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
            memorised = torch.tanh(cell)
            hidden = (torch.sigmoid(o) * memorised).to(context.dtype)
            sentinel = (torch.sigmoid(s) * memorised).to(context.dtype)
            dropped = self.dropout(hidden)
            query = self.query(dropped)
            sentinel_score = (query * self.sentinel_key(sentinel)).sum(dim=2, keepdim=True)
            context, weights, not_looking = attend(query, sentinel_score.to(query.dtype))
            context = context + not_looking.to(context.dtype) * self.sentinel_value(sentinel)
            hiddens.append(dropped)
            contexts.append(context)
            all_weights.append(weights)
            sentinels.append(not_looking)
        flat = embedded.flatten(1, 2), *(torch.stack(p, dim=2).flatten(1, 2) for p in (hiddens, contexts, all_weights))
        return Glance(*flat, torch.cat(sentinels, dim=2).flatten(1, 2))


def _places(grid: torch.Tensor) -> torch.Tensor:
    """A grid (B, C, R, R) as a list of places (B, R * R, C), row by row."""
    return grid.flatten(2).transpose(1, 2)
