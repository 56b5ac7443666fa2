"""Scores of captions: against people's (BLEU, METEOR, ROUGE-L and CIDEr, by pycocoevalcap), and their diversity.

All scores are fractions, but CIDEr can exceed 1.
"""

import shutil
from collections.abc import Collection, Iterable

import numpy as np
import numpy.typing as npt
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.meteor.meteor import Meteor
from pycocoevalcap.rouge.rouge import Rouge
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer
from scipy.stats import bootstrap

from model.text.function_words import DANGLING
from model.text.vocabulary import split_words


class JavaMissing(Exception):
    """There is no `java` on this machine. The PTB tokeniser and METEOR are Java programs."""

    def __init__(self) -> None:
        super().__init__(
            "no `java` found: the PTB tokeniser and METEOR, which comparable scores need, are Java programs "
            "(Debian: apt-get install default-jre-headless)"
        )


def require_java() -> None:
    """Raise JavaMissing if there is no Java. Call it before slow work."""
    if shutil.which("java") is None:
        raise JavaMissing


def coco_scores(captions: dict[str, str], references: dict[str, list[str]]) -> dict[str, float]:
    """Compute all scores as coco-caption does: PTB tokeniser, METEOR 1.5, CIDEr-D. Raises JavaMissing.

    `cider_low` and `cider_high` are the ends of the 95 % bootstrap interval of CIDEr over images.
    """
    truths, hypotheses = _tokenized(captions, references)
    bleu, _ = Bleu(4).compute_score(truths, hypotheses, verbose=0)
    cider, ciders = Cider().compute_score(truths, hypotheses)
    low, high = bootstrap_interval(ciders)
    return {
        **{f"bleu{n}": float(score) for n, score in enumerate(bleu, start=1)},
        "meteor": _meteor(truths, hypotheses),
        "rouge_l": float(Rouge().compute_score(truths, hypotheses)[0]),
        "cider": float(cider),
        "cider_low": low,
        "cider_high": high,
    }


def coco_ciders(captions: dict[str, str], references: dict[str, list[str]]) -> npt.NDArray[np.float64]:
    """Compute the CIDEr-D of `coco_scores` for each image, in the order of `captions`. Raises JavaMissing."""
    return np.asarray(Cider().compute_score(*_tokenized(captions, references))[1], dtype=float)


def bootstrap_interval(scores: npt.NDArray[np.float64], resamples: int = 1000, seed: int = 0) -> tuple[float, float]:
    """Compute the 95 % bootstrap percentile interval of the mean of `scores`, one per image."""
    if len(scores) < 2:
        return float(scores[0]), float(scores[0])
    rng = np.random.default_rng(seed)
    found = bootstrap((scores,), np.mean, n_resamples=resamples, method="percentile", rng=rng).confidence_interval
    return float(found.low), float(found.high)


def _tokenized(
    captions: dict[str, str], references: dict[str, list[str]]
) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Tokenise references and captions by the PTB tokeniser. Raises JavaMissing."""
    require_java()
    tokenizer = PTBTokenizer()
    hypotheses = tokenizer.tokenize({name: [{"caption": text}] for name, text in captions.items()})
    truths = tokenizer.tokenize({name: [{"caption": text} for text in references[name]] for name in captions})
    return truths, hypotheses


def _meteor(truths: dict[str, list[str]], hypotheses: dict[str, list[str]]) -> float:
    meteor = Meteor()
    with meteor.meteor_p:  # closes the pipes to Java, which the wrapper would leave open
        return float(meteor.compute_score(truths, hypotheses)[0])


def diversity(captions: Collection[str]) -> dict[str, float]:
    """Compute shares of distinct captions, 1-grams and 2-grams, of bad endings, and the number of words used.

    distinct-n is the share of distinct n-grams (Li et al., 2016). Bad endings, as in "a dog with a", are a known fault
    of captioners that were trained on CIDEr as the only reward.
    """
    sentences = [tuple(split_words(caption)) for caption in captions]
    return {
        "distinct_captions": len(set(sentences)) / len(sentences),
        "words_used": len({word for sentence in sentences for word in sentence}),
        "distinct_1": _distinct(sentences, 1),
        "distinct_2": _distinct(sentences, 2),
        "bad_endings": sum(ends_badly(sentence) for sentence in sentences) / len(sentences),
    }


def ends_badly(words: tuple[str, ...]) -> bool:
    """Return whether the sentence is empty, or its last word needs another word after it."""
    return not words or words[-1] in DANGLING


def _distinct(sentences: Iterable[tuple[str, ...]], n: int) -> float:
    ngrams = [sentence[i : i + n] for sentence in sentences for i in range(len(sentence) - n + 1)]
    return len(set(ngrams)) / len(ngrams) if ngrams else 0.0
