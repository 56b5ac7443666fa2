"""A recipe: a TOML file with the settings of a training run. On one machine, equal recipes give equal weights."""

import tomllib
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from model.runtime.captioner import CaptionerConfig
from model.training.detection import DetectionRecipe
from model.training.text import TextRecipe

RECIPES = Path(__file__).parent / "recipes"


class RecipeUnusable(Exception):
    """The recipe does not exist, or a setting is invalid. The message is one line."""


class SelfCriticalRecipe(BaseModel):
    """Settings of self-critical sequence training (self_critical.py)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    samples: int = Field(5, ge=2)  # captions that are sampled for each image
    # Of sampling. Results depend strongly on it: below 1, samples are closer to what beam search compares, and their
    # rewards vary less by chance.
    temperature: float = Field(1.0, gt=0)
    # The baseline of a sample's reward: the mean reward of the image's other samples, which costs nothing (Luo, "A
    # Better Variant of Self-Critical Sequence Training", 2020), or the greedy caption's reward (Rennie et al., 2017).
    baseline: Literal["others", "greedy"] = "others"
    # The rest is maximum likelihood. Without it captions end in "with a".
    weight: float = Field(0.8, ge=0, le=1)
    # Whether the reward counts <end> as a word. Otherwise captions end in "with a", too.
    count_end: bool = True


class Recipe(BaseModel):
    """The settings of a run and their defaults. recipes/*.toml shows them in use."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    captioner: CaptionerConfig = CaptionerConfig()
    seed: int = 1
    # A captioner to start from: its folder, a run's folder, or the name of a run beside this one. Its vocabulary is
    # kept. None: the encoder has ImageNet's weights, and the decoder is new.
    start_from: str | None = None
    # A captioner whose encoder to use, named in the same way. The rest is new.
    encoder_from: str | None = None
    # The data folder, by name, whose style of captions is the default. Captions of the other folders start with a token
    # for their style. None: there is one style.
    default_style: str | None = None
    min_word_count: int = Field(5, ge=1)
    max_words: int = Field(22, ge=1)  # longer training captions are cut, also where tokens are characters
    # The encoder. 0: frozen. n: its last n stages are trained too, unless their learning rate is 0.
    tail_stages: int = Field(0, ge=0)
    # The number of views of each training image: the image, its mirror image, then random crops.
    views: int = Field(2, ge=1)
    # The objective: maximum likelihood, or self-critical training with the table [self_critical].
    self_critical: SelfCriticalRecipe | None = None
    # Training of the word detector, before the decoder with adaptive attention.
    detection: DetectionRecipe = DetectionRecipe()
    # For the decoder with adaptive attention: text to learn from besides captions of images, the weight of guided
    # attention, and the share of images that are hidden from the decoder, so that it gets the detected words alone.
    text: TextRecipe | None = None
    guidance: float = Field(0.2, ge=0)
    unseen: float = Field(0.3, ge=0, le=1)
    # Optimisation.
    epochs: int = Field(20, ge=1)
    images_per_step: int = Field(32, ge=1)  # each with all its captions; over all processes
    accumulate: int = Field(1, ge=1)  # parts of a step that a process computes one after the other
    learning_rate: float = Field(5e-4, gt=0)
    tail_learning_rate: float = Field(5e-5, ge=0)
    warmup_steps: int = Field(100, ge=0)
    weight_decay: float = Field(0.01, ge=0)
    gradient_norm: float = Field(1.0, gt=0)
    label_smoothing: float = Field(0.1, ge=0, lt=1)
    doubly_stochastic: float = Field(0.1, ge=0)  # weight of Show, Attend and Tell's eq. 14 term
    ema: float = Field(0.999, ge=0, lt=1)  # decay of the averaged weights, which are validated and saved
    bfloat16: bool = True
    # Stopping: the run ends after so many epochs without a better CIDEr on `val`.
    patience: int = Field(4, ge=1)
    checkpoint_steps: int = Field(100, ge=1)

    @model_validator(mode="after")
    def _self_critical_needs_words(self) -> Self:
        if self.self_critical is not None and self.captioner.tokens != "word":
            raise ValueError("self-critical training rewards words: a captioner of characters cannot use it")
        return self

    @classmethod
    def load(cls, name: str) -> "Recipe":
        """Load a recipe: a path to a TOML file, or the name of one of ours, such as "family/lstm".

        A file that `extends` another recipe, by name, contains only the differences. Raises RecipeUnusable.
        """
        path = Path(name) if name.endswith(".toml") else RECIPES / f"{name}.toml"
        try:
            return cls.model_validate(_settings(path))
        except ValidationError as error:
            first = error.errors()[0]
            raise RecipeUnusable(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def _settings(path: Path) -> dict[str, Any]:
    """Read the settings of a file and of the recipe that it extends."""
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
    """Merge `changes` into `base`, table by table."""
    tables = {
        name: _merged(base[name], change)
        for name, change in changes.items()
        if isinstance(change, dict) and isinstance(base.get(name), dict)
    }
    return base | changes | tables
