"""Consensus reranking: the sentence that agrees best with the others comes first."""

import math
from collections import Counter

import numpy as np
import pytest
import torch
from support.plain import SEEDS, random_decoder, random_encoding, random_vocabulary

from model.decoding.consensus import agreement, rank_by_consensus
from model.decoding.detokenize import Hypothesis
from model.decoding.generate import generate
from model.decoding.options import DecodingOptions, Strategy
from model.training.cider import CiderD

VOCABULARY = random_vocabulary(12)
EVEN = np.ones(20)


def hypothesis(*tokens: int) -> Hypothesis:
    return Hypothesis(list(tokens), [0.0] * len(tokens), torch.zeros(len(tokens), 1), 0.0)


def plain_agreement(caption: list[int], reference: list[int], rarity: list[float]) -> float:
    """Return the CIDEr-D of one caption and one reference, written out as in the paper."""
    similarities = []
    for order in (1, 2, 3, 4):
        vectors = [
            {
                ngram: count * sum(rarity[token] for token in ngram)
                for ngram, count in Counter(zip(*(tokens[start:] for start in range(order)), strict=False)).items()
            }
            for tokens in (caption, reference)
        ]
        product = sum(
            min(weight, vectors[1].get(ngram, 0.0)) * vectors[1].get(ngram, 0.0) for ngram, weight in vectors[0].items()
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


def test_agreement_with_equal_rarity_equals_the_training_reward() -> None:
    sentences = [[4, 5, 6, 4, 5], [4, 5, 6], [7, 8, 4, 5, 6, 9]]
    # CiderD gives equal weight to n-grams that are in none of its documents.
    cider = CiderD([[[0]], [[0]]], token_count=20)
    ours = agreement(sentences, EVEN)
    for row, caption in enumerate(sentences):
        for column, reference in enumerate(sentences):
            expected = cider.score(caption, cider.prepare([reference])) / 10
            assert ours[row, column] == pytest.approx(expected)


def test_the_most_agreed_sentence_comes_first_and_ties_keep_their_order() -> None:
    alone, dog, small_dog = hypothesis(4, 5, 6), hypothesis(7, 8, 9), hypothesis(7, 10, 8, 9)
    assert rank_by_consensus([alone, small_dog, dog], EVEN)[-1] is alone
    same = [hypothesis(4, 5), hypothesis(6, 7)]
    assert rank_by_consensus(same, EVEN) == same
    assert rank_by_consensus(same[:1], EVEN) == same[:1]


def test_rare_tokens_count_more() -> None:
    pairs = [hypothesis(4, 5), hypothesis(4, 6), hypothesis(8, 9), hypothesis(8, 10)]
    rarity = EVEN.copy()
    rarity[4] = 5.0
    assert rank_by_consensus(pairs, rarity)[:2] == pairs[:2]
    rarity[8] = 50.0
    assert rank_by_consensus(pairs, rarity)[:2] == pairs[2:]


@pytest.mark.parametrize("seed", SEEDS)
def test_consensus_reorders_the_beams_without_changing_them(seed: int) -> None:
    decoder = random_decoder(seed, 12)
    encoded = random_encoding(decoder, images=3)
    settings = {"beam_size": 8, "num_captions": 8, "max_words": 8}
    beams, consensus = (
        generate(
            decoder, VOCABULARY, encoded, DecodingOptions(strategy=strategy, **settings), seeds=None, listener=None
        )
        for strategy in (Strategy.BEAM, Strategy.CONSENSUS)
    )
    rarity = -decoder.output_bias.detach().log_softmax(dim=0).double().numpy()
    for of_beams, of_consensus in zip(beams, consensus, strict=True):
        tokens = [VOCABULARY.encode(caption.text) for caption in of_beams]
        order = np.argsort(-agreement(tokens, rarity).mean(axis=1), kind="stable")
        assert of_consensus == [of_beams[place] for place in order]
