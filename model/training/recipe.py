"""A recipe: what decides how a training run goes, as a TOML file. On one machine, equal recipes give equal weights."""

import tomllib
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from model.attributes import AttributesConfig
from model.captioner import CaptionerConfig
from model.decoder import DecoderConfig
from model.training.detection import DetectionRecipe
from model.training.pretraining import PretrainingRecipe
from model.training.text import TextRecipe
from model.training.word_vectors import WordVectorRecipe

RECIPES = Path(__file__).parent / "recipes"


class RecipeUnusable(Exception):
    """There is no such recipe, or it says something that no recipe can. The message is one line."""


class SelfCriticalRecipe(BaseModel):
    """Settings of self-critical sequence training (self_critical.py)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    samples: int = Field(5, ge=2)  # captions drawn for each image
    # They are drawn at. Below 1 they are nearer to what beam search compares, and whole captions differ by less luck.
    temperature: float = Field(1.0, gt=0)
    # What a sample's reward is measured against: the mean of the image's other samples, which costs nothing (Luo, "A
    # Better Variant of Self-Critical Sequence Training", 2020), or the greedy caption's reward (Rennie et al., 2017).
    baseline: Literal["others", "greedy"] = "others"
    weight: float = Field(0.8, ge=0, le=1)  # the rest is maximum likelihood, without which captions end in "with a"
    count_end: bool = True  # whether <end> is a word to the reward, without which they do so too


class DistillationRecipe(BaseModel):
    """Settings of learning from other captioners (distillation.py)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    teachers: list[str] = Field(min_length=1)  # named as `start_from` is
    weight: float = Field(0.5, ge=0, le=1)  # the rest is maximum likelihood


class Recipe(BaseModel):
    """See recipes/*.toml for what each setting does in practice; fields not given keep these values."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    captioner: CaptionerConfig = CaptionerConfig()
    seed: int = 1
    # A captioner to go on from: a folder that holds one, a run's folder, or the name of a run beside this one. Its
    # vocabulary is kept. None: the encoder is as ImageNet left it, the decoder new.
    start_from: str | None = None
    # A captioner whose encoder to take, named likewise; the rest is new.
    encoder_from: str | None = None
    # Whose captions the captioner writes unless it is asked for others: the name of one of several data folders.
    # Captions of the others begin with a token for their style. None, or no folder of that name: all are alike.
    default_style: str | None = None
    min_word_count: int = Field(5, ge=1)
    max_words: int = Field(22, ge=1)  # longer training captions are cut, whatever the tokens are
    # The encoder. 0: frozen; n: its last n stages are trained too, unless their learning rate is 0.
    tail_stages: int = Field(0, ge=0)
    # How many versions of each training image the run sees: as it is, its mirror image, then random crops.
    views: int = Field(2, ge=1)
    # Text that a new decoder learns from before all else: word vectors for its embedding to begin with, and to write.
    word_vectors: WordVectorRecipe | None = None
    pretraining: PretrainingRecipe | None = None
    # What is made smaller: without the tables [distillation] and [self_critical], maximum likelihood alone.
    distillation: DistillationRecipe | None = None
    self_critical: SelfCriticalRecipe | None = None
    # The share of inputs that are the decoder's own words, in the last epoch; 0: teacher forcing.
    scheduled_sampling: float = Field(0.0, ge=0, le=1)
    # How a word detector is trained, before all else, where the decoder has one: attributes, or adaptive attention.
    detection: DetectionRecipe = DetectionRecipe()
    # Of the decoder with adaptive attention: text to learn from, as well as from captions of pictures; the weight of
    # looking where a word is seen; and the share of images of which it is told only which words are seen.
    text: TextRecipe | None = None
    guidance: float = Field(0.2, ge=0)
    unseen: float = Field(0.3, ge=0, le=1)
    # Optimisation.
    epochs: int = Field(20, ge=1)
    images_per_step: int = Field(32, ge=1)  # each with all its captions; over all processes
    accumulate: int = Field(1, ge=1)  # in how many parts one after the other a process computes its share of a step
    learning_rate: float = Field(5e-4, gt=0)
    tail_learning_rate: float = Field(5e-5, ge=0)
    warmup_steps: int = Field(100, ge=0)
    weight_decay: float = Field(0.01, ge=0)
    gradient_norm: float = Field(1.0, gt=0)
    label_smoothing: float = Field(0.1, ge=0, lt=1)
    doubly_stochastic: float = Field(0.1, ge=0)  # weight of Show, Attend and Tell's eq. 14 term
    ema: float = Field(0.999, ge=0, lt=1)  # decay of the averaged weights, which are the ones validated and shipped
    bfloat16: bool = True
    # Stopping: epochs without a better CIDEr on `val` before the run ends.
    patience: int = Field(4, ge=1)
    checkpoint_steps: int = Field(100, ge=1)

    @model_validator(mode="after")
    def _words_are_rewarded(self) -> Self:
        if self.self_critical is not None and self.captioner.tokens != "word":
            raise ValueError("self-critical training rewards words: a captioner of characters cannot have it")
        return self

    @model_validator(mode="after")
    def _the_decoder_can_have_it(self) -> Self:
        recurrent = isinstance(self.captioner.decoder, DecoderConfig)
        if (self.word_vectors or self.pretraining) and (self.start_from or not recurrent):
            raise ValueError("word_vectors and pretraining are for a new decoder, and not for the adaptive one")
        if self.word_vectors and self.captioner.tokens != "word":
            raise ValueError("word_vectors are of words: a captioner of characters cannot have them")
        if self.distillation and (self.tail_stages or not recurrent):
            raise ValueError("distillation is for a frozen encoder (tail_stages = 0), and not for the adaptive decoder")
        if self.attributes and (self.start_from or self.tail_stages):
            raise ValueError("attributes are for a new decoder, and for a frozen encoder (tail_stages = 0)")
        return self

    @property
    def attributes(self) -> AttributesConfig | None:
        """The words found in a picture that the decoder attends to, if it does."""
        decoder = self.captioner.decoder
        return decoder.attributes if isinstance(decoder, DecoderConfig) else None

    @classmethod
    def load(cls, name: str) -> "Recipe":
        """Read the recipe `name`: a path to a TOML file, or the name of one of ours, such as "family/lstm".

        A file may say that it `extends` another recipe, by its name: it then holds only what is different. Raises
        RecipeUnusable.
        """
        path = Path(name) if name.endswith(".toml") else RECIPES / f"{name}.toml"
        try:
            return cls.model_validate(_settings(path))
        except ValidationError as error:
            first = error.errors()[0]
            raise RecipeUnusable(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def _settings(path: Path) -> dict[str, Any]:
    """What the file at `path`, and the one of our recipes that it extends, say."""
    try:
        settings = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        ours = ", ".join(sorted(str(recipe.relative_to(RECIPES).with_suffix("")) for recipe in RECIPES.rglob("*.toml")))
        raise RecipeUnusable(f"no recipe {path}: {error.strerror} (ours: {ours})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeUnusable(f"{path}: {error}") from error
    if "extends" not in settings:
        return settings
    return _merged(_settings(RECIPES / f"{settings.pop('extends')}.toml"), settings)


def _merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`base` with `changes`, table by table."""
    tables = {
        name: _merged(base[name], change)
        for name, change in changes.items()
        if isinstance(change, dict) and isinstance(base.get(name), dict)
    }
    return base | changes | tables
