"""Beam search over a whole batch at once: rows are images x beams. Greedy search is the search with one beam.

In: a decoder and what it remembers of the images; out: for each image its best token sequences with
log-probabilities and attention. It must not know what the tokens mean, beyond the special ones.
"""

import math
from collections.abc import Sequence

import torch

from model.decoding.beams import Beams, CommonPrefixes, Step
from model.decoding.constraints import CharacterConstraints, Constraints
from model.decoding.detokenize import Hypothesis, read_off
from model.decoding.streaming import ListenerBridge
from model.decoding.teacher_forcing import ForcedTokens, force_prefix
from model.network.decoder import StepDecoder
from model.network.encoded_images import EncodedImages
from model.text.vocabulary import END

# How large a share of the images has to be finished before they leave the batch, which costs a copy of the others.
_FINISHED = 1 / 4
# A GPU is not asked after every step whether images are finished, since that makes it wait.
_STEPS_UNASKED = {"cuda": 4}


@torch.inference_mode()
def beam_search(
    decoder: StepDecoder,
    encoded: EncodedImages,
    *,
    beams: int,
    max_words: int,
    length_power: float = 0.7,
    repeatable: int | None = None,
    prefix: Sequence[int] = (),
    characters: CharacterConstraints | None = None,
    groups: int = 1,
    diversity: float = 0.0,
    bridge: ListenerBridge | None = None,
) -> list[list[Hypothesis]]:
    """The best hypotheses of each image, best first: all `beams` of them or, with several `groups`, one of each group.

    They start with the tokens `prefix`, and what may follow is in constraints.py. A hypothesis that has not ended
    `max_words` tokens after the prefix is cut there, without an <end>. Hypotheses are ranked by log-probability /
    length ** `length_power`, where the length counts <end>; this keeps the search from preferring sentences only
    because they are short. The prefix counts in neither: an unlikely one would favour long sentences.

    Several groups make it diverse beam search (Vijayakumar et al., 2018). The groups share the beams evenly. One
    after the other chooses its next words, and pays `diversity` for a word each time that a beam of an earlier group
    has chosen it in the same step (the Hamming penalty; ending is free). What a group has paid counts when it chooses
    its best hypothesis, and nowhere else: log-probabilities are those of the unrestricted decoder.
    """
    device, vocabulary_size = encoded.annotations.device, decoder.output_bias.shape[0]
    shape = (encoded.images, beams)
    forced = force_prefix(decoder, encoded, prefix, bridge)
    common_prefixes = CommonPrefixes(forced)
    state, previous = forced.state_of(beams), forced.previous.expand(shape)
    # At first all beams of a group are alike; letting only one of them live keeps the group from choosing the same
    # word many times.
    total = torch.full(shape, -torch.inf, device=device)
    total[:, :: beams // groups] = 0.0
    nothing = torch.zeros(shape, device=device)
    at = Beams(torch.arange(encoded.images, device=device), forced.tokens_of(beams), total, nothing, nothing, [])
    constraints = Constraints(repeatable, device, characters)
    # An ended hypothesis goes on as itself, by <end> at no cost.
    only_end = torch.full((vocabulary_size,), -torch.inf, device=device)
    only_end[END] = 0.0
    found: dict[int, list[Hypothesis]] = {}

    def finish(some: Beams) -> None:
        read = _read(some, forced.of(some.images), length_power, groups)
        found.update(zip(some.images.tolist(), read, strict=True))

    for number in range(max_words):
        logits, new_state, weights = decoder.step(previous, state, encoded)
        logprobs = logits.log_softmax(dim=2)  # (B, K, V)
        constraints.apply(logprobs, at.said)
        logprobs = torch.where(at.ended.unsqueeze(2), only_end, logprobs)
        if groups == 1:
            chosen, paid = _best(at.total.unsqueeze(2) + logprobs, beams), at.paid
        else:
            chosen, paid = _best_of_groups(at.total, at.paid, logprobs, groups, diversity)
        parent, tokens = chosen // vocabulary_size, chosen % vocabulary_size  # (B, K): whose continuation, which word
        chosen_logprobs = logprobs.flatten(1).gather(1, chosen)
        state = new_state.rows(parent)
        length = at.length.gather(1, parent) + ~at.ended.gather(1, parent)
        total = at.total.gather(1, parent) + chosen_logprobs
        said = torch.cat([at.said.gather(1, parent.unsqueeze(2).expand_as(at.said)), tokens.unsqueeze(2)], dim=2)
        at = Beams(at.images, said, total, paid, length, [*at.steps, Step(parent, chosen_logprobs, weights)])
        if bridge is not None:
            # What groups begin with is not asked: which of them comes first is open until the end.
            certain = common_prefixes.further(at, bridge.followed) if groups == 1 else []
            bridge.step(tokens, chosen_logprobs, weights, certain)
            at.tokens.masked_fill_(bridge.abandoned_rows, END)
        previous = at.tokens
        if (number + 1) % _STEPS_UNASKED.get(device.type, 1):
            continue
        finished = at.ended.all(dim=1)
        count = int(finished.sum())
        if count == len(finished):
            break
        if count >= _FINISHED * len(finished):
            finish(at.of(finished))
            rest = (~finished).nonzero().squeeze(1)
            at, encoded, state, previous = at.of(rest), encoded.select(rest), state.images(rest), previous[rest]
            if bridge is not None:
                bridge.keep(rest)

    finish(at)
    return [found[image] for image in range(shape[0])]


def _read(beams: Beams, forced: ForcedTokens, length_power: float, groups: int) -> list[list[Hypothesis]]:
    """The hypotheses of each image, best first."""
    norm = beams.length.clamp(min=1) ** length_power
    ranking = (beams.total / norm).argsort(dim=1, descending=True)
    if groups > 1:
        ranking = _of_each_group_the_best(ranking, (beams.total - beams.paid) / norm, groups)
    logprobs, attention = beams.trace_back(ranking)
    found = read_off(
        beams.said.gather(1, ranking.unsqueeze(2).expand(-1, -1, beams.said.shape[2])),
        torch.cat([forced.logprobs.unsqueeze(1).expand(-1, ranking.shape[1], -1), logprobs], dim=2),
        torch.cat([forced.attention.unsqueeze(1).expand(-1, ranking.shape[1], -1, -1), attention], dim=2),
        beams.total.gather(1, ranking) + forced.logprobs.sum(dim=1, keepdim=True),
    )
    # Where there are fewer continuations than beams, as with a tiny vocabulary, some beams never lived.
    return [[hypothesis for hypothesis in hypotheses if hypothesis.logprob > -math.inf] for hypotheses in found]


def _best(candidates: torch.Tensor, count: int) -> torch.Tensor:
    """The `count` best of all continuations (B, K, V) of an image, as places in (B, K*V)."""
    return candidates.flatten(1).topk(count, dim=1).indices


def _best_of_groups(
    total: torch.Tensor, paid: torch.Tensor, logprobs: torch.Tensor, groups: int, diversity: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Group after group, the best continuations of its own beams, as `_best` gives them, and what they have paid."""
    vocabulary_size = logprobs.shape[2]
    size = total.shape[1] // groups
    price = torch.zeros_like(logprobs[:, 0])  # (B, V): of each word, for the group at hand
    chosen, costs = [], []
    for first in range(0, total.shape[1], size):
        group = slice(first, first + size)
        scores = (total[:, group] - paid[:, group]).unsqueeze(2) + logprobs[:, group] - price.unsqueeze(1)
        best = _best(scores, size)  # (B, K/G), within the group
        parent, tokens = best // vocabulary_size, best % vocabulary_size
        chosen.append(best + first * vocabulary_size)
        costs.append(paid[:, group].gather(1, parent) + price.gather(1, tokens))
        price.scatter_add_(1, tokens, diversity * (tokens != END))
    return torch.cat(chosen, dim=1), torch.cat(costs, dim=1)


def _of_each_group_the_best(ranking: torch.Tensor, penalised: torch.Tensor, groups: int) -> torch.Tensor:
    """Of `ranking` (B, K), only the beams that have the highest score of their group in `penalised` (B, K): (B, G)."""
    size = ranking.shape[1] // groups
    best = penalised.view(-1, groups, size).argmax(dim=2)  # (B, G)
    best = best + torch.arange(0, ranking.shape[1], size, device=best.device)
    place = ranking.argsort(dim=1)  # (B, K): where each beam stands in the ranking
    return best.gather(1, place.gather(1, best).argsort(dim=1))
