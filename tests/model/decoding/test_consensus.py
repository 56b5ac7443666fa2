"""Consensus captions: the sentence that agrees most with the others."""

import math
from collections import Counter

import numpy as np
import pytest
import torch
from support.plain import SEEDS, random_decoder, random_memory, random_vocabulary

from model.decoding.consensus import agreement, by_consensus
from model.decoding.detokenize import Hypothesis
from model.decoding.generate import generate
from model.decoding.options import DecodingOptions, Strategy
from model.training.cider import CiderD

VOCABULARY = random_vocabulary(12)
EVEN = np.ones(20)


def hypothesis(*tokens: int) -> Hypothesis:
    return Hypothesis(list(tokens), [0.0] * len(tokens), torch.zeros(len(tokens), 1), 0.0)


def plain_agreement(caption: list[int], reference: list[int], rarity: list[float]) -> float:
    """CIDEr-D of one caption and one reference, as its authors write it."""
    similarities = []
    for order in (1, 2, 3, 4):
        vectors = [
            {
                run: count * sum(rarity[token] for token in run)
                for run, count in Counter(zip(*(tokens[start:] for start in range(order)), strict=False)).items()
            }
            for tokens in (caption, reference)
        ]
        product = sum(
            min(weight, vectors[1].get(run, 0.0)) * vectors[1].get(run, 0.0) for run, weight in vectors[0].items()
        )
        norms = math.prod(math.sqrt(sum(weight**2 for weight in vector.values())) for vector in vectors)
        similarities.append(product / norms if norms else 0.0)
    return sum(similarities) / 4 * math.exp(-((len(caption) - len(reference)) ** 2) / (2 * 6**2))


@pytest.mark.parametrize("seed", SEEDS)
def test_agreement_is_cider_d_with_the_rarity_of_tokens(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sentences = [rng.integers(0, 6, size=length).tolist() for length in (0, 1, 3, 5, 8, 12)]
    rarity = rng.uniform(0.5, 9, size=6)
    expected = [[plain_agreement(one, other, rarity.tolist()) for other in sentences] for one in sentences]
    assert agreement(sentences, rarity) == pytest.approx(np.array(expected))


def test_where_all_runs_are_as_rare_it_is_the_reward_of_training() -> None:
    sentences = [[4, 5, 6, 4, 5], [4, 5, 6], [7, 8, 4, 5, 6, 9]]
    # Of runs that are in none of its documents, CiderD weighs all alike.
    cider = CiderD([[[0]], [[0]]], token_count=20)
    ours = agreement(sentences, EVEN)
    for row, caption in enumerate(sentences):
        for column, reference in enumerate(sentences):
            expected = cider.score(caption, cider.prepare([reference])) / 10
            assert ours[row, column] == pytest.approx(expected)


def test_the_sentence_that_most_agree_with_comes_first_and_among_equals_the_likelier() -> None:
    alone, dog, small_dog = hypothesis(4, 5, 6), hypothesis(7, 8, 9), hypothesis(7, 10, 8, 9)
    assert by_consensus([alone, small_dog, dog], EVEN)[-1] is alone
    same = [hypothesis(4, 5), hypothesis(6, 7)]
    assert by_consensus(same, EVEN) == same
    assert by_consensus(same[:1], EVEN) == same[:1]


def test_what_is_rare_counts_more() -> None:
    pairs = [hypothesis(4, 5), hypothesis(4, 6), hypothesis(8, 9), hypothesis(8, 10)]
    rarity = EVEN.copy()
    rarity[4] = 5.0
    assert by_consensus(pairs, rarity)[:2] == pairs[:2]
    rarity[8] = 50.0
    assert by_consensus(pairs, rarity)[:2] == pairs[2:]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_consensus_is_one_of_the_beams_with_its_log_probability_and_attention(seed: int) -> None:
    decoder = random_decoder(seed, 12)
    encoded = random_memory(decoder, images=3)
    asked = {"beam_size": 8, "num_captions": 8, "max_words": 8}
    beams, agreed = (
        generate(decoder, VOCABULARY, encoded, DecodingOptions(strategy=way, **asked), seeds=None, listener=None)
        for way in (Strategy.BEAM, Strategy.CONSENSUS)
    )
    rarity = -decoder.output_bias.detach().log_softmax(dim=0).double().numpy()
    for of_beams, of_consensus in zip(beams, agreed, strict=True):
        tokens = [VOCABULARY.encode(caption.text) for caption in of_beams]
        order = np.argsort(-agreement(tokens, rarity).mean(axis=1), kind="stable")
        assert of_consensus == [of_beams[place] for place in order]
