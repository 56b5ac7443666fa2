"""How a sentence is to be looked for. In: what the user asked for; out: the same, checked.

Jobs with equal options can be decoded together, so these are hashable, and what differs between the images of one
batch, such as a seed, is not among them. It must not know how any strategy works.
"""

import math
from dataclasses import dataclass
from enum import StrEnum

# More beams find nothing better (they find worse: research calls it the beam search curse) and cost memory.
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
    """What to look for, and how. Raises ValueError, which names the field, for what makes no sense.

    beam: the best `num_captions` of `beam_size` beams. greedy: the likeliest word every time; one caption.
    diverse: one caption from each of `num_captions` groups of beams, which share `beam_size` evenly; `diversity` is
    what it costs a group, in log-probability, to say a word that an earlier group says at the same place.
    consensus: of `beam_size` beams, the `num_captions` that agree most with all of them (model/consensus.py).
    sample: `num_captions` sentences drawn at random, from `temperature`, then the `top_k` likeliest words, then the
    likeliest words that make up `top_p` of the probability. What a strategy does not use is checked all the same.
    """

    strategy: Strategy = Strategy.BEAM
    num_captions: int = 1
    beam_size: int = 3
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    # Words to write after the prefix.
    max_words: int = 20
    # The sentence starts with the words of this text, whatever the captioner thinks of them.
    prefix: str = ""
    # How many words in a row may be said twice; 1 was chosen on `val`, over 2 and over no limit.
    repeatable: int | None = 1
    diversity: float = 0.5
    # As whose captions it is to be written: the name of a data set that the captioner learnt from. None: the default's.
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
