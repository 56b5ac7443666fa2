"""Teacher forcing: the decoder is told the words, whatever it would have said, and we see what it makes of them.

In: a decoder, what it remembers of the images, and words; out: log-probabilities, attention, and the state after the
last word, from which a sentence can be written on. It must not know what the words are for.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from model.decoder import Stepping
from model.memory import Memory
from model.state import State
from model.vocabulary import START
from model.watch import Watching


@dataclass(frozen=True, slots=True)
class Forced:
    """T words that each of B images was told."""

    tokens: torch.Tensor  # (B, T)
    logprobs: torch.Tensor  # (B, T), float32
    attention: torch.Tensor  # (B, T, L), float32
    previous: torch.Tensor  # (B, 1): the last word, or <start> when there was none
    state: State  # after that word, of one row an image

    def state_of(self, rows: int) -> State:
        """The state after the last word, the same for all `rows` of an image."""
        return self.state.widened(rows)

    def of(self, images: torch.Tensor) -> "Forced":
        """What some of the images were told."""
        return Forced(
            tokens=self.tokens[images],
            logprobs=self.logprobs[images],
            attention=self.attention[images],
            previous=self.previous[images],
            state=self.state.images(images),
        )

    def said_by(self, rows: int) -> torch.Tensor:
        """The words (B, rows, T), the same for all `rows` of an image."""
        return self.tokens.unsqueeze(1).expand(-1, rows, -1)


@torch.inference_mode()
def force(decoder: Stepping, memory: Memory, tokens: torch.Tensor, watching: Watching | None = None) -> Forced:
    """Tell each image its `tokens` (B, T), which T = 0 leaves at the start of a sentence. Reports to `watching`."""
    places = memory.annotations.shape[1]
    logprobs = torch.empty(tokens.shape, device=tokens.device)
    attention = torch.empty((*tokens.shape, places), device=tokens.device)
    first = memory.first
    previous = torch.full((memory.images, 1), START, device=tokens.device) if first is None else first
    state = decoder.start(memory, rows=1)
    for step, token in enumerate(tokens.unbind(dim=1)):  # (B,)
        logits, state, weights = decoder.step(previous, state, memory)
        previous = token.unsqueeze(1)
        logprob = logits.log_softmax(dim=2).gather(2, previous.unsqueeze(2)).squeeze(2)  # (B, 1)
        logprobs[:, step], attention[:, step] = logprob[:, 0], weights[:, 0]
        if watching is not None:
            watching.step(previous, logprob, weights)
    return Forced(tokens, logprobs, attention, previous, state)


def force_prefix(decoder: Stepping, memory: Memory, prefix: Sequence[int], watching: Watching | None) -> Forced:
    """Tell every image the same words, which may be none."""
    tokens = torch.tensor(prefix, dtype=torch.long, device=memory.annotations.device)
    return force(decoder, memory, tokens.expand(memory.images, -1), watching)
