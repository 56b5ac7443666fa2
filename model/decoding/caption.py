"""The result of captioning an image: sentences, their words, and two maps for each word. Plain data without tensors."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class WordMap:
    """A map over the whole upright picture, for one word.

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
    drawn and that pointing is measured on: attention times the detector's probability of the word at each place,
    smoothed (AdaptiveEncodedImages.attribute). Without a detector, or for a word that the detector does not know, both
    are equal.

    `visual_grounding` is the share of attention that goes to the picture: 1 - beta of adaptive attention (Lu et al.,
    2017, "Knowing When to Look", section 2.3). It is 1 for decoders without a sentinel. `in_vocabulary` is false for a
    word given by the caller that the decoder reads as <unk>.
    """

    text: str
    logprob: float
    attention: WordMap
    heatmap: WordMap
    visual_grounding: float = 1.0
    in_vocabulary: bool = True


@dataclass(frozen=True, slots=True)
class Caption:
    """A sentence. `logprob` is the sum over its words and the decision to end, unless it was cut at the limit.

    Log-probabilities are those of the unrestricted decoder, whatever the strategy: without temperature, penalty or
    constraints. `confidence` is the probability that the caption is right (confidence.py), and `confident` says whether
    it reaches the captioner's threshold. Both are None for a captioner that is not calibrated.
    """

    text: str
    logprob: float
    words: list[Word]
    confidence: float | None = None
    confident: bool | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the caption as plain JSON data."""
        return asdict(self)
