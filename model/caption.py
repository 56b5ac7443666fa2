"""What the captioner says about one image: a sentence, its words, and where each of them looked.

Plain data, no tensors: this is what leaves `model/`. It must not know how it was computed or where it will be sent.
"""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Attention:
    """Where one word looked: a grid over the whole upright picture, stretched to the network's square input.

    Of a word that a word detector knows, where it looked and saw it (model/adaptive_memory.py, AdaptiveMemory.credit).
    `weights` holds rows x cols non-negative numbers in row-major order that sum to 1; cell (r, c) covers the picture
    from r/rows to (r+1)/rows of its height and from c/cols to (c+1)/cols of its width.
    """

    rows: int
    cols: int
    weights: list[float]


@dataclass(frozen=True, slots=True)
class Word:
    """One word, the natural logarithm of its probability given the words before it, and its attention.

    `looked` is the share of the attention that went to the picture, rather than to what had been said: little for a
    word such as "of". Decoders without that choice give it all to the picture. `known` is false for a word, given by
    somebody else, that is not in the vocabulary and was read as <unk>.
    """

    text: str
    logprob: float
    attention: Attention
    looked: float = 1.0
    known: bool = True


@dataclass(frozen=True, slots=True)
class Caption:
    """A sentence. Its `logprob` is the sum over its words and the decision to end there (unless cut at the limit).

    Log-probabilities are those of the decoder itself, however the words were chosen: no temperature, no penalty, and
    nothing forbidden. `confidence` is the probability that it is right (model/confidence.py), and `sure` whether that
    is enough; None where the captioner has not been calibrated.
    """

    text: str
    logprob: float
    words: list[Word]
    confidence: float | None = None
    sure: bool | None = None

    def as_dict(self) -> dict[str, Any]:
        """The caption as plain JSON data."""
        return asdict(self)
