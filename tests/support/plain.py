"""Tiny decoders with random weights, and plain searches: one sentence at a time, by teacher forcing."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from model.decoding.beam_search import beam_search
from model.decoding.detokenize import Hypothesis
from model.network.decoder import Decoder, DecoderConfig
from model.network.encoded_images import EncodedImages
from model.text.vocabulary import END, PAD, SPECIALS, START, UNKNOWN, Vocabulary

SPECIAL = len(SPECIALS)
LENGTH_POWER = 0.7
SEEDS = range(6)


def random_decoder(seed: int, words: int, end: float = 0.0, **parts: Any) -> Decoder:
    """Return a decoder with `words` words and the special tokens, with peaked distributions so that beams differ.

    `end` is added to the logit of <end>; `parts` configure the decoder, such as its cell.
    """
    torch.manual_seed(seed)
    config = DecoderConfig(embedding_size=8, hidden_size=8, annotation_size=8, attention_size=8, **parts)
    decoder = Decoder(config, channels=6, vocabulary_size=SPECIAL + words).eval()
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.mul_(2)
        decoder.output_bias[END] += end
    return decoder


@torch.inference_mode()
def random_encoding(decoder: Decoder, images: int = 1) -> EncodedImages:
    return decoder.encode(torch.randn(images, 6, 2, 3, generator=torch.Generator().manual_seed(99)))


def random_vocabulary(words: int) -> Vocabulary:
    """Return a vocabulary for `random_decoder`: w0, w1 and so on."""
    return Vocabulary([f"w{number}" for number in range(words)])


@dataclass(frozen=True)
class Score:
    """The scores of a sentence by teacher forcing."""

    logprobs: list[float]
    attention: torch.Tensor  # (T, L)
    logprob: float
    rank: float


@torch.inference_mode()
def score(decoder: Decoder, encoded: EncodedImages, tokens: list[int], max_words: int) -> Score:
    """Score a sentence by teacher forcing. It ends with <end> unless it is cut at the limit."""
    logits, attention = decoder(encoded, torch.tensor([[[START, *tokens]]]))
    logprobs = logits[0, 0].log_softmax(dim=1)  # (T + 1, V)
    decisions = tokens if len(tokens) == max_words else [*tokens, END]
    of_decisions = [logprobs[step, token].item() for step, token in enumerate(decisions)]
    total = sum(of_decisions)
    return Score(
        of_decisions[: len(tokens)],
        attention[0, 0, : len(tokens)],
        total,
        total / len(decisions) ** LENGTH_POWER,
    )


def assert_scores_match(decoder: Decoder, encoded: EncodedImages, hypothesis: Hypothesis, max_words: int) -> None:
    expected = score(decoder, encoded, hypothesis.tokens, max_words)
    assert hypothesis.logprob == pytest.approx(expected.logprob, abs=1e-4)
    assert hypothesis.logprobs == pytest.approx(expected.logprobs, abs=1e-4)
    torch.testing.assert_close(hypothesis.attention, expected.attention)


def repeats_run(tokens: list[int], count: int) -> bool:
    """Return whether the last `count` tokens also stand together earlier."""
    runs = [tuple(tokens[start : start + count]) for start in range(len(tokens) - count + 1)]
    return bool(runs) and runs[-1] in runs[:-1]


@torch.inference_mode()
def next_words(decoder: Decoder, encoded: EncodedImages, tokens: list[int], repeatable: int | None) -> dict[int, float]:
    """Return the tokens that may follow `tokens`, with their log-probabilities."""
    logits, _ = decoder(encoded, torch.tensor([[[START, *tokens]]]))
    return {
        token: logprob
        for token, logprob in enumerate(logits[0, 0, -1].log_softmax(dim=0).tolist())
        if token not in (PAD, START, UNKNOWN)
        and not (token == END and not tokens)
        and (repeatable is None or (tokens[-1:] != [token] and not repeats_run([*tokens, token], repeatable + 1)))
    }


def plain_beams(
    decoder: Decoder,
    encoded: EncodedImages,
    beams: int,
    max_words: int,
    repeatable: int | None = None,
    prefix: Sequence[int] = (),
) -> Iterator[list[tuple[float, list[int]]]]:
    """Search for one image, by teacher forcing each sentence anew. Yields the beams of each step, the best first."""
    alive: list[tuple[float, list[int]]] = [(0.0, [*prefix])]
    for _ in range(max_words):
        candidates = []
        for total, tokens in alive:
            if tokens and tokens[-1] == END:
                candidates.append((total, tokens))
                continue
            for token, logprob in next_words(decoder, encoded, tokens, repeatable).items():
                candidates.append((total + logprob, [*tokens, token]))
        alive = sorted(candidates, reverse=True)[:beams]
        yield alive


def plain_beam_search(
    decoder: Decoder,
    encoded: EncodedImages,
    beams: int,
    max_words: int,
    repeatable: int | None = None,
    prefix: Sequence[int] = (),
) -> list[list[int]]:
    """Return the sentences of a plain beam search, best first."""
    *_, alive = plain_beams(decoder, encoded, beams, max_words, repeatable, prefix)
    alive.sort(key=lambda hypothesis: hypothesis[0] / (len(hypothesis[1]) - len(prefix)) ** LENGTH_POWER, reverse=True)
    return [[token for token in tokens if token != END] for _, tokens in alive]


def assert_equals_plain_beam_search(decoder: Decoder, beams: int, max_words: int) -> None:
    """Check the sentences, log-probabilities and attention of beam search."""
    encoded = random_encoding(decoder)
    (found,) = beam_search(decoder, encoded, beam_size=beams, max_words=max_words)
    assert [hypothesis.tokens for hypothesis in found] == plain_beam_search(
        decoder, encoded, beams, max_words=max_words
    )
    for hypothesis in found:
        assert_scores_match(decoder, encoded, hypothesis, max_words=max_words)
