"""Beam search as it is usually written for Show, Attend and Tell, image by image: what ours is compared with.

In: a decoder, and what it remembers of images; out: the best hypothesis of each. The form is that of the widely copied
PyTorch tutorials: a Python loop over images and, inside, over words; hypotheses as lists; each with a copy of the
annotations of its own, whose attention keys are computed anew for every word. Scores, rules and the length
normalisation are those of model/search.py and model/rules.py, written out again, so that the results must be the same.
"""

import dataclasses
from dataclasses import dataclass

import torch

from model.adaptive import AdaptiveDecoder
from model.cells import State
from model.decoder import AnyDecoder, Decoder
from model.hypothesis import Hypothesis
from model.memory import Memory
from model.vocabulary import END, PAD, START, UNKNOWN

_LENGTH_POWER = 0.7


@dataclass(frozen=True, slots=True)
class _Beam:
    """One hypothesis on its way; with an <end>, once it has ended."""

    tokens: list[int]
    logprobs: list[float]
    attention: list[torch.Tensor]  # (L,) each
    total: float
    state: State  # of one row of one image

    @property
    def ended(self) -> bool:
        return END in self.tokens[-1:]

    @property
    def score(self) -> float:
        return self.total / float(max(len(self.tokens), 1) ** _LENGTH_POWER)


@torch.inference_mode()
def usual_search(
    decoder: AnyDecoder, memory: Memory, *, beams: int, max_words: int, repeatable: int | None, together: bool = True
) -> list[Hypothesis]:
    """The best hypothesis of each image. `together`: the beams of an image are a small batch; else each goes alone."""
    found = []
    for image in range(memory.images):
        alone = memory.select([image])
        kept = [_Beam([], [], [], 0.0, decoder.start(alone, rows=1))]
        for _ in range(max_words):
            live = [beam for beam in kept if not beam.ended]
            if not live:
                break
            candidates = [beam for beam in kept if beam.ended]
            for some in [live] if together else [[beam] for beam in live]:
                candidates += _continuations(decoder, alone, some, beams, repeatable)
            kept = sorted(candidates, key=lambda beam: beam.total, reverse=True)[:beams]
        best = max(kept, key=lambda beam: beam.score)
        words = len(best.tokens) - best.ended
        attention = torch.stack(best.attention[:words]).float().cpu()
        found.append(Hypothesis(best.tokens[:words], best.logprobs[:words], attention, best.total))
    return found


def _continuations(
    decoder: AnyDecoder, memory: Memory, live: list[_Beam], beams: int, repeatable: int | None
) -> list[_Beam]:
    """The `beams` best continuations of each live hypothesis of one image."""
    copies = memory.select([0] * len(live))
    copies = dataclasses.replace(copies, keys=_keys(decoder, copies.annotations))
    previous = torch.tensor([[(beam.tokens or [START])[-1]] for beam in live], device=memory.annotations.device)
    state = State(tuple(torch.cat(parts) for parts in zip(*(beam.state.parts for beam in live), strict=True)))
    logits, state, weights = decoder.step(previous, state, copies)
    logprobs = logits[:, 0].log_softmax(dim=1)  # (K, V)
    for row, beam in enumerate(live):
        logprobs[row, _forbidden(beam.tokens, repeatable)] = -torch.inf
    best, words = logprobs.topk(beams, dim=1)
    return [
        _Beam(
            [*beam.tokens, word],
            [*beam.logprobs, logprob],
            [*beam.attention, weights[row, 0]],
            beam.total + logprob,
            State(tuple(part[row : row + 1] for part in state.parts)),
        )
        for row, beam in enumerate(live)
        for logprob, word in zip(best[row].tolist(), words[row].tolist(), strict=True)
    ]


def _keys(decoder: AnyDecoder, annotations: torch.Tensor) -> torch.Tensor:
    """Attention keys of annotations (K, L, D), which the tutorials compute for every word."""
    if isinstance(decoder, AdaptiveDecoder):
        keys: torch.Tensor = decoder.key(annotations)
        return keys
    assert isinstance(decoder, Decoder)
    return annotations[:, :, :0] if decoder.attention is None else decoder.attention.keys(annotations)


def _forbidden(said: list[int], repeatable: int | None) -> list[int]:
    """What may not follow `said`: as model/rules.py has it, for words."""
    forbidden = [PAD, START, UNKNOWN]
    if not said:
        return [*forbidden, END]
    if repeatable is not None:
        latest = said[-repeatable:]
        starts = range(len(said) - repeatable)
        forbidden += [said[start + repeatable] for start in starts if said[start : start + repeatable] == latest]
        forbidden.append(said[-1])
    return forbidden
