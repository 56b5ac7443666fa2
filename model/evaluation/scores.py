"""Scores of captions against people's, by pycocoevalcap: BLEU, METEOR, ROUGE-L, CIDEr; fractions, but CIDEr may pass 1.

In: captions and references by image; out: numbers. It must not know of models.
"""

import shutil

from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.meteor.meteor import Meteor
from pycocoevalcap.rouge.rouge import Rouge
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

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


def quick_cider(captions: dict[str, str], references: dict[str, list[str]]) -> float:
    """CIDEr-D on our own tokens: close to the published kind and cheap, for choosing between epochs. Needs no Java."""
    hypotheses = {name: [" ".join(split_words(caption))] for name, caption in captions.items()}
    truths = {name: [" ".join(split_words(text)) for text in references[name]] for name in captions}
    return float(Cider().compute_score(truths, hypotheses)[0])


def coco_scores(captions: dict[str, str], references: dict[str, list[str]]) -> dict[str, float]:
    """All scores, as coco-caption computes them: PTB tokeniser, METEOR 1.5, CIDEr-D. Raises JavaMissing."""
    require_java()
    tokenizer = PTBTokenizer()
    hypotheses = tokenizer.tokenize({name: [{"caption": text}] for name, text in captions.items()})
    truths = tokenizer.tokenize({name: [{"caption": text} for text in references[name]] for name in captions})
    bleu, _ = Bleu(4).compute_score(truths, hypotheses, verbose=0)
    return {
        **{f"bleu{n}": float(score) for n, score in enumerate(bleu, start=1)},
        "meteor": _meteor(truths, hypotheses),
        "rouge_l": float(Rouge().compute_score(truths, hypotheses)[0]),
        "cider": float(Cider().compute_score(truths, hypotheses)[0]),
    }


def _meteor(truths: dict[str, list[str]], hypotheses: dict[str, list[str]]) -> float:
    meteor = Meteor()
    with meteor.meteor_p:  # closes the pipes to Java, which the wrapper leaves open
        return float(meteor.compute_score(truths, hypotheses)[0])
