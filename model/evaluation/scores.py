"""Scores of captions against people's, by pycocoevalcap: BLEU, METEOR, ROUGE-L, CIDEr; fractions, but CIDEr may pass 1.

In: captions and references by image; out: numbers. It must not know of models.
"""

import shutil
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.meteor.meteor import Meteor
from pycocoevalcap.rouge.rouge import Rouge
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer
from scipy.stats import bootstrap

from model.vocabulary import split_words


class JavaMissing(Exception):
    """The PTB tokeniser and METEOR are Java programs, and there is no `java` on this machine."""

    def __init__(self) -> None:
        super().__init__(
            "no `java` found: the PTB tokeniser and METEOR, which comparable scores need, are Java programs "
            "(Debian: apt-get install default-jre-headless)"
        )


def require_java() -> None:
    """Raises JavaMissing, if so: better before the work than after it."""
    if shutil.which("java") is None:
        raise JavaMissing


def quick_cider(captions: Mapping[str, str], references: Mapping[str, Sequence[str]]) -> float:
    """CIDEr-D on our own tokens: close to the published kind and cheap, for choosing between epochs. Needs no Java."""
    return float(quick_ciders(captions, references).mean())


def quick_ciders(captions: Mapping[str, str], references: Mapping[str, Sequence[str]]) -> npt.NDArray[np.float64]:
    """The same, of each image, in the order of `captions`."""
    hypotheses = {name: [" ".join(split_words(caption))] for name, caption in captions.items()}
    truths = {name: [" ".join(split_words(text)) for text in references[name]] for name in captions}
    return np.asarray(Cider().compute_score(truths, hypotheses)[1], dtype=float)


def coco_scores(captions: dict[str, str], references: dict[str, list[str]]) -> dict[str, float]:
    """All scores, as coco-caption computes them: PTB tokeniser, METEOR 1.5, CIDEr-D. Raises JavaMissing.

    `cider_low` and `cider_high` bound the 95 % bootstrap interval of CIDEr over images.
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
    """The CIDEr-D of `coco_scores`, of each image, in the order of `captions`. Raises JavaMissing."""
    return np.asarray(Cider().compute_score(*_tokenized(captions, references))[1], dtype=float)


def bootstrap_interval(scores: npt.NDArray[np.float64], resamples: int = 1000, seed: int = 0) -> tuple[float, float]:
    """The 95 % percentile interval of the mean of `scores`, one an image, over images drawn anew."""
    if len(scores) < 2:
        return float(scores[0]), float(scores[0])
    rng = np.random.default_rng(seed)
    found = bootstrap((scores,), np.mean, n_resamples=resamples, method="percentile", rng=rng).confidence_interval
    return float(found.low), float(found.high)


def _tokenized(
    captions: dict[str, str], references: dict[str, list[str]]
) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """References and captions as the PTB tokeniser has them. Raises JavaMissing."""
    require_java()
    tokenizer = PTBTokenizer()
    hypotheses = tokenizer.tokenize({name: [{"caption": text}] for name, text in captions.items()})
    truths = tokenizer.tokenize({name: [{"caption": text} for text in references[name]] for name in captions})
    return truths, hypotheses


def _meteor(truths: dict[str, list[str]], hypotheses: dict[str, list[str]]) -> float:
    meteor = Meteor()
    with meteor.meteor_p:  # closes the pipes to Java, which the wrapper leaves open
        return float(meteor.compute_score(truths, hypotheses)[0])
