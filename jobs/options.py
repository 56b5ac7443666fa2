"""The options of a job: how to caption a picture, or which caption to score.

`app` validates them, the queue stores them, the worker applies them. Every default is filled in, so that a stored job
is complete.
"""

import re
import secrets
from enum import StrEnum
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationInfo, field_validator

MOST_CAPTIONS = 20
CONSENSUS_BEAMS = 20  # by default: the best of 3, 5, 10 and 20 on `val`
_HAS_A_WORD = re.compile(r"[^\W_]")
# The same in the syntax of JSON Schema, for the documentation.
_WORD = r"[\p{L}\p{N}]"
_SEED_BITS = 32

Value = TypeVar("Value")


class Strategy(StrEnum):
    """How the words of a caption are chosen."""

    BEAM = "beam"
    GREEDY = "greedy"
    SAMPLE = "sample"
    DIVERSE = "diverse"
    CONSENSUS = "consensus"

    @property
    def searches(self) -> bool:
        """Whether the strategy keeps several sentences at once. The others decide word by word."""
        return self in (Strategy.BEAM, Strategy.DIVERSE, Strategy.CONSENSUS)


class AttentionMaps(StrEnum):
    """Which maps of each word the answer has."""

    NONE = "none"
    HEATMAP = "heatmap"
    BOTH = "both"


class _Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    attention: AttentionMaps = Field(
        AttentionMaps.HEATMAP,
        description="maps of each word: `heatmap` is what is drawn, `both` adds the decoder's own attention weights, "
        "`none` leaves both out",
    )
    expires_in: int | None = Field(
        None, ge=1, description="seconds after which a job that has not begun expires; the service's limit by default"
    )


class CaptionOptions(_Options):
    """How to caption a picture."""

    kind: Literal["caption"] = "caption"
    strategy: Strategy = Field(
        Strategy.BEAM,
        description="`beam`: the most probable sentences; `diverse`: beam search in groups that avoid each other's "
        "words; `consensus`: of many probable sentences those that agree most with all of them; `greedy`: the most "
        "probable word each time; `sample`: words drawn by their probability",
    )
    num_captions: int = Field(1, ge=1, le=MOST_CAPTIONS, description="how many captions to return")
    beam_size: int = Field(
        default=None,
        validate_default=True,
        ge=1,
        le=MOST_CAPTIONS,
        description="sentences kept at each step, for `beam`, `diverse` and `consensus`: at least `num_captions`, and "
        "for `diverse` a multiple of it; 3 or `num_captions` by default, for `consensus` 20",
    )
    temperature: float = Field(1.0, ge=0.05, le=10, description="`sample`: below 1 prefers probable words")
    top_k: int | None = Field(None, ge=1, le=100_000, description="`sample`: only among the k most probable words")
    top_p: float | None = Field(
        None, gt=0, le=1, description="`sample`: only among the most probable words that together have probability p"
    )
    seed: int | None = Field(
        None,
        validate_default=True,
        ge=0,
        lt=2**_SEED_BITS,
        description="`sample`: the same seed gives the same captions; by default a random one, which the job shows",
    )
    max_words: int = Field(20, ge=1, le=100, description="largest number of words, not counting `prefix`")
    prefix: str = Field(
        "",
        max_length=300,
        description="the caption begins with these words",
        json_schema_extra={"pattern": rf"^\s*$|{_WORD}"},
    )

    @field_validator("num_captions")
    @classmethod
    def _one_sentence_when_greedy(cls, value: int, info: ValidationInfo) -> int:
        if info.data.get("strategy") is Strategy.GREEDY and value != 1:
            raise ValueError("must be 1 with strategy 'greedy'")
        return value

    @field_validator("beam_size", mode="before")
    @classmethod
    def _beams_of_the_strategy(cls, value: Any, info: ValidationInfo) -> Any:
        if value is not None:
            return value
        strategy, captions = info.data.get("strategy", Strategy.BEAM), info.data.get("num_captions", 1)
        by_default = {
            Strategy.BEAM: max(3, captions),
            Strategy.DIVERSE: captions if captions > 1 else 3,
            Strategy.CONSENSUS: CONSENSUS_BEAMS,
        }
        return by_default.get(strategy, 1)

    @field_validator("beam_size")
    @classmethod
    def _beams_for_all_captions(cls, value: int, info: ValidationInfo) -> int:
        strategy, captions = info.data.get("strategy"), info.data.get("num_captions", 1)
        if strategy is None:
            return value
        if not strategy.searches:
            if value != 1:
                raise ValueError(f"must be 1 with strategy {strategy.value!r}")
        elif value < captions:
            raise ValueError("must be at least num_captions")
        elif strategy is Strategy.DIVERSE and value % captions:
            raise ValueError("must be a multiple of num_captions with strategy 'diverse'")
        return value

    @field_validator("temperature", "top_k", "top_p", "seed", mode="before")
    @classmethod
    def _only_when_sampling(cls, value: Value, info: ValidationInfo) -> Value | int:
        strategy = info.data.get("strategy")
        if info.field_name == "seed" and value is None and strategy is Strategy.SAMPLE:
            return secrets.randbits(_SEED_BITS)
        if value is not None and strategy not in (None, Strategy.SAMPLE) and not _is_default(info.field_name, value):
            raise ValueError("needs strategy 'sample'")
        return value

    @field_validator("prefix")
    @classmethod
    def _prefix_has_words(cls, value: str) -> str:
        if value.strip() and not _HAS_A_WORD.search(value):
            raise ValueError("must contain a word")
        return value.strip()


class ScoreOptions(_Options):
    """Which caption to score: how probable it is, and where its words look."""

    kind: Literal["score"] = "score"
    caption: str = Field(
        max_length=1000, description="the caption to be scored", json_schema_extra={"minLength": 1, "pattern": _WORD}
    )

    @field_validator("caption")
    @classmethod
    def _caption_has_words(cls, value: str) -> str:
        if not _HAS_A_WORD.search(value):
            raise ValueError("must contain a word")
        return value.strip()


Options = Annotated[CaptionOptions | ScoreOptions, Field(discriminator="kind")]

_ADAPTER: TypeAdapter[CaptionOptions | ScoreOptions] = TypeAdapter(Options)


def read_options(text: str | bytes) -> CaptionOptions | ScoreOptions:
    """Read options from the JSON of `model_dump_json`. Raises ValueError."""
    return _ADAPTER.validate_json(text)


def _is_default(field: str | None, value: object) -> bool:
    # The JSON of `model_dump_json` names every field, and is read again.
    return field == "temperature" and value in (1, 1.0, "1", "1.0")
