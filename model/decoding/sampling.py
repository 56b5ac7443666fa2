"""Sampling for a whole batch: rows are images x sentences.

The random numbers belong to the image, so that its sentences do not depend on the rest of the batch.
"""

from collections.abc import Sequence

import torch

from model.decoding.constraints import CharacterConstraints, Constraints
from model.decoding.detokenize import Hypothesis, to_hypotheses
from model.decoding.streaming import ListenerBridge
from model.decoding.teacher_forcing import force_prefix
from model.network.decoder import StepDecoder
from model.network.encoded_images import EncodedImages
from model.text.vocabulary import END

# Beyond these temperatures float32 overflows; sampling is greedy or uniform anyway.
_MIN_TEMPERATURE, _MAX_TEMPERATURE = 1e-30, 1e30


def uniform_numbers(seeds: Sequence[int | None], sentences: int, words: int) -> torch.Tensor:
    """Return random numbers (B, sentences, words) in [0, 1) on the CPU, from one seed per image; None: a fresh seed.

    The first sentences of an image get the same numbers however many there are.
    """
    numbers = []
    for seed in seeds:
        generator = torch.Generator()
        if seed is None:
            generator.seed()
        else:
            generator.manual_seed(seed)
        numbers.append(torch.rand(sentences, words, generator=generator))
    return torch.stack(numbers)


@torch.inference_mode()
def sample(
    decoder: StepDecoder,
    encoded: EncodedImages,
    *,
    uniform: torch.Tensor,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    repeatable: int | None = None,
    prefix: Sequence[int] = (),
    characters: CharacterConstraints | None = None,
    bridge: ListenerBridge | None = None,
) -> list[list[Hypothesis]]:
    """Sample R sentences for each image with the random numbers `uniform` (B, R, T) in [0, 1), in that order.

    Every sentence starts with the tokens `prefix`; constraints.py says which tokens may follow. A sentence without
    <end> is cut T tokens after the prefix. Log-probabilities are those of the unrestricted decoder.
    """
    device = encoded.annotations.device
    uniform = uniform.to(device)
    rows = uniform.shape[1]
    forced = force_prefix(decoder, encoded, prefix, bridge)
    state, previous, tokens = forced.expand_state(rows), forced.previous.expand(-1, rows), forced.expand_tokens(rows)
    ended = torch.zeros_like(previous, dtype=torch.bool)
    constraints = Constraints(repeatable, device, characters)
    logprobs_of_steps = list(forced.logprobs.unsqueeze(1).expand(-1, rows, -1).unbind(dim=2))
    attention_of_steps = list(forced.attention.unsqueeze(1).expand(-1, rows, -1, -1).unbind(dim=2))

    for numbers in uniform.unbind(dim=2):  # (B, R)
        logits, state, weights = decoder.step(previous, state, encoded)
        logprobs = logits.log_softmax(dim=2)  # (B, R, V)
        constraints.apply(logprobs, tokens)
        previous = draw(logprobs, numbers, temperature, top_k, top_p).masked_fill(ended, END)
        chosen = logprobs.gather(2, previous.unsqueeze(2)).squeeze(2).masked_fill(ended, 0.0)  # (B, R)
        logprobs_of_steps.append(chosen)
        attention_of_steps.append(weights)
        if bridge is not None:
            bridge.step(previous, chosen, weights)
            previous = previous.masked_fill(bridge.abandoned_rows, END)
        tokens = torch.cat([tokens, previous.unsqueeze(2)], dim=2)
        ended = previous == END
        if bool(ended.all()):
            break

    logprobs = torch.stack(logprobs_of_steps, dim=2)
    return to_hypotheses(tokens, logprobs, torch.stack(attention_of_steps, dim=2), logprobs.sum(dim=2))


def draw(
    logprobs: torch.Tensor, numbers: torch.Tensor, temperature: float, top_k: int | None, top_p: float | None
) -> torch.Tensor:
    """Draw tokens (B, R) from `logprobs` (B, R, V) with `numbers` (B, R) in [0, 1), by the inverse CDF.

    Applies the temperature, then keeps the `top_k` most probable tokens, then the most probable ones that make up
    `top_p` of the remaining probability. The most probable token always stays.
    """
    best = logprobs.amax(dim=2, keepdim=True)
    logits = (logprobs - best) / min(max(temperature, _MIN_TEMPERATURE), _MAX_TEMPERATURE)
    if top_k is not None or top_p is not None:
        logits = _truncated(logits, top_k, top_p)
    probabilities = logits.softmax(dim=2)
    # Vocabulary order, not probability order: tokens of nearly equal probability could swap between batches.
    # Zeros keep rounding from choosing a token without probability.
    cumulated = probabilities.cumsum(dim=2).masked_fill(probabilities == 0, 0.0)
    threshold = numbers.unsqueeze(2) * cumulated.amax(dim=2, keepdim=True)
    return (cumulated > threshold).to(torch.uint8).argmax(dim=2)  # the first token above the threshold


def _truncated(logits: torch.Tensor, top_k: int | None, top_p: float | None) -> torch.Tensor:
    """Return `logits` (B, R, V) with -inf for all but the most probable tokens."""
    ranked, order = logits.sort(dim=2, descending=True, stable=True)
    if top_k is not None:
        ranked[:, :, top_k:] = -torch.inf
    if top_p is not None:
        probabilities = ranked.softmax(dim=2)
        before = probabilities.cumsum(dim=2) - probabilities  # the mass of more probable tokens
        ranked = ranked.masked_fill(before >= top_p, -torch.inf)
    return torch.empty_like(logits).scatter_(2, order, ranked)
