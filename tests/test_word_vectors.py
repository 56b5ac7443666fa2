"""Word vectors: what they are computed from, that words used alike are alike, and where they go."""

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array
from torch import nn

from model.training.recipe import Recipe
from model.training.word_vectors import (
    WordVectorRecipe,
    begin_with_word_vectors,
    cooccurrence,
    mutual_information,
    reduced,
)
from model.vocabulary import UNKNOWN, Vocabulary

A, B, C = 4, 5, 6


def test_nearer_words_are_more_company_and_other_sentences_are_none() -> None:
    counts = cooccurrence([[A, B, C], [A], [C]], 7, window=2).toarray()
    assert np.array_equal(counts, counts.T)
    assert (counts[A, B], counts[B, C], counts[A, C]) == (1, 1, 0.5)
    assert counts.sum() == 5
    assert cooccurrence([[A, UNKNOWN, C]], 7, window=2).toarray()[A].tolist() == [0, 0, 0, 0, 0, 0, 0.5]


def test_information_is_what_its_definition_says() -> None:
    counts = np.array([[0.0, 3.0, 1.0], [3.0, 0.0, 0.0], [1.0, 0.0, 4.0]])
    found = mutual_information(csr_array(counts), WordVectorRecipe(smoothing=1)).toarray()
    joint = counts / counts.sum()
    with np.errstate(divide="ignore"):
        expected = np.log(joint / np.outer(joint.sum(axis=1), joint.sum(axis=0)))
    np.testing.assert_allclose(found, np.maximum(0, expected))
    shifted = mutual_information(csr_array(counts), WordVectorRecipe(smoothing=1, negatives=1.5)).toarray()
    np.testing.assert_allclose(shifted, np.maximum(0, expected - np.log(1.5)))


def test_all_dimensions_give_back_what_was_reduced() -> None:
    root = np.random.default_rng(0).random((6, 4))
    whole = root @ root.T  # of rank 4, and no negative direction: the vectors' products are the numbers themselves
    vectors = reduced(csr_array(whole), 5)
    np.testing.assert_allclose(vectors @ vectors.T, whole, atol=1e-8)
    assert reduced(csr_array(whole), 20).shape == (6, 20)


def test_words_used_alike_are_alike_and_those_that_text_lacks_are_left_alone() -> None:
    vocabulary = Vocabulary(["dog", "cat", "runs", "sleeps", "red", "blue", "car", "train", "never"])
    sentences = [f"{a} {b}" for a in ("dog", "cat") for b in ("runs", "sleeps") for _ in range(3)]
    sentences += [f"{a} {b}" for a in ("red", "blue") for b in ("car", "train") for _ in range(3)]
    torch.manual_seed(0)
    embedding = nn.Embedding(len(vocabulary), 6)
    before = embedding.weight.detach().clone()
    begin_with_word_vectors(embedding, vocabulary, sentences, WordVectorRecipe())
    vectors = {word: embedding.weight.detach()[vocabulary.token(word)] for word in vocabulary.words}

    def likeness(one: str, other: str) -> float:
        return float(torch.cosine_similarity(vectors[one], vectors[other], dim=0))

    assert likeness("dog", "cat") > 0.99
    assert likeness("car", "train") > 0.99
    assert abs(likeness("dog", "car")) < 0.01
    for word in ("<pad>", "<start>", "<end>", "<unk>", "never"):
        assert torch.equal(vectors[word], before[vocabulary.token(word)])
    known = torch.stack([vectors[word] for word in vocabulary.words[4:-1]])
    assert known.square().sum(dim=1).mean().item() == pytest.approx(1)


def test_only_a_new_decoder_of_words_can_have_them() -> None:
    for settings in ({"start_from": "x"}, {"captioner": {"tokens": "character"}}):
        with pytest.raises(ValueError, match="word_vectors"):
            Recipe.model_validate({"word_vectors": {}, **settings})
