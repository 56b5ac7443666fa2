"""Beam search over a whole batch: rows are images x beams. With one beam it is greedy search."""

import math
from collections.abc import Sequence

import torch

from model.decoding.beams import Beams, CommonPrefixes, Step
from model.decoding.constraints import CharacterConstraints, Constraints
from model.decoding.detokenize import Hypothesis, to_hypotheses
from model.decoding.streaming import ListenerBridge
from model.decoding.teacher_forcing import ForcedTokens, force_prefix
from model.network.decoder import StepDecoder
from model.network.encoded_images import EncodedImages
from model.text.vocabulary import END

# Finished images leave the batch once they are this share of it: shrinking copies the others.
_SHRINK_SHARE = 1 / 4
# Checking for finished images synchronises with a GPU, so it does not happen after every step there.
_STEPS_BETWEEN_CHECKS = {"cuda": 4}


@torch.inference_mode()
def beam_search(
    decoder: StepDecoder,
    encoded: EncodedImages,
    *,
    beam_size: int,
    max_words: int,
    length_power: float = 0.7,
    repeatable: int | None = None,
    prefix: Sequence[int] = (),
    characters: CharacterConstraints | None = None,
    groups: int = 1,
    diversity: float = 0.0,
    bridge: ListenerBridge | None = None,
) -> list[list[Hypothesis]]:
    """Return the hypotheses of each image, best first: `beam_size` of them or, with several `groups`, one per group.

    Every hypothesis starts with the tokens `prefix`; constraints.py says which tokens may follow. A hypothesis without
    <end> is cut `max_words` tokens after the prefix. Hypotheses are ranked by log-probability / length **
    `length_power`, where the length counts <end>: without this penalty the search prefers short sentences. The prefix
    counts in neither, because an improbable prefix would favour long sentences.

    Several groups make it diverse beam search (Vijayakumar et al., 2018). The groups share the beams evenly and choose
    their next words one after the other. A group pays `diversity` for a word each time that a beam of an earlier group
    has chosen it in the same step (Hamming penalty; <end> is free). The penalty counts only when a group chooses its
    beams and its best hypothesis. Log-probabilities are those of the unrestricted decoder.
    """
    device, vocabulary_size = encoded.annotations.device, decoder.output_bias.shape[0]
    shape = (encoded.images, beam_size)
    forced = force_prefix(decoder, encoded, prefix, bridge)
    common_prefixes = CommonPrefixes(forced)
    state, previous = forced.expand_state(beam_size), forced.previous.expand(shape)
    # At first all beams of a group are equal. Only the first is alive, so that the group does not choose one word
    # several times.
    total = torch.full(shape, -torch.inf, device=device)
    total[:, :: beam_size // groups] = 0.0
    zeros = torch.zeros(shape, device=device)
    beams = Beams(torch.arange(encoded.images, device=device), forced.expand_tokens(beam_size), total, zeros, zeros, [])
    constraints = Constraints(repeatable, device, characters)
    # An ended hypothesis continues with <end> at no cost.
    only_end = torch.full((vocabulary_size,), -torch.inf, device=device)
    only_end[END] = 0.0
    results: dict[int, list[Hypothesis]] = {}

    def finish(beams: Beams) -> None:
        ranked = _rank(beams, forced.select(beams.images), length_power, groups)
        results.update(zip(beams.images.tolist(), ranked, strict=True))

    for number in range(max_words):
        logits, new_state, weights = decoder.step(previous, state, encoded)
        logprobs = logits.log_softmax(dim=2)  # (B, K, V)
        constraints.apply(logprobs, beams.tokens)
        logprobs = torch.where(beams.ended.unsqueeze(2), only_end, logprobs)
        if groups == 1:
            chosen, penalty = _best(beams.total.unsqueeze(2) + logprobs, beam_size), beams.penalty
        else:
            chosen, penalty = _best_of_groups(beams.total, beams.penalty, logprobs, groups, diversity)
        parent, next_tokens = chosen // vocabulary_size, chosen % vocabulary_size  # each (B, K)
        chosen_logprobs = logprobs.flatten(1).gather(1, chosen)
        state = new_state.rows(parent)
        length = beams.length.gather(1, parent) + ~beams.ended.gather(1, parent)
        total = beams.total.gather(1, parent) + chosen_logprobs
        tokens = torch.cat(
            [beams.tokens.gather(1, parent.unsqueeze(2).expand_as(beams.tokens)), next_tokens.unsqueeze(2)], dim=2
        )
        beams = Beams(
            beams.images, tokens, total, penalty, length, [*beams.steps, Step(parent, chosen_logprobs, weights)]
        )
        if bridge is not None:
            # With several groups nothing is certain before the end: the order of the groups is open.
            certain = common_prefixes.new_tokens(beams, bridge.followed) if groups == 1 else []
            bridge.step(next_tokens, chosen_logprobs, weights, certain)
            beams.latest.masked_fill_(bridge.abandoned_rows, END)
        previous = beams.latest
        if (number + 1) % _STEPS_BETWEEN_CHECKS.get(device.type, 1):
            continue
        finished = beams.ended.all(dim=1)
        count = int(finished.sum())
        if count == len(finished):
            break
        if count >= _SHRINK_SHARE * len(finished):
            finish(beams.select(finished))
            rest = (~finished).nonzero().squeeze(1)
            beams, encoded = beams.select(rest), encoded.select(rest)
            state, previous = state.images(rest), previous[rest]
            if bridge is not None:
                bridge.keep(rest)

    finish(beams)
    return [results[image] for image in range(shape[0])]


def _rank(beams: Beams, forced: ForcedTokens, length_power: float, groups: int) -> list[list[Hypothesis]]:
    """Return the hypotheses of each image, best first."""
    norm = beams.length.clamp(min=1) ** length_power
    ranking = (beams.total / norm).argsort(dim=1, descending=True)
    if groups > 1:
        ranking = _best_of_each_group(ranking, (beams.total - beams.penalty) / norm, groups)
    logprobs, attention = beams.trace_back(ranking)
    ranked = to_hypotheses(
        beams.tokens.gather(1, ranking.unsqueeze(2).expand(-1, -1, beams.tokens.shape[2])),
        torch.cat([forced.logprobs.unsqueeze(1).expand(-1, ranking.shape[1], -1), logprobs], dim=2),
        torch.cat([forced.attention.unsqueeze(1).expand(-1, ranking.shape[1], -1, -1), attention], dim=2),
        beams.total.gather(1, ranking) + forced.logprobs.sum(dim=1, keepdim=True),
    )
    # With fewer continuations than beams, as with a tiny vocabulary, some beams are never alive.
    return [[hypothesis for hypothesis in hypotheses if hypothesis.logprob > -math.inf] for hypotheses in ranked]


def _best(candidates: torch.Tensor, count: int) -> torch.Tensor:
    """Return the `count` best continuations of an image from (B, K, V), as indices into (B, K*V)."""
    return candidates.flatten(1).topk(count, dim=1).indices


def _best_of_groups(
    total: torch.Tensor, penalty: torch.Tensor, logprobs: torch.Tensor, groups: int, diversity: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the best continuations of each group, as indices into (B, K*V), and their penalties (B, K)."""
    vocabulary_size = logprobs.shape[2]
    size = total.shape[1] // groups
    cost = torch.zeros_like(logprobs[:, 0])  # (B, V): of each word, for the current group
    chosen, costs = [], []
    for first in range(0, total.shape[1], size):
        group = slice(first, first + size)
        scores = (total[:, group] - penalty[:, group]).unsqueeze(2) + logprobs[:, group] - cost.unsqueeze(1)
        best = _best(scores, size)  # (B, K/G), within the group
        parent, tokens = best // vocabulary_size, best % vocabulary_size
        chosen.append(best + first * vocabulary_size)
        costs.append(penalty[:, group].gather(1, parent) + cost.gather(1, tokens))
        cost.scatter_add_(1, tokens, diversity * (tokens != END))
    return torch.cat(chosen, dim=1), torch.cat(costs, dim=1)


def _best_of_each_group(ranking: torch.Tensor, penalised: torch.Tensor, groups: int) -> torch.Tensor:
    """Reduce `ranking` (B, K) to the beam of each group with the highest `penalised` score (B, K): (B, G)."""
    size = ranking.shape[1] // groups
    best = penalised.view(-1, groups, size).argmax(dim=2)  # (B, G)
    best = best + torch.arange(0, ranking.shape[1], size, device=best.device)
    place = ranking.argsort(dim=1)  # (B, K): the rank of each beam
    return best.gather(1, place.gather(1, best).argsort(dim=1))
