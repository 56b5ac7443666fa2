"""What words mean by the company they keep: vectors for the embedding to begin with. In: text; out: a vector a word.

Positive pointwise mutual information of words near each other, cut to a few dimensions by a singular value
decomposition, with the choices that Levy, Goldberg and Dagan (2015) found to do as well as word2vec. It must not know
of pictures.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel, ConfigDict, Field
from scipy.sparse import coo_array, csr_array, diags_array
from scipy.sparse.linalg import svds
from torch import nn

from model.vocabulary import UNKNOWN, Vocabulary


class WordVectorRecipe(BaseModel):
    """Settings of word vectors."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    files: list[str] = ["flickr30k.txt.gz", "coco.txt.gz"]  # in the folder text/ of the data; captions are read too
    window: int = Field(4, ge=1)  # words on either side that are a word's company; nearer ones count for more
    smoothing: float = Field(0.75, gt=0, le=1)  # the power of a companion's frequency, in favour of frequent ones
    negatives: float = Field(1.0, ge=1)  # k: log k is what information must be above


def begin_with_word_vectors(
    embedding: nn.Embedding, vocabulary: Vocabulary, sentences: Iterable[str], recipe: WordVectorRecipe
) -> None:
    """Replace the vectors in `embedding` (V, E) of all words that `sentences` use; the rest stay as they are."""
    tokens = (vocabulary.encode(sentence) for sentence in sentences)
    information = mutual_information(cooccurrence(tokens, len(vocabulary), recipe.window), recipe)
    vectors = reduced(information, embedding.embedding_dim)
    known = np.flatnonzero(vectors.any(axis=1))
    # As large as chance would have made them: a vector's length is 1.
    vectors *= np.sqrt(len(known) / np.square(vectors).sum())
    with torch.no_grad():
        embedding.weight[torch.from_numpy(known)] = torch.from_numpy(vectors[known]).to(embedding.weight)


def cooccurrence(sentences: Iterable[Sequence[int]], words: int, window: int) -> csr_array:
    """How often words are near each other (V, V): those d apart count for (window + 1 - d) / window; <unk> never."""
    lines = [np.array([*tokens, *[UNKNOWN] * window]) for tokens in sentences]  # a gap, so that none meets the next
    said = np.concatenate([np.zeros(0, int), *lines])
    counts = csr_array((words, words))
    for distance in range(1, window + 1):
        pairs = said[:-distance], said[distance:]
        known = (pairs[0] != UNKNOWN) & (pairs[1] != UNKNOWN)
        weight = np.full(int(known.sum()), (window + 1 - distance) / window)
        counts = counts + coo_array((weight, (pairs[0][known], pairs[1][known])), shape=(words, words)).tocsr()
    return csr_array(counts + counts.T)


def mutual_information(counts: csr_array, recipe: WordVectorRecipe) -> csr_array:
    """max(0, log P(w, c) / (P(w) P(c)) - log k), where c's frequency is smoothed."""
    of_word = counts.sum(axis=1)
    smoothed = of_word**recipe.smoothing
    found = counts.tocoo()
    expected = of_word[found.row] * smoothed[found.col] / smoothed.sum()
    information = np.maximum(0, np.log(found.data / expected) - np.log(recipe.negatives))
    return coo_array((information, (found.row, found.col)), shape=counts.shape).tocsr()


def reduced(information: csr_array, size: int) -> npt.NDArray[np.float64]:
    """The rows of `information` (V, V) in `size` dimensions (V, size): the left singular vectors, by the square root
    of their values. Words of which nothing is known get zeros, and so does a dimension that there is none for."""
    most = min(size, information.shape[0] - 1)
    left, values, _ = svds(information, k=most, v0=np.ones(information.shape[0]))
    vectors = np.zeros((information.shape[0], size))
    vectors[:, :most] = left @ diags_array(np.sqrt(values))
    vectors[information.sum(axis=1) == 0] = 0
    return vectors
