"""Sentences drawn at random, for a whole batch at once: rows are images x sentences.

In: a decoder, what it remembers of the images, and random numbers; out: for each image the sentences that they choose.
The numbers belong to the image, so that its sentences do not depend on its neighbours in the batch. It must not know
what the tokens mean, beyond the special ones.
"""

from collections.abc import Sequence

import torch

from model.decoding.constraints import CharacterConstraints, Constraints
from model.decoding.detokenize import Hypothesis, read_off
from model.decoding.streaming import ListenerBridge
from model.decoding.teacher_forcing import force_prefix
from model.network.decoder import StepDecoder
from model.network.encoded_images import EncodedImages
from model.text.vocabulary import END

# Beyond these temperatures sampling is greedy, or even, and float32 would overflow.
_COLDEST, _HOTTEST = 1e-30, 1e30


def uniform_numbers(seeds: Sequence[int | None], sentences: int, words: int) -> torch.Tensor:
    """Numbers (B, sentences, words) in [0, 1) on the CPU, each image's from its own seed; None is a fresh one.

    The first sentences of an image have the same numbers however many there are.
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
    """R sentences of each image, in the order drawn, from the numbers `uniform` (B, R, T) in [0, 1).

    They start with the tokens `prefix`, and what may follow is in constraints.py. A sentence that has not ended T
    tokens after the prefix is cut there, without an <end>. Log-probabilities are those of the unrestricted decoder.
    """
    device = encoded.annotations.device
    uniform = uniform.to(device)
    rows = uniform.shape[1]
    forced = force_prefix(decoder, encoded, prefix, bridge)
    state, tokens, said = forced.state_of(rows), forced.previous.expand(-1, rows), forced.tokens_of(rows)
    ended = torch.zeros_like(tokens, dtype=torch.bool)
    constraints = Constraints(repeatable, device, characters)
    logprobs_of_steps = list(forced.logprobs.unsqueeze(1).expand(-1, rows, -1).unbind(dim=2))
    attention_of_steps = list(forced.attention.unsqueeze(1).expand(-1, rows, -1, -1).unbind(dim=2))

    for numbers in uniform.unbind(dim=2):  # (B, R)
        logits, state, weights = decoder.step(tokens, state, encoded)
        logprobs = logits.log_softmax(dim=2)  # (B, R, V)
        constraints.apply(logprobs, said)
        tokens = draw(logprobs, numbers, temperature, top_k, top_p).masked_fill(ended, END)
        chosen = logprobs.gather(2, tokens.unsqueeze(2)).squeeze(2).masked_fill(ended, 0.0)  # (B, R)
        logprobs_of_steps.append(chosen)
        attention_of_steps.append(weights)
        if bridge is not None:
            bridge.step(tokens, chosen, weights)
            tokens = tokens.masked_fill(bridge.abandoned_rows, END)
        said = torch.cat([said, tokens.unsqueeze(2)], dim=2)
        ended = tokens == END
        if bool(ended.all()):
            break

    logprobs = torch.stack(logprobs_of_steps, dim=2)
    return read_off(said, logprobs, torch.stack(attention_of_steps, dim=2), logprobs.sum(dim=2))


def draw(
    logprobs: torch.Tensor, numbers: torch.Tensor, temperature: float, top_k: int | None, top_p: float | None
) -> torch.Tensor:
    """The tokens (B, R) that `numbers` (B, R) in [0, 1) choose from `logprobs` (B, R, V), by the inverse CDF.

    First the temperature, then only the `top_k` likeliest tokens, then only as many of the likeliest as it takes to
    make up `top_p` of what is left; the likeliest always stays.
    """
    likeliest = logprobs.amax(dim=2, keepdim=True)
    logits = (logprobs - likeliest) / min(max(temperature, _COLDEST), _HOTTEST)
    if top_k is not None or top_p is not None:
        logits = _truncated(logits, top_k, top_p)
    probabilities = logits.softmax(dim=2)
    # In the order of the vocabulary, not of probability: tokens nearly alike might change places from batch to batch.
    # Zeros keep rounding from ever choosing what has no probability.
    cumulated = probabilities.cumsum(dim=2).masked_fill(probabilities == 0, 0.0)
    threshold = numbers.unsqueeze(2) * cumulated.amax(dim=2, keepdim=True)
    return (cumulated > threshold).to(torch.uint8).argmax(dim=2)  # the first


def _truncated(logits: torch.Tensor, top_k: int | None, top_p: float | None) -> torch.Tensor:
    """`logits` (B, R, V) with -inf for all but the likeliest."""
    ranked, order = logits.sort(dim=2, descending=True, stable=True)
    if top_k is not None:
        ranked[:, :, top_k:] = -torch.inf
    if top_p is not None:
        probabilities = ranked.softmax(dim=2)
        before = probabilities.cumsum(dim=2) - probabilities  # what likelier tokens make up
        ranked = ranked.masked_fill(before >= top_p, -torch.inf)
    return torch.empty_like(logits).scatter_(2, order, ranked)
