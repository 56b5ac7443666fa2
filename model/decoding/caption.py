"""The captioner's result for one image: a sentence, its words, and two maps of the picture for each word.

Plain data without tensors. This is all that leaves `model/`.
"""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class WordMap:
    """A map of one word over the whole upright picture.

    `weights` holds rows x cols non-negative numbers in row-major order that sum to 1. Cell (r, c) covers the picture
    from r/rows to (r+1)/rows of its height and from c/cols to (c+1)/cols of its width.
    """

    rows: int
    cols: int
    weights: list[float]


@dataclass(frozen=True, slots=True)
class Word:
    """One word, the natural logarithm of its probability given the words before it, and its two maps.

    `attention` holds the decoder's own weights over the places of the picture. `heatmap` is the evidence map that is
    drawn and that pointing is measured on: attention times what the word detector sees of the word in each place,
    smoothed (AdaptiveEncodedImages.credit). Without a detector, or for a word that it does not know, both are the same.

    `visual_grounding` is the share of attention that goes to the picture: 1 - beta of adaptive attention (Lu et al.,
    2017, "Knowing When to Look"), and 1 for decoders that attend to nothing else. `in_vocabulary` is false for a word
    that a caller gave and that the decoder reads as <unk>.
    """

    text: str
    logprob: float
    attention: WordMap
    heatmap: WordMap
    visual_grounding: float = 1.0
    in_vocabulary: bool = True


@dataclass(frozen=True, slots=True)
class Caption:
    """A sentence. Its `logprob` is the sum over its words and the decision to end there (unless cut at the limit).

    Log-probabilities are those of the decoder itself, however the words were chosen: no temperature, no penalty, and
    nothing forbidden. `confidence` is the probability that it is right (confidence.py), and `confident` whether
    that reaches the captioner's threshold; both are None for a captioner that is not calibrated.
    """

    text: str
    logprob: float
    words: list[Word]
    confidence: float | None = None
    confident: bool | None = None

    def as_dict(self) -> dict[str, Any]:
        """The caption as plain JSON data."""
        return asdict(self)
