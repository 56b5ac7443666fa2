"""Decoding options, checked.

Options are hashable: jobs with equal options are decoded in one batch. Settings that differ between the images of a
batch, such as seeds, are not options.
"""

import math
from dataclasses import dataclass
from enum import StrEnum

# More beams find worse sentences (the beam search curse: Cohen and Beck, 2019) and need more memory.
MOST_BEAMS = 20


class Strategy(StrEnum):
    """How the next words are chosen."""

    BEAM = "beam"
    GREEDY = "greedy"
    SAMPLE = "sample"
    DIVERSE = "diverse"
    CONSENSUS = "consensus"


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodingOptions:
    """Options of a decoding strategy. Raises ValueError, which names the field, for invalid values.

    beam: the best `num_captions` of `beam_size` beams. greedy: the most probable word at every step; one caption.
    diverse: one caption from each of `num_captions` groups of beams, which share `beam_size` evenly; `diversity` is the
    price, in log-probability, of a word that an earlier group has chosen in the same step. consensus: of `beam_size`
    beams, the `num_captions` that agree best with all of them (model/decoding/consensus.py). sample: `num_captions`
    random sentences; applies `temperature`, then keeps the `top_k` most probable words, then the most probable words
    that make up `top_p` of the probability. All options are checked, even if the strategy does not use them.
    """

    strategy: Strategy = Strategy.BEAM
    num_captions: int = 1
    beam_size: int = 3
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    # Words to generate after the prefix.
    max_words: int = 20
    # Every sentence starts with the words of this text.
    prefix: str = ""
    # How many words in a row may occur twice; None: no limit. 1 is best on `val`.
    repeatable: int | None = 1
    diversity: float = 0.5
    # The data set whose captions set the style; the captioner must have been trained on it. None: its default style.
    style: str | None = None

    def __post_init__(self) -> None:
        if self.strategy not in list(Strategy):
            raise ValueError(f"strategy must be one of {', '.join(Strategy)}")
        if not 1 <= self.beam_size <= MOST_BEAMS:
            raise ValueError(f"beam_size must be between 1 and {MOST_BEAMS}")
        self._check_num_captions()
        if not 0 < self.temperature < math.inf:
            raise ValueError("temperature must be positive")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError("top_k must be positive")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError("top_p must be above 0 and at most 1")
        if self.max_words < 1:
            raise ValueError("max_words must be positive")
        if self.repeatable is not None and self.repeatable < 1:
            raise ValueError("repeatable must be positive")
        if not 0 <= self.diversity < math.inf:
            raise ValueError("diversity must not be negative")

    def _check_num_captions(self) -> None:
        if self.strategy == Strategy.GREEDY:
            if self.num_captions != 1:
                raise ValueError("num_captions must be 1 when strategy is greedy")
        elif self.strategy == Strategy.SAMPLE:
            if not 1 <= self.num_captions <= MOST_BEAMS:
                raise ValueError(f"num_captions must be between 1 and {MOST_BEAMS}")
        elif not 1 <= self.num_captions <= self.beam_size:
            raise ValueError("num_captions must be between 1 and beam_size")
        elif self.strategy == Strategy.DIVERSE and self.beam_size % self.num_captions:
            raise ValueError("num_captions must divide beam_size when strategy is diverse")
